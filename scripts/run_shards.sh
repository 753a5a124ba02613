#!/usr/bin/env bash
# Runs the tests of a GoogleTest program in as many processes at once as there are cores, each its share; fails when one of them does.
#   scripts/run_shards.sh PROGRAM [ARGUMENTS]
set -uo pipefail
export GTEST_TOTAL_SHARDS OMP_WAIT_POLICY=passive  # threads that wait leave the core to the other processes
GTEST_TOTAL_SHARDS=$(nproc)
processes=() status=0
for ((i = 0; i < GTEST_TOTAL_SHARDS; ++i)); do
  GTEST_SHARD_INDEX=$i "$@" &
  processes+=($!)
done
for process in "${processes[@]}"; do wait "$process" || status=$?; done
exit "$status"
