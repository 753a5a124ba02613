#!/usr/bin/env bash
# Prints the folder of cuBLASLt in PyTorch's packages if the system has no cuBLASLt of its own, otherwise nothing.
#   scripts/find_cublas.sh [PYTHON]
set -euo pipefail
python=${1:-python3}
if ldconfig -p 2>/dev/null | grep 'libcublasLt\.so\.13' >/dev/null || [ -e /usr/local/cuda/lib64/libcublasLt.so.13 ]; then exit 0; fi
command -v "$python" >/dev/null || exit 0
"$python" - <<'PY'
import glob, os
try:
    import nvidia
    found = [f for root in nvidia.__path__ for f in glob.glob(os.path.join(root, "**", "libcublasLt.so.13"), recursive=True)]
    print(os.path.dirname(found[0]) if found else "", end="")
except ImportError:
    pass
PY
