#!/bin/sh
# The suite on every Python at hand (see find_pythons.py): all of it on the first, without the frameworks and the slow
# tests on the others. Arguments go to pytest. Closing lines of all runs stand at the end, the first Python's last.
set -u
cd "$(dirname "$0")/.." || exit 1
pythons=$(python3 tools/find_pythons.py) || exit 1
mkdir -p build
summary=build/summary status=0
: >$summary

suite() { # VERSION PYTHON FOLDER REQUIREMENTS PYTEST-ARGUMENTS...
    version=$1 python=$2 folder=$3 requirements=$4
    shift 4
    echo "== Python $version: $python"
    if tools/environment.sh "$python" "$folder" "$requirements"; then
        { "$folder/bin/python" -m pytest "$@" 2>&1; echo $? >build/status; } | tee build/output
        echo "Python $version: $(grep -E '(passed|failed|error|no tests ran).* in [0-9]' build/output | tail -n 1)" >>$summary
        [ "$(cat build/status)" = 0 ] || status=1
    else
        echo "Python $version: could not be set up" >>$summary
        status=1
    fi
}

first=$(echo "$pythons" | head -n 1)
PYTHON=${first#* } tools/system.sh run proxies || exit 1
# The others come first, so that the last closing line is that of the whole suite.
others=$(echo "$pythons" | tail -n +2)
if [ -n "$others" ]; then
    while read -r version python <&3; do
        suite "$version" "$python" "build/venv-$version" tests/requirements.txt -q -m "not frameworks and not slow" "$@"
    done 3<<END
$others
END
fi
suite "${first%% *}" "${first#* }" .venv tests/requirements-frameworks.txt "$@"
cat $summary
exit $status
