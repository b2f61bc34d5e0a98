#!/usr/bin/env bash
# Builds the custom operators of mmdet/ops in place. This is optional: without it they run as plain PyTorch, slower.
#
#   ./compile.sh                 CUDA kernels if this machine has a GPU and a CUDA toolkit, CPU kernels always
#   FORCE_CUDA=1 ./compile.sh    CUDA kernels also on a machine without a GPU; FORCE_CUDA=0 never builds them
#
# May be run from any directory and repeatedly. Builds for $PYTHON, else the repository's .venv, else python3.
# TORCH_CUDA_ARCH_LIST, MAX_JOBS, CUDA_HOME and CXX are respected.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
fail() {
    echo "compile.sh: $*" >&2
    exit 1
}

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=python3
    [[ -x $root/.venv/bin/python ]] && PYTHON=$root/.venv/bin/python
fi
PYTHON=$(command -v "$PYTHON") || fail "there is no Python '$PYTHON'; set PYTHON to the one that runs MemCNP-VIS"

# Each Python version has its own build folder, so that their object files do not mix. The folder contains no
# pyproject.toml, so that every version of setuptools configures only the extension.
tag=$("$PYTHON" -c 'import sys; print(sys.implementation.cache_tag)') || fail "$PYTHON does not run"
build=$root/build/ops-$tag
log=$build/compile.log
mkdir -p "$build"
cd "$build"
# Use ninja of the same environment even if that is not activated.
export PATH="$(dirname "$PYTHON"):$PATH"

echo "compile.sh: building mmdet/ops for $PYTHON, log in $log"
if ! "$PYTHON" "$root/setup.py" build_ext --force --build-lib "$root" --build-temp "$build" >"$log" 2>&1; then
    line=$(grep -m 1 '^mmdet/ops: ' "$log" || grep -m 1 -iE 'error[: ]' "$log" || tail -n 1 "$log")
    fail "${line#mmdet/ops: } (all output: $log)"
fi
sed -n 's|^mmdet/ops: |compile.sh: |p' "$log"

# Self-check: load the library, run it on every device it was built for and compare with the plain PyTorch version.
cd "$root"
"$PYTHON" -m mmdet.ops.correlation.correlation_selfcheck ||
    fail "the built operator does not work; remove $build and run this again, and report the lines above if it stays"
