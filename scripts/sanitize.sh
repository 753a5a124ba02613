#!/usr/bin/env bash
# Runs the GPU's tests under each tool of NVIDIA's compute-sanitizer, on a machine with a GPU: reads and writes outside of memory, races
# in shared memory, barriers that not all threads reach, reads of memory that nobody wrote.
#   scripts/sanitize.sh RUN_TESTS [FILTER]      COMPUTE_SANITIZER names the program where it is not found
# Models and runs are left out by default: their kernels are those of the other cases, at a hundred times the launches.
set -euo pipefail
tests=$1 filter=${2:-'*Cuda*:-*Golden*:*Trainer*:*Death*'}
sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
[ -x "$sanitizer" ] || { echo "error: $sanitizer: not found; it comes with the CUDA Toolkit" >&2; exit 66; }
failed=""
for tool in memcheck racecheck synccheck initcheck; do
  echo "== $tool"
  # Some tests ask for what must fail: that is no error of memory.
  options=(); [ "$tool" != memcheck ] || options=(--report-api-errors no)
  "$sanitizer" --tool "$tool" "${options[@]}" --error-exitcode 1 --print-limit 10 "$tests" --gtest_brief=1 --gtest_filter="$filter" || failed="$failed $tool"
done
[ -z "$failed" ] || { echo "error: not clean:$failed" >&2; exit 1; }
