#!/usr/bin/env bash
# Runs the GPU tests with each tool of NVIDIA's compute-sanitizer, on a machine with a GPU. The tools find accesses outside of memory,
# races in shared memory, barriers that not all threads reach, and reads of memory that was never written.
#   scripts/sanitize.sh RUN_TESTS [FILTER]      set COMPUTE_SANITIZER if the program is not found
# Models and runs are omitted by default, because they run the same kernels with a hundred times the launches.
set -euo pipefail
tests=$1 filter=${2:-'*Cuda*:-*Golden*:*Trainer*:*Death*'}
sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
[ -x "$sanitizer" ] || { echo "error: $sanitizer: not found; it comes with the CUDA Toolkit" >&2; exit 66; }
failed=""
for tool in memcheck racecheck synccheck initcheck; do
  echo "== $tool"
  # Some tests make calls that must fail. These are not memory errors.
  options=(); [ "$tool" != memcheck ] || options=(--report-api-errors no)
  "$sanitizer" --tool "$tool" "${options[@]}" --error-exitcode 1 --print-limit 10 "$tests" --gtest_brief=1 --gtest_filter="$filter" || failed="$failed $tool"
done
[ -z "$failed" ] || { echo "error: not clean:$failed" >&2; exit 1; }
