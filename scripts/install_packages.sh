#!/usr/bin/env bash
# Installs the Debian packages given as arguments that are missing, and first says which. Without root rights it prints the
# command to run.
set -euo pipefail
command -v dpkg-query >/dev/null || exit 0  # not Debian: the compiler will say what is missing
missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "Missing Debian packages: ${missing[*]}"
if [ "$(id -u)" -ne 0 ]; then
  echo "Install them with:  sudo apt-get install -y --no-install-recommends ${missing[*]}"
  exit 69
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
