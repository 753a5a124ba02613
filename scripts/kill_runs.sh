#!/usr/bin/env bash
# Kills a small training run at random moments and starts it again, until it has finished after KILLS kills. Then compares the
# weights, the moments and the losses of all steps with those of a run that was never killed, bit for bit.
#   scripts/kill_runs.sh KILLS [RANKS] [SAVE_STEPS] [SECONDS] [SEED]
# RANKS > 1: by mpirun. A kill then hits one rank or all. SECONDS: the longest time until a kill (0.25). A run that finishes
# before the last kill is compared and begun anew. Prints the goodput: the steps of the finished runs divided by all steps that
# were computed for them.
set -euo pipefail
kills=${1:?usage: scripts/kill_runs.sh KILLS [RANKS] [SAVE_STEPS] [SECONDS] [SEED]} ranks=${2:-1} save_steps=${3:-2}
longest=${4:-0.25} RANDOM=${5:-1}
here=$(cd "$(dirname "$0")/.." && pwd)
programs=${ECHOATT_PROGRAMS:-$here}
memory=/dev/shm
[[ -w $memory ]] || memory=$(dirname "$(mktemp -u)")
folder=$(mktemp -d -p "$memory" kill_runs.XXXXXX)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_odls_base_sigkill_timeout=0
start=()
((ranks == 1)) || start=(mpirun -n "$ranks" --bind-to none)

"$programs/make_story_corpus" --output "$folder/corpus" --documents 200 --seed 3 >/dev/null
"$programs/train_tokenizer" --data "$folder/corpus" --vocabulary-size 350 --output "$folder/tokenizer.model" >/dev/null
cat > "$folder/run.yaml" <<YAML
mode: pretrain
tokenizer: $folder/tokenizer.model
data: {path: $folder/corpus, sequence_length: 32, shuffle_tokens: 4096}
model: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 3, num_attention_heads: 2}
max_steps: ${STEPS:-100}
per_device_train_batch_size: 2
learning_rate: 3e-3
logging_steps: 1
save_steps: $save_steps
save_total_limit: 2
eval_rows: 8
device: cpu
threads: 1
YAML
train() { "${start[@]}" "$programs/train" "$folder/run.yaml" output_dir="$folder/$1" >"$folder/$1.out" 2>&1; }
last_step() { { cat "$folder/killed/trainer_log.jsonl" 2>/dev/null || true; } | sed -nE 's/.*"event":"train".*"step":([0-9]+).*/\1/p' | tail -1; }
losses() { sed -nE 's/.*("loss":[^,]*).*("step":[0-9]+).*/\2 \1/p' "$folder/$1/trainer_log.jsonl"; }
newest() { { ls "$folder/killed" 2>/dev/null || true; } | sed -nE 's/^checkpoint-([0-9]+)$/\1/p' | sort -n | tail -1; }
children_of() { pgrep -P "$1" || true; }
compare() {
  local newest
  newest=$(newest)
  for file in final/model.safetensors "checkpoint-$newest"/{model,optimizer}.safetensors; do
    cmp "$folder/whole/$file" "$folder/killed/$file" || { echo "different after $done_kills kills: $file"; exit 1; }
  done
  diff <(losses whole) <(losses killed) >/dev/null || { echo "different losses after $done_kills kills"; exit 1; }
  finished=$((finished + 1))
}

train whole || { cat "$folder/whole.out"; exit 1; }
done_kills=0 finished=0 computed=0 while_saving=0
while true; do
  from=$(newest)
  if ((done_kills < kills)); then
    train killed 2>/dev/null &
    job=$!
    sleep "$(awk -v r="$RANDOM" -v longest="$longest" 'BEGIN { print r / 32768 * longest }')"
    mapfile -t victims < <(children_of "$job")  # ./train, or mpirun
    if ((ranks > 1 && ${#victims[@]} > 0)); then mapfile -t victims < <(children_of "${victims[0]}"); fi
    if ((ranks > 1 && ${#victims[@]} > 1 && RANDOM % 2)); then victims=("${victims[RANDOM % ${#victims[@]}]}"); fi
    if ((${#victims[@]} > 0)); then kill -9 "${victims[@]}" 2>/dev/null || true; fi
    status=0
    wait "$job" 2>/dev/null || status=$?
  else
    status=0
    train killed || status=$?
  fi
  to=$(last_step)
  computed=$((computed + ${to:-0} - ${from:-0}))
  if ((status == 0)); then
    compare
    ((done_kills < kills)) || break
    rm -rf "$folder/killed"
  elif ((status == 137)) || grep -q 'exited on signal 9 (Killed)' "$folder/killed.out"; then  # mpirun's code may be another
    done_kills=$((done_kills + 1))
    if compgen -G "$folder/killed/*.tmp-*" >/dev/null; then while_saving=$((while_saving + 1)); fi
  else
    echo "the run ended by itself with $status after $done_kills kills:"
    cat "$folder/killed.out"
    exit 1
  fi
done
useful=$((finished * ${STEPS:-100}))
echo "$done_kills kills, $while_saving of them while a checkpoint was written; $finished runs finished, all equal to the run without kills"
echo "$computed steps computed for $useful: goodput $(awk -v u="$useful" -v c="$computed" 'BEGIN { printf "%.1f", 100 * u / c }') %"
