#!/usr/bin/env bash
# The whole method on a small model: corpus, tokenizer, teacher, analysis, student, comparison, text.
# Every step is a program with a config that you can run yourself. Each command is shown before it runs.
#   DEMO_SCALE=10 scripts/demo.sh     a tenth of the size
#   DEMO_FOLDER=DIR                   works there instead of in runs/demo (which is removed first)
set -euo pipefail
cd "$(dirname "$0")/.."

scale=${DEMO_SCALE:-1}
folder=${DEMO_FOLDER:-runs/demo}
programs=${ECHOATT_PROGRAMS:-.}
case $scale in '' | *[!0-9]* | 0) echo "error: DEMO_SCALE: $scale is not a whole number from 1; 10 makes a tenth" >&2; exit 64 ;; esac

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
# Shows a command as a user would type it, then runs it.
run() {
  local program=$1 argument; shift
  printf '$ ./%s' "$program"
  for argument in "$@"; do
    case $argument in *[!A-Za-z0-9_./=,:-]*) printf " '%s'" "$argument" ;; *) printf ' %s' "$argument" ;; esac
  done
  printf '\n'
  "$programs/$program" "$@"
}
# A number of steps divided by the scale, at least 4.
steps() { echo $(( $1 / scale > 4 ? $1 / scale : 4 )); }

started=$SECONDS
if [ -e "$folder" ] && [ ! -e "$folder/.demo" ]; then
  echo "error: $folder: was not made by this script; take another DEMO_FOLDER, or remove it" >&2; exit 64
fi
rm -rf "$folder"; mkdir -p "$folder"; touch "$folder/.demo"
corpus=$folder/corpus teacher=$folder/teacher student=$folder/student labels=$folder/labels
# The changes to the configs for another size or folder.
teacher_changes=() student_changes=() labels_changes=()
if [ "$scale" != 1 ]; then
  teacher_changes=(max_steps="$(steps 600)" warmup_steps=4 logging_steps=10)
  student_changes=(data.epoch_tokens=$((2048 * $(steps 160))) logging_steps=5 eval_steps=0)
  labels_changes=(max_steps=$(($(steps 160) + ($(steps 160) + 3) / 4)) logging_steps=5)
fi
if [ "$folder" != runs/demo ]; then
  teacher_changes+=(output_dir="$teacher" tokenizer="$folder/tokenizer.model" data.path="$corpus")
  student_changes+=(output_dir="$student" teacher.model_name_or_path="$teacher/final" data.path="$corpus"
    student.plan.analysis="$folder/analysis/analysis.json")
  labels_changes+=(output_dir="$labels" student.model_name_or_path="$teacher/final" data.path="$corpus")
fi

say "1  A corpus of small stories, made from a seed"
run make_story_corpus --output "$corpus" --documents $((4000 / scale < 400 ? 400 : 4000 / scale)) --seed 1

say "2  A tokenizer trained on it"
run train_tokenizer --data "$corpus" --vocabulary-size 512 --output "$folder/tokenizer.model" 2>"$folder/tokenizer.log" ||
  { status=$?; cat "$folder/tokenizer.log" >&2; exit $status; }

say "3  A teacher of 8 layers, trained from scratch"
run train configs/demo_teacher.yaml "${teacher_changes[@]}"

say "4  Which of its layers attend alike?"
run analyze --model "$teacher/final" --data "$corpus/validation" --samples $((64 / scale + 2)) --sequence-length 128 --output "$folder/analysis"

say "5  A student in which 3 of 8 layers share attention, distilled: stage 1 from the teacher, stage 2 on true labels"
run train configs/demo_student.yaml "${student_changes[@]}"

say "6  The same student trained on true labels only, for as many steps on the same batches"
leader_map=$(grep -A 20 '"leader_map"' "$student/final/config.json" | tr -d ' \n' | sed 's/.*"leader_map":\(\[[0-9,]*\]\).*/\1/')
run train configs/demo_labels.yaml student.leader_map="$leader_map" "${labels_changes[@]}"

say "7  All of them on held-out stories"
run compare_models --teacher "$teacher/final" --data "$corpus" --sequence-length 128 --before \
  --json "$folder/comparison.json" --svg "$folder/comparison.svg" \
  --names "after stage 1,after stage 2,true labels only" "$student/stage1" "$student/final" "$labels/final"

say "8  What they write (the most likely word, again and again)"
prompt="Once upon a time there was a"
run generate --model "$teacher/final" --prompt "$prompt" --max-new-tokens 80
run generate --model "$student/final" --prompt "$prompt" --max-new-tokens 80

say "Done in $((SECONDS - started)) s. Curves, plan and settings: $student/report.html; similarity of the layers: $folder/analysis/report.html"
cat <<END
Try next:
  ./generate --model $student/stage1 --prompt "Mia the baker had lost" --temperature 0.8 --seed 3
  ./train configs/demo_student.yaml output_dir=runs/demo_five student.plan.followers=5
  ./train configs/stories12L_kd.yaml --validate      # the real models: what is missing to run it?
END
