#!/usr/bin/env bash
# Checks what the compiler does not check: format, includes between folders, circles of includes, lengths of files and
# functions, captures of backward functions, whitespace, paths of one machine. Prints file:line: message for every finding, and
# exits with 1 when there are findings.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files --cached --others --exclude-standard | while read -r f; do [ -f "$f" ] && echo "$f"; done)
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -E '\.(h|cpp|cu|cuh)$')
mapfile -t headers < <(printf '%s\n' "${sources[@]}" | grep -E '\.(h|cuh)$')

# Reads pairs "from to" and prints each circle that they form.
circles() {
  { tsort 2>&1 >/dev/null || true; } | awk '
    /loop:$/ { if (circle) print circle; circle = ""; next }
    { circle = circle ? circle ", " $2 : $2 ":1: a circle of includes: " $2 }
    END { if (circle) print circle }'
}

findings=$({
  # ---- who may include whom: each folder also includes itself -------------------------------------------------------
  awk '
    BEGIN {
      allowed["base"] = ""
      allowed["report"] = allowed["hub"] = allowed["tokenizer"] = allowed["tensor"] = "base"
      allowed["communication"] = "base tensor"
      allowed["config"] = "base tensor"
      allowed["weight_files"] = "base tensor"
      allowed["kernels"] = "base tensor"
      allowed["autograd"] = "base tensor kernels"
      allowed["nn"] = "base tensor weight_files kernels autograd"
      allowed["data"] = "base hub tensor tokenizer"
      allowed["evaluation"] = "base report tensor kernels autograd nn tokenizer data"
      allowed["analysis"] = "base report tensor weight_files kernels autograd nn tokenizer data"
      everything = "base report hub config tensor communication weight_files kernels autograd nn tokenizer data evaluation analysis training"
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
      if (here[1] == "tools" && target[1] == "training" && FILENAME != "tools/train.cpp")
        print FILENAME ":" FNR ": of the programs only ./train knows training/"
      # A .cuh of kernels/ is for its own folder, those of kernels/cuda/ are for all. Only decode/ may use the product of
      # matmul/.
      if (quoted[2] ~ /^kernels\/.*\.cuh$/ && FILENAME ~ /^kernels\// && target[2] != "cuda" && target[2] != here[2] &&
          !(here[2] == "decode" && quoted[2] == "kernels/matmul/few_rows_bf16.cuh"))
        print FILENAME ":" FNR ": " quoted[2] " belongs to another family; include kernels/cuda/ or a header of that family"
    }
    # ---- headers of CUDA, NCCL, MPI, libcurl and OpenSSL stay behind their seams ----------------------------------------------------------
    /^#include <(cuda|cublas|cooperative_groups|nccl)/ && FILENAME !~ /^(tensor\/cuda_|communication\/nccl_|kernels\/.*\.cuh?$|tests\/emulation\/)/ {
      print FILENAME ":" FNR ": CUDA and NCCL headers belong to tensor/cuda_*, kernels/*.cu(h), communication/nccl_* and tests/emulation"
    }
    /^#include <mpi\.h>/ && FILENAME !~ /^communication\/mpi_/ { print FILENAME ":" FNR ": mpi.h belongs to communication/mpi_*" }
    /^#include <(curl|openssl)\// && FILENAME !~ /^hub\// { print FILENAME ":" FNR ": headers of libcurl and OpenSSL belong to hub/" }
    FNR == 451 { print FILENAME ":451: more than 450 lines: look for a second idea" }
    length($0) > 128 { print FILENAME ":" FNR ": " length($0) " columns; at most 128" }
    FNR == 161 && FILENAME ~ /^tools\// { print FILENAME ":161: a main of more than 160 lines: move the work into a library folder" }
    # ---- functions of at most 70 lines: the format makes a definition end with a brace in the column where it began -------
    FNR == 1 { start = 0; inside = 0 }
    inside {
      if (substr($0, 1, column + 1) == substr("                ", 1, column) "}") {
        lines = FNR - start + 1
        if (lines > 70) print FILENAME ":" start ": " name " has " lines " lines; at most 70"
        inside = 0; start = 0
      }
    }
    !inside && !/^ *(#|\/\/|template|public:|private:|protected:|}|$)/ && !/\\$/ {  # no macros
      if (!start) { start = FNR; statement = ""; match($0, /^ */); column = RLENGTH }
      code = $0; sub(/ +\/\/ [^"]*$/, "", code)
      statement = statement " " code
      if (code ~ /{$/) {
        if (statement ~ /\(/ && statement !~ /^ *(namespace|extern) /) {
          inside = 1
          name = statement; gsub(/__launch_bounds__\([^)]*\)|std::string\(|decltype\([^)]*\)/, "", name); sub(/\(.*/, "", name); sub(/.*[ *&:]/, "", name)
        } else start = 0
      } else if (code ~ /[;}]$/) start = 0
    }
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

  # ---- no circles: x stands for x.h, x.cpp and x.cu; x includes y and y includes x, directly or through others -------------
  awk '
    /^#include "/ {
      split($0, quoted, "\"")
      from = FILENAME; to = quoted[2]
      sub(/\.[a-z]+$/, "", from); sub(/\.[a-z]+$/, "", to)
      if (from != to) edges[from " " to]
    }
    END { for (edge in edges) print edge }
  ' "${sources[@]}" | circles

  # ---- format ----------------------------------------------------------------------------------------------------------
  printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -n 40 clang-format --dry-run 2>&1 |
    sed -nE 's/^([^ :]+:[0-9]+):[0-9]+: warning: .*/\1: not in the format of .clang-format: run make format/p' | sort -u || true

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
