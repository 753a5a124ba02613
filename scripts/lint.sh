#!/usr/bin/env bash
# Checks what the compiler does not: who includes whom, file sizes, captures of backward functions, whitespace, paths of one machine.
# Prints file:line: message for everything found; exits 1 when there was something.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files --cached --others --exclude-standard | while read -r f; do [ -f "$f" ] && echo "$f"; done)
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -E '\.(h|cpp|cu|cuh)$')
mapfile -t headers < <(printf '%s\n' "${sources[@]}" | grep -E '\.(h|cuh)$')

findings=$({
  # ---- who may include whom: each folder also includes itself -------------------------------------------------------
  awk '
    BEGIN {
      allowed["base"] = ""
      allowed["report"] = allowed["hub"] = allowed["tokenizer"] = allowed["tensor"] = "base"
      allowed["config"] = "base tensor"
      allowed["weight_files"] = "base tensor"
      allowed["kernels"] = "base tensor"
      allowed["autograd"] = "base tensor kernels"
      allowed["nn"] = "base tensor weight_files kernels autograd"
      allowed["data"] = "base tensor tokenizer"
      allowed["analysis"] = "base report tensor weight_files kernels autograd nn tokenizer data"
      everything = "base report hub config tensor weight_files kernels autograd nn tokenizer data analysis training"
      allowed["training"] = everything
      allowed["tools"] = allowed["examples"] = allowed["benchmarks"] = allowed["tests"] = everything
    }
    /^#include "/ {
      split($0, quoted, "\"")
      if (split(quoted[2], target, "/") < 2) {
        print FILENAME ":" FNR ": include paths start at the repository root: \"" quoted[2] "\""
        next
      }
      split(FILENAME, here, "/")
      if (here[1] != target[1] && index(" " allowed[here[1]] " ", " " target[1] " ") == 0)
        print FILENAME ":" FNR ": " here[1] "/ must not include " target[1] "/"
    }
    # ---- CUDA, NCCL and MPI headers stay behind their seams ----------------------------------------------------------
    /^#include <(cuda|cublas|cooperative_groups|nccl)/ && FILENAME !~ /^(tensor\/cuda_|training\/nccl_|kernels\/.*\.cuh?$|tests\/emulation\/)/ {
      print FILENAME ":" FNR ": CUDA and NCCL headers belong to tensor/cuda_*, kernels/*.cu(h), training/nccl_* and tests/emulation"
    }
    /^#include <mpi\.h>/ && FILENAME !~ /^training\/mpi_/ { print FILENAME ":" FNR ": mpi.h belongs to training/mpi_*" }
    FNR == 451 { print FILENAME ":451: more than 450 lines: look for a second idea" }
    FNR == 161 && FILENAME ~ /^tools\// { print FILENAME ":161: a main of more than 160 lines: move the work into a library folder" }
    # ---- a backward function runs after the scope it was made in: it captures by value ------------------------------
    FNR == 1 { depth = 0 }
    {
      line = $0
      sub(/\/\/.*/, "", line)
      if (line ~ /\[&[],].*-> *Gradients/) reference = 1; else reference = 0
      if (depth == 0 && match(line, /(^|[^A-Za-z0-9_])record(_many)?\(/)) { depth = 1; line = substr(line, RSTART + RLENGTH) }
      if (depth > 0) {
        if (line ~ /\[&[],][^(]*\((const )?(Tensor|std::vector<Tensor>)&/) reference = 1
        opened = gsub(/\(/, "(", line); closed = gsub(/\)/, ")", line)
        depth += opened - closed
        if (depth < 0) depth = 0
      }
      if (reference) print FILENAME ":" FNR ": a backward function captures by reference; capture tensors by value"
    }
  ' "${sources[@]}"

  # ---- headers, whitespace, paths ------------------------------------------------------------------------------------
  grep -L '^#pragma once$' "${headers[@]}" | sed 's/$/:1: a header without #pragma once/' || true
  printf '%s\n' "${files[@]}" | grep -vE '(^|/)(Makefile|[a-z_]+\.mk)$' | xargs -d '\n' grep -InP '\t' | sed -E 's/^([^:]*:[0-9]+):.*/\1: a tab/' || true
  grep -InE '[[:space:]]+$' "${files[@]}" | sed -E 's/^([^:]*:[0-9]+):.*/\1: blanks at the end of the line/' || true
  printf '%s\n' "${files[@]}" | grep -vE '^tests/' | xargs -d '\n' grep -InE '(^|[^A-Za-z0-9_.$}])/(work|root|tmp)(/|$|[^A-Za-z0-9_-])' |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: a path of one machine/' || true
} | sort -t: -k1,1 -k2,2n)

if [ -n "$findings" ]; then
  echo "$findings"
  echo "lint: $(wc -l <<<"$findings") findings"
  exit 1
fi
echo "lint: ${#files[@]} files, nothing found"
