#!/bin/sh
# `make demo` and `make test` in a clone of the last commit, inside Debians that have only git, make, python3 and
# certificates. BARE: which ones (bookworm sid). Their folders, below build/, are made anew each time.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
. tools/debian.sh
for suite in ${BARE:-bookworm sid}; do
    folder=$here/build/bare-$suite
    rm -rf "$folder"
    debian_make "$folder" "$suite" git,make,python3,ca-certificates
    git bundle create -q "$folder/srv/mcext.bundle" HEAD
    debian_run "$folder" sh -ec '
        cd /srv
        git init -q mcext
        cd mcext
        git pull -q ../mcext.bundle HEAD
        make demo
        make test
        git status --short --ignored
        make clean
        test -z "$(git status --short --ignored)"'
    echo "bare: demo and test pass on Debian $suite"
done
