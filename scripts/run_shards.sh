#!/usr/bin/env bash
# Runs the tests of a GoogleTest program in parallel processes, one per core, each with a share of the tests. Fails if one of them fails.
#   scripts/run_shards.sh PROGRAM [ARGUMENTS]
set -uo pipefail
export GTEST_TOTAL_SHARDS OMP_WAIT_POLICY=passive  # waiting threads leave the core to the other processes
GTEST_TOTAL_SHARDS=$(nproc)
processes=() status=0
for ((i = 0; i < GTEST_TOTAL_SHARDS; ++i)); do
  GTEST_SHARD_INDEX=$i "$@" &
  processes+=($!)
done
for process in "${processes[@]}"; do wait "$process" || status=$?; done
exit "$status"
