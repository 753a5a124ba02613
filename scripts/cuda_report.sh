#!/usr/bin/env bash
# Prints registers, shared memory and spills of every kernel, from the compiler's reports given as arguments. Spills are marked,
# because a hot kernel must have none.
set -euo pipefail
cat "$@" | awk '
  /Compiling entry function/ { match($0, /\047[^\047]*\047/); name = substr($0, RSTART + 1, RLENGTH - 2); arch = $0; sub(/.* for \047/, "", arch); sub(/\047.*/, "", arch) }
  /bytes stack frame/ { spills = $0; sub(/.*stack frame, /, "", spills); split(spills, words, " "); stored = words[1]; loaded = words[5] }
  /Used [0-9]+ registers/ {
    registers = $0; sub(/.*Used /, "", registers); sub(/ registers.*/, "", registers)
    shared = 0
    if (match($0, /[0-9]+ bytes smem/)) { shared = substr($0, RSTART, RLENGTH); sub(/ bytes smem/, "", shared) }
    printf "%s\t%s\t%s\t%s\t%s\n", name, arch, registers, shared, stored + loaded
  }' | c++filt -p | sed -E 's/echo::(kernels::)?cuda::([a-z0-9_]+::)*(\(anonymous namespace\)::|_GLOBAL__N__[^:]*::)//g; s/^void //; s/echo:://g; s/\((bool|int)\)//g' |
  sort |
  awk -F'\t' 'BEGIN { printf "%-78s %-6s %9s %8s %7s\n", "kernel", "GPU", "registers", "shared", "spills" }
    { printf "%-78s %-6s %9d %8d %7s\n", substr($1, 1, 78), $2, $3, $4, ($5 > 0 ? $5 " !" : "-"); total++; if ($5 > 0) spilling++ }
    END { printf "%d kernels, %d with spills; shared memory in bytes, without what a launch adds\n", total, spilling + 0 }'
