#!/usr/bin/env bash
# Compares kernels, training, distillation and generation on a GPU with PyTorch, in turns, and checks each target. It takes less
# than nine minutes on any GPU, because cases without time left are not measured.
#   benchmarks/run_gpu.sh [--python PYTHON] [--quick] [--device cpu --tiny] [--results FILE.json] [--document FILE.md]
# PYTHON: an interpreter with torch (default python3), and with transformers if that should also be compared. --quick: a subset
# in two minutes. --device cpu --tiny: every case at toy sizes. Other arguments go to compare_gpu.py. Appends a dated section to
# docs/benchmarks.md (or FILE.md), with --tiny only if FILE.md is given. Raw samples and a log go to
# build/gpu_results.{json,log}. All files are written during the run, so a killed run leaves its results so far. Works in a
# checkout and in a bundle.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=python3 document="$here/docs/benchmarks.md" chosen_document="" results="$here/build/gpu_results.json"
tiny="" arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --python) python=$2; shift ;;
    --document) chosen_document=$2; shift ;;
    --results) results=$2; shift ;;
    --tiny) tiny=1; arguments+=("$1") ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
[ -z "$tiny" ] || document=""
[ -z "$chosen_document" ] || document=$chosen_document

# ECHOATT_PROGRAMS selects another build. A bundle has its programs in bin.
programs=("${ECHOATT_PROGRAMS:+$ECHOATT_PROGRAMS/benchmarks/gpu_benchmark}" "$here"/bin/benchmarks/gpu_benchmark
          "$here"/build/release-cuda*/bin/benchmarks/gpu_benchmark "$here"/build/release-cpu*/bin/benchmarks/gpu_benchmark)
program=""
for candidate in "${programs[@]}"; do
  if [ -z "$program" ] && [ -n "$candidate" ] && [ -x "$candidate" ]; then program=$candidate; fi
done
[ -n "$program" ] || { echo "error: gpu_benchmark is not built; run: make benchmarks" >&2; exit 66; }

cublas=$("$here/scripts/find_cublas.sh" "$python")
[ -z "$cublas" ] || export LD_LIBRARY_PATH="$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

exec "$python" "$here/benchmarks/compare_gpu.py" --program "$program" --results "$results" \
  --command "benchmarks/run_gpu.sh${arguments[*]:+ ${arguments[*]}}" \
  ${document:+--document "$document"} "${arguments[@]}"
