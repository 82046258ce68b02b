#!/bin/sh
# Builds the site of docs/ into build/site/html. A warning is an error. The docstrings are those of the package in .venv,
# whose extension lies among the sources; what makes the site has an environment of its own, of the same Python.
set -eu
cd "$(dirname "$0")/.."
tools/setup.sh
folder=build/venv-docs
wanted=$(.venv/bin/python -VV; cat docs/requirements.txt)
if [ "$wanted" != "$(cat $folder/made 2>/dev/null)" ]; then
    echo "making $folder"
    rm -rf $folder
    .venv/bin/python -m venv $folder
    $folder/bin/python -m pip --quiet --disable-pip-version-check install -r docs/requirements.txt
    printf '%s\n' "$wanted" >$folder/made
fi
$folder/bin/python docs/site/build.py
