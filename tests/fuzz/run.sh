#!/bin/sh
# Fuzzing of the core.
#   tests/fuzz/run.sh [SECONDS [TARGET...]]   each target for SECONDS, else $FUZZ_SECONDS, else 60,
#       with libFuzzer (needs clang)
#       The target `value` drives the extension itself: it takes PYTHON (python3) with its headers, and
#       atheris and setuptools, which are installed into $FUZZ_BUILD/venv.
#   tests/fuzz/run.sh --replay [TARGET...]  the seed corpus through each target, with $CC or cc
#       (not `value`, which test_fuzz_corpus.py replays)
#   tests/fuzz/run.sh --random [TARGET...]  as --replay, and $FUZZ_COUNT (10000000) inputs made of the
#       corpus by blind chance
#   tests/fuzz/run.sh --coverage [TARGET...]  lines and branches of the core's pure files that the
#       corpus, what was found and the C unit tests reach together (needs clang and llvm)
# Everything is built with AddressSanitizer and UndefinedBehaviorSanitizer. What libFuzzer finds and
# the inputs that it collects go to $FUZZ_BUILD (build/fuzz), never into the repository's corpus.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/fuzz
build=${FUZZ_BUILD:-$root/build/fuzz}
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"
warnings="-std=c11 -D_GNU_SOURCE= -Wall -Wextra -Werror -I$root/mcext"

mode=${1:-${FUZZ_SECONDS:-60}}
[ $# -eq 0 ] || shift
targets=$*
if [ -z "$targets" ]; then
    case $mode in
    --*) targets="number key address placement reply exchange meta leg row pool" ;;
    *) targets="number key address placement reply exchange meta leg row pool value" ;;
    esac
fi
# The target `pool` takes more of the core than what is pure; its streams are no sockets.
linked=
for name in fleet/pool fleet/lock net/connection net/socket net/clock net/process; do
    linked="$linked $root/mcext/core/$name.c"
done
pure="wire/number wire/buffer wire/key wire/key_index fleet/hash fleet/md5 fleet/key_hash fleet/ring fleet/rendezvous fleet/placement wire/command wire/request wire/reply wire/error_line wire/meta wire/exchange flow/leg flow/row net/address"
core=
for name in $pure; do
    core="$core $root/mcext/core/$name.c"
done
mkdir -p "$build"

# Short inputs are many more executions with the same cover; where a length has a limit of its own
# (a line, a value), every fourth second goes to long ones.
lengths() {
    case $1 in
    number) echo 32 ;;
    key | address | placement | pool | value) echo 300 ;;
    *) echo 250 250 250 10000 ;;
    esac
}

build_fuzzer() {
    mkdir -p "$build/found/$1"
    if [ "$1" = value ]; then
        build_extension
        return
    fi
    clang $warnings -g -O2 -fsanitize=fuzzer $sanitize "$here/fuzz_$1.c" $core $linked -lz -lpthread \
        -o "$build/fuzz_$1"
}

# The extension with libFuzzer's counters and the sanitizers, beside a program that runs the target.
build_extension() {
    if [ ! -x "$build/venv/bin/python" ]; then
        "${PYTHON:-python3}" -m venv "$build/venv"
        "$build/venv/bin/pip" install -q --disable-pip-version-check atheris 'setuptools>=77'
    fi
    rm -rf "$build/value"
    mkdir -p "$build/value"
    cp -r "$root/setup.py" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" \
        "$root/memcache.py" "$root/mcext" "$here/fuzz_value.py" "$build/value"
    rm -f "$build"/value/mcext/*.so
    (
        cd "$build/value"
        CC=clang LDSHARED="clang -shared" \
            CFLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=function,vptr -g -O1" \
            "$build/venv/bin/python" setup.py -q build_ext --inplace
    )
    preload=$("$build/venv/bin/python" -c "import atheris; print(atheris.path())")/asan_with_fuzzer.so
    cat > "$build/fuzz_value" << END
#!/bin/sh
export PYTHONPATH=$build/value PYTHONMALLOC=malloc LD_PRELOAD=$preload
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
exec "$build/venv/bin/python" "$build/value/fuzz_value.py" --fuzz "\$@"
END
    chmod +x "$build/fuzz_value"
}

fuzz() {
    "$build/fuzz_$1" -max_total_time="$2" -max_len="$3" -dict="$here/memcached.dict" \
        -print_final_stats=1 -artifact_prefix="$build/$1-" "$build/found/$1" "$here/corpus/$1" \
        > "$build/$1.log" 2>&1 || {
        tail -n 30 "$build/$1.log"
        exit 1
    }
    grep -E '^Done' "$build/$1.log"
}

case $mode in
--replay | --random)
    chance=
    optimise=-O1
    if [ "$mode" = --random ]; then
        chance="--random ${FUZZ_COUNT:-10000000}"
        optimise=-O2
    fi
    for target in $targets; do
        ${CC:-cc} $warnings -g $optimise $sanitize "$here/fuzz_$target.c" "$here/replay.c" $core $linked -lz -lpthread \
            -o "$build/replay_$target"
        printf '%s: ' "$target"
        "$build/replay_$target" $chance "$here/corpus/$target"
    done
    ;;
--coverage)
    profiles=
    objects=
    for target in $targets; do
        clang $warnings -g -O0 -fprofile-instr-generate -fcoverage-mapping \
            "$here/fuzz_$target.c" "$here/replay.c" $core $linked -lz -lpthread -o "$build/coverage_$target"
        found=
        if [ -d "$build/found/$target" ]; then
            found=$build/found/$target
        fi
        LLVM_PROFILE_FILE="$build/$target.profraw" \
            "$build/coverage_$target" "$here/corpus/$target" $found > /dev/null
        profiles="$profiles $build/$target.profraw"
        objects="$objects -object $build/coverage_$target"
    done
    for name in $pure wire/retrieval flow/leg_ends flow/leg_meta; do
        name=${name#*/}
        [ -f "$root/tests/core/test_$name.c" ] || continue # it is in another one's
        clang $warnings -g -O0 -fprofile-instr-generate -fcoverage-mapping \
            "$root/tests/core/test_$name.c" $core $linked -lz -lpthread -o "$build/coverage_test_$name"
        LLVM_PROFILE_FILE="$build/test_$name.profraw" "$build/coverage_test_$name" > /dev/null
        profiles="$profiles $build/test_$name.profraw"
        objects="$objects -object $build/coverage_test_$name"
    done
    cov=$(command -v llvm-cov || ls /usr/bin/llvm-cov-* | tail -n 1)
    profdata=$(command -v llvm-profdata || ls /usr/bin/llvm-profdata-* | tail -n 1)
    "$profdata" merge -sparse $profiles -o "$build/fuzz.profdata"
    headers=
    for name in $pure; do
        headers="$headers $root/mcext/core/$name.h"
    done
    "$cov" report ${objects# -object } -instr-profile="$build/fuzz.profdata" $core $headers
    "$cov" show ${objects# -object } -instr-profile="$build/fuzz.profdata" -show-branches=count \
        -show-instantiations=false $core $headers > "$build/coverage.txt"
    echo "line by line: $build/coverage.txt"
    ;;
*)
    for target in $targets; do
        build_fuzzer "$target"
        echo "$target for $mode seconds"
        set -- $(lengths "$target")
        parts=$#
        for length in "$@"; do
            fuzz "$target" $((mode / parts)) "$length"
        done
    done
    ;;
esac
