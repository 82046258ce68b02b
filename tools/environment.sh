#!/bin/sh
# Makes FOLDER a virtual environment of PYTHON with what REQUIREMENTS lists and this package, installed so that the
# sources here are what is imported; later only what has changed is done. Usage: environment.sh PYTHON FOLDER REQUIREMENTS
set -eu
python=$1 folder=$2 requirements=$3
cd "$(dirname "$0")/.."
here=$(pwd)
case $folder in /*) ;; *) folder=$here/$folder ;; esac
run() { # quietly, unless it fails
    "$@" >"$folder/log" 2>&1 || { status=$?; cat "$folder/log" >&2; return $status; }
}

version() { "$1" -c 'import sys; print(sys.version)' 2>/dev/null; }
[ "$(version "$folder/bin/python")" = "$(version "$python")" ] || rm -rf "$folder"
if [ ! -d "$folder" ]; then
    echo "making $folder for $("$python" -VV | head -n 1)"
    mkdir -p "$folder"
    run "$python" -m venv "$folder"
fi
wanted=$(cat tests/requirements.txt "$requirements" pyproject.toml setup.py mcext/__init__.py; echo "$here $requirements")
if [ "$wanted" != "$(cat "$folder/made" 2>/dev/null)" ]; then
    run "$folder/bin/python" -m pip --disable-pip-version-check install -r "$requirements"
    run "$folder/bin/python" -m pip --disable-pip-version-check install --no-build-isolation --no-deps -e .
    printf '%s\n' "$wanted" >"$folder/made"
fi
run "$folder/bin/python" setup.py -q build_ext --inplace
