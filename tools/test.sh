#!/bin/sh
# The suite on Pythons at hand (see find_pythons.py), two tests more at a time than there are cores: most of them wait.
# Usage: test.sh first|slow|others|all [PYTEST-ARGUMENTS]
# first: on the first one, all but the slow tests. slow: these, on the first one. others: on each other one, without the
# frameworks and the slow tests. all: everything.
# Closing lines of all runs stand at the end, the first Python's last; also in build/closing-first and -others.
set -u
cd "$(dirname "$0")/.." || exit 1
which=${1:-}
case $which in
    first | slow | others | all) shift ;;
    *) echo "usage: tools/test.sh first|slow|others|all [PYTEST-ARGUMENTS]" >&2; exit 2 ;;
esac
pythons=$(python3 tools/find_pythons.py) || exit 1
mkdir -p build
status=0
workers=$(($(nproc) + 2))

suite() { # CLOSING VERSION PYTHON FOLDER REQUIREMENTS PYTEST-ARGUMENTS...
    closing=$1 version=$2 python=$3 folder=$4 requirements=$5
    shift 5
    echo "== Python $version: $python"
    if tools/environment.sh "$python" "$folder" "$requirements"; then
        # Each worker has a run of files, whose servers their tests share, until one has none left.
        { "$folder/bin/python" -m pytest -n "$workers" --maxprocesses 4 --dist worksteal "$@" 2>&1; echo $? >build/status; } |
            tee build/output
        echo "Python $version: $(grep -E '(passed|failed|error|no tests ran).* in [0-9]' build/output | tail -n 1)" \
            >>"$closing"
        [ "$(cat build/status)" = 0 ] || status=1
    else
        echo "Python $version: could not be set up" >>"$closing"
        status=1
    fi
}

first=$(echo "$pythons" | head -n 1)
others=$(echo "$pythons" | tail -n +2)
closings=
PYTHON=${first#* } tools/system.sh run proxies clients terminal || exit 1
# The others come first, so that the last closing line is that of the whole suite.
case $which in others | all)
    closings=build/closing-others
    : >$closings
    while read -r version python <&3; do
        [ -z "$version" ] || suite build/closing-others "$version" "$python" "build/venv-$version" \
            tests/requirements.txt -q -m "not frameworks and not slow" "$@"
    done 3<<END
$others
END
    ;;
esac
case $which in first | slow | all)
    select=
    [ "$which" != first ] || select="not slow"
    [ "$which" != slow ] || select=slow
    closings="$closings build/closing-$which"
    : >"build/closing-$which"
    suite "build/closing-$which" "${first%% *}" "${first#* }" .venv tests/requirements-frameworks.txt -m "$select" "$@"
    ;;
esac
# shellcheck disable=SC2086
cat $closings
exit $status
