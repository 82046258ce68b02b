#!/bin/sh
# The source distribution and the wheels, in dist/: docs/packaging.md has what they are and how they are checked.
# Usage: wheels.sh tools.wheels|tools.wheels.trial|tools.wheels.twice [ARGUMENTS]
set -eu
cd "$(dirname "$0")/.."
python=$(python3 tools/find_pythons.py 2>/dev/null | head -n 1 | cut -d' ' -f2)
folder=build/wheels/venv
if ! cmp -s tools/requirements-wheels.txt "$folder/made"; then
    rm -rf "$folder"
    mkdir -p build/wheels
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip --disable-pip-version-check install -q -r tools/requirements-wheels.txt
    cp tools/requirements-wheels.txt "$folder/made"
fi
exec "$folder/bin/python" -m "$@"
