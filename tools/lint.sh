#!/bin/sh
# Format, style, types and static checks of all C and Python, and the guards of the shape: sizes, no circles between
# files. Prints what it found; exit status 1 where that is anything.
set -u
cd "$(dirname "$0")/.." || exit 1
tools/system.sh run lint || exit 1
tools/setup.sh tests/requirements-frameworks.txt || exit 1
failed=
includes=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
core=$(ls mcext/core/*/*.c) binding=$(ls mcext/binding/*.c)
all=$(git ls-files --cached --others --exclude-standard '*.c' '*.h')

check() { # NAME COMMAND...
    name=$1
    shift
    echo "-- $name"
    "$@" >build/lint 2>&1 || { cat build/lint; failed="$failed $name"; }
}

each() { # COUNT COMMAND...: of all C files, so many at a time, on each core
    count=$1
    shift
    # shellcheck disable=SC2086
    printf '%s\n' $core $binding | xargs -P "$(nproc)" -n "$count" "$@"
}

mkdir -p build
# shellcheck disable=SC2086
{
    check sizes .venv/bin/python tools/check_sizes.py
    check circles .venv/bin/python tools/check_circles.py
    check clang-format clang-format --dry-run -Werror $all
    # shellcheck disable=SC2016
    check clang-tidy each 4 sh -c 'clang-tidy --quiet "$@" -- -std=c11 -D_GNU_SOURCE=1 -Imcext -isystem "$0"' "$includes"
    # cppcheck does not see Python's headers; these macros decide where a block or a function ends.
    check cppcheck cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr \
        --suppress=missingIncludeSystem --error-exitcode=1 -D_GNU_SOURCE=1 -D__linux__ -Imcext \
        "-DPy_BEGIN_ALLOW_THREADS={" "-DPy_END_ALLOW_THREADS=}" "-DPy_UNREACHABLE()=abort()" \
        "-DPy_RETURN_NONE=return NULL" "-DPy_RETURN_TRUE=return NULL" "-DPy_RETURN_FALSE=return NULL" $core $binding
    check gcc-analyzer each 1 gcc -std=c11 -D_GNU_SOURCE=1 -O2 -Wall -Wextra -fanalyzer -Werror \
        -Imcext -isystem "$includes" -S -o /dev/null
    check ruff .venv/bin/ruff check .
    check ruff-format .venv/bin/ruff format --check .
    check mypy .venv/bin/mypy mcext
}
[ -z "$failed" ] || { echo "lint: these have something to say:$failed"; exit 1; }
echo "lint: clean"
