#!/bin/sh
# Copies the files of the working tree, as they are now and without what git ignores, into FOLDER.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
git ls-files -z --cached --others --exclude-standard --deduplicate |
    xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' - |
    tar -c --null -T - | tar -x --no-same-owner -C "$1"
