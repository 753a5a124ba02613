#!/usr/bin/env bash
# Packs the programs of a build and their libraries into one archive, for a machine without package manager or compiler. CUDA's libraries
# are not included, and neither are those of C and C++, because the versions of this machine may not work on the other one.
#   scripts/make_bundle.sh BUILD_FOLDER ARCHIVE.tar.xz
set -euo pipefail
cd "$(dirname "$0")/.."

build=$1 archive=$2
folder=$build/bundle/echoatt
rm -rf "$build/bundle"
mkdir -p "$folder/bin" "$folder/lib"

cp -R "$build/bin/." "$folder/bin/"
rm -f "$folder/bin/run_emulated_tests"
cp -R configs README.md "$folder/"
mkdir -p "$folder/scripts" "$folder/benchmarks"
cp scripts/demo.sh scripts/find_cublas.sh scripts/sanitize.sh "$folder/scripts/"
cp benchmarks/*.sh benchmarks/*.py "$folder/benchmarks/"
cp scripts/bundle.mk "$folder/Makefile"

find "$folder/bin" -type f -exec strip --strip-unneeded {} +
find "$folder/bin" -type f -exec ldd {} + | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libstdc\+\+|libgcc_s|libcuda|libcudart|libcublas[^/]*|libnccl)\.so' |
  while read -r library; do cp -L "$library" "$folder/lib/"; done
chmod u+w "$folder"/lib/*
strip --strip-unneeded "$folder"/lib/*
for program in "$folder"/bin/*; do
  if [ -f "$program" ]; then ln -s "bin/$(basename "$program")" "$folder/$(basename "$program")"; fi
done
rm -f "$folder/run_tests"

# One compression window over all programs, because they share most of their code.
tar -C "$build/bundle" -c echoatt | xz -T1 -9e --lzma2=preset=9e,dict=256MiB >"$archive.tmp"
mv "$archive.tmp" "$archive"
bytes=$(stat -c %s "$archive")
printf '%s: %.1f MiB (%s files)\n' "$archive" "$(echo "$bytes" | awk '{ print $1 / 1048576 }')" "$(find "$folder" -type f | wc -l)"
[ "$bytes" -le $((24 << 20)) ] || { echo "error: more than 24 MiB" >&2; exit 1; }
