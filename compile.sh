#!/usr/bin/env bash
# Builds the custom operators of mmdet/ops in place. Not needed to use MemCNP: without it they run as plain PyTorch.
#
#   ./compile.sh                 CUDA kernels if this machine has a GPU and a CUDA toolkit, CPU kernels always
#   FORCE_CUDA=1 ./compile.sh    CUDA kernels also on a machine without a GPU; FORCE_CUDA=0 never builds them
#
# Runs from any directory, any number of times. Builds for $PYTHON, else the repository's .venv, else python3.
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

# One build folder for each Python, so that their object files never mix. It holds no pyproject.toml: nothing but the
# extension is configured from there, whatever the version of setuptools.
tag=$("$PYTHON" -c 'import sys; print(sys.implementation.cache_tag)') || fail "$PYTHON does not run"
build=$root/build/ops-$tag
log=$build/compile.log
mkdir -p "$build"
cd "$build"
# ninja of the same environment, also where that is not activated
export PATH="$(dirname "$PYTHON"):$PATH"

echo "compile.sh: building mmdet/ops for $PYTHON, log in $log"
if ! "$PYTHON" "$root/setup.py" build_ext --force --build-lib "$root" --build-temp "$build" >"$log" 2>&1; then
    line=$(grep -m 1 '^mmdet/ops: ' "$log" || grep -m 1 -iE 'error[: ]' "$log" || tail -n 1 "$log")
    fail "${line#mmdet/ops: } (all output: $log)"
fi
sed -n 's|^mmdet/ops: |compile.sh: |p' "$log"

# Self-check: load what was built and run it on every device it was built for, against the plain PyTorch version.
cd "$root"
"$PYTHON" -m mmdet.ops.correlation.correlation_selfcheck ||
    fail "the built operator does not work; remove $build and run this again, and report the lines above if it stays"
