#!/usr/bin/env bash
# Compares training and distillation steps with PyTorch, in turns (A B C, A B C, ...), so that changes of the machine affect all.
#   benchmarks/run_cpu.sh PYTHON [ROUNDS] [SECONDS]     PYTHON: an interpreter that has torch (pip install torch)
# Prints one row per shape and step: median tokens/s of each over the rounds, and the ratio to the faster peer.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 rounds=${2:-5} seconds=${3:-4}
make --no-print-directory -s benchmarks
ours=$(ls -d build/release-*/bin/benchmarks/training_step | head -n 1)
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for round in $(seq "$rounds"); do
  for shape in small wide; do
    for step in train distill; do
      "$ours" --shape $shape --step $step --seconds "$seconds" >>"$results"
      "$python" benchmarks/peer_torch.py --shape $shape --step $step --seconds "$seconds" >>"$results"
      "$python" benchmarks/peer_torch.py --shape $shape --step $step --seconds "$seconds" --compile >>"$results"
    done
    followers=$([ $shape = small ] && echo 5 || echo 2)
    "$ours" --shape $shape --step distill --followers $followers --seconds "$seconds" >>"$results"
  done
  echo "round $round of $rounds done" >&2
done
"$python" - "$results" <<'PY'
import collections, json, statistics, sys
rates = collections.defaultdict(list)
for line in open(sys.argv[1]):
    r = json.loads(line)
    name = r["engine"] + (f" ({r['followers']} followers)" if r.get("followers") else "")
    rates[(r["shape"], r["step"], name)].append(r["tokens_per_second"])
for shape in ("small", "wide"):
    for step in ("train", "distill"):
        row = {n: statistics.median(v) for (s, t, n), v in rates.items() if (s, t) == (shape, step)}
        peer = max(v for n, v in row.items() if n.startswith("torch"))
        print(shape, step, "  ".join(f"{n} {v:.0f} ({v / peer:.2f}x)" for n, v in sorted(row.items())))
PY
