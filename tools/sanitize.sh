#!/bin/sh
# The C tests and the Python suite under a checker: asan, ubsan, tsan or valgrind, built in a folder of its own.
# Usage: sanitize.sh CHECKER [PYTEST-ARGUMENTS]
# PYTHON: the interpreter, if not the first one at hand. tsan takes a free-threaded one that was itself built with
# --with-thread-sanitizer; without PYTHON it is made, in a Debian sid in a folder (SID, as in pythons.sh).
set -eu
checker=$1
shift
cd "$(dirname "$0")/.."
here=$(pwd)
work=$here/build/$checker
mkdir -p "$work"

if [ "$checker" = tsan ] && [ -z "${PYTHON:-}" ]; then
    . tools/debian.sh
    sid=${SID:-$here/build/sid}
    debian_make "$sid" sid "$SID_PACKAGES"
    debian_run "$sid" sh -ec 'command -v clang >/dev/null ||
        { apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
            clang libclang-rt-dev llvm; }' >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    debian_python "$sid" /opt/python3.13t-tsan "--with-thread-sanitizer CC=clang"
    debian_tree "$sid"
    debian_run "$sid" env PYTHON=/opt/python3.13t-tsan/bin/python3.13t CC=clang \
        sh -c 'cd /srv/mcext && tools/sanitize.sh tsan "$@"' - "$@"
    exit
fi

helper=$(PYTHONS='' python3 tools/find_pythons.py | head -n 1 | cut -d' ' -f2)
python=${PYTHON:-$helper}
if [ "$checker" = valgrind ] && [ -z "${PYTHON:-}" ]; then
    # Up to 3.11 CPython's own int.from_bytes reads a digit that is not there, and what comes of it is everywhere.
    python=$(PYTHONS='' python3 tools/find_pythons.py | grep -E '^3\.1[2-9] ' | head -n 1 | cut -d' ' -f2)
    [ -n "$python" ] || { echo "error: valgrind takes a CPython 3.12 or newer" >&2; exit 1; }
fi
PYTHON=$python tools/system.sh run proxies
flags="-g -O1 -fno-omit-frame-pointer -fno-lto -U_FORTIFY_SOURCE -UNDEBUG"
preload='' under='' core_under=''
# Every object an allocation that the checker sees. (Not on free-threaded Python: it needs its own allocator.)
[ "$checker" = tsan ] || export PYTHONMALLOC=malloc
case $checker in
asan)
    flags="$flags -fsanitize=address"
    preload=$(gcc -print-file-name=libasan.so)
    ;;
ubsan) flags="$flags -fsanitize=undefined -fno-sanitize-recover=all" ;;
tsan)
    flags="$flags -fsanitize=thread"
    # Python's own list of what it has to say about itself, and what that lacks.
    cat "$(dirname "$python")/../tsan/suppressions_free_threading.txt" tools/tsan.supp >"$work/suppressions"
    export TSAN_OPTIONS="halt_on_error=1:die_after_fork=0:exitcode=66:suppressions=$work/suppressions:${TSAN_OPTIONS:-}"
    ;;
valgrind)
    tools/system.sh valgrind
    core_under="valgrind -q --error-exitcode=99 --leak-check=full"
    export MCEXT_PATIENCE=10
    # What drives the C code in this process, in about ten minutes of a machine at rest. Left out: what runs in processes
    # of their own, which are not under valgrind, and the random sequences and the chaos, which are the other checkers'.
    if [ $# = 0 ]; then
        for name in security/injection security/unpickler security/hostile_server connections/ownership \
            connections/connections connections/deadlines compatibility/surface compatibility/same_answers \
            compatibility/corrections overrides/overrides servers/server_life; do
            set -- "$@" "tests/${name%/*}/test_${name#*/}.py"
        done
    fi
    under="valgrind -q --error-exitcode=99 --fair-sched=yes --suppressions=$here/tools/valgrind.supp"
    ;;
*)
    echo "error: $checker is not asan, ubsan, tsan or valgrind" >&2
    exit 2
    ;;
esac

make -s core CC="${CC:-gcc}" BUILD="build/$checker/core" STRICT="$flags -Werror" UNDER="$core_under"

# A copy of the tree, so that the instrumented extension stands beside no other one.
tree=$work/tree
rm -rf "$tree"
if [ -e .git ]; then
    tools/copy.sh "$tree"
else
    mkdir -p "$tree"
    tar -c --exclude ./build --exclude ./.venv . | tar -x -C "$tree"
fi
# What the suite needs is pure Python and is fetched by an interpreter that no checker slows down.
if [ ! -e "$work/packages" ]; then
    "$helper" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip -q --disable-pip-version-check install --target "$work/packages.new" \
        -r tests/requirements.txt
    mv "$work/packages.new" "$work/packages"
fi
export PYTHONPATH="$tree:$work/packages"
cd "$tree"
MCEXT_CFLAGS=$flags MCEXT_LDFLAGS=$flags "$python" setup.py -q egg_info build_ext --inplace \
    >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
# The interpreter never frees all that it has: leaks are looked for by the C tests, and by the tests that count.
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
if [ "$checker" = valgrind ]; then
    # Compiled here, where it takes seconds.
    env -u PYTHONDONTWRITEBYTECODE "$python" -m pytest -q --collect-only "$@" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
fi
# shellcheck disable=SC2086
exec env ${preload:+LD_PRELOAD="$preload"} $under "$python" -m pytest -q -p no:cacheprovider --capture=sys \
    -m "not frameworks and not slow" --timeout=$((300 * ${MCEXT_PATIENCE:-1})) --ignore=tests/package/test_package.py "$@"
