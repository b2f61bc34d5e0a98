#!/bin/sh
# Creates .venv from env_pip.txt. Called by `make setup`; PYTHON chooses the interpreter (default: python3.12, 3.13, 3.11, 3).
set -eu
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=
for candidate in ${PYTHON:-python3.12 python3.13 python3.11 python3}; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "error: found no Python 3.11, 3.12 or 3.13 (tried: ${PYTHON:-python3.12 python3.13 python3.11 python3}); install one, or run: make PYTHON=/path/to/python3.12 ..." >&2
    exit 2
fi
if ! { fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    rm -rf .venv
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "error: $python cannot make virtual environments; on Debian and Ubuntu install the package python3-venv" >&2
        exit 2
    fi
fi
echo "Installing the packages of env_pip.txt into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --disable-pip-version-check --quiet -r env_pip.txt

# opencv-python needs libGL, which machines without a display may lack; the headless package of that version does not
if ! .venv/bin/python -c 'import cv2' >/dev/null 2>&1; then
    version=$(sed -n 's/^opencv-python==//p' env_pip.txt)
    echo "opencv-python cannot be imported here (no libGL?): replacing it by opencv-python-headless $version"
    .venv/bin/python -m pip uninstall --yes --quiet opencv-python
    .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --force-reinstall "opencv-python-headless==$version"
    .venv/bin/python -c 'import cv2'
fi
cp env_pip.txt .venv/env_pip.installed
