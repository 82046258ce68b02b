#!/bin/sh
# Sees to it that the programs and headers are there that the named tasks need: run (demo and tests), proxies and
# terminal (tests), clients (the packages of requirements-frameworks.txt), redis (bench), lint, clang, valgrind, spin,
# debootstrap, build (of other Pythons).
# What is missing comes from Debian's packages where this user may install them; else one line says what to install.
# Usage: PYTHON=python3 tools/system.sh TASK...
set -eu
PYTHON=${PYTHON:-python3}
lacking=

program() { # NAME [PACKAGE]
    command -v "$1" >/dev/null 2>&1 || lacking="$lacking ${2:-$1}"
}

header() { # NAME PACKAGE
    printf '#include <%s>\n' "$1" | gcc -fsyntax-only -x c - 2>/dev/null || lacking="$lacking $2"
}

check_run() {
    program memcached
    program openssl
    program gcc
    header stdio.h libc6-dev
    header zlib.h zlib1g-dev
    version=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || lacking="$lacking $version-venv"
    "$PYTHON" -c 'import os.path, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || lacking="$lacking $version-dev"
}

check_proxies() { # twemproxy, which is not on everybody's PATH
    [ -x /usr/sbin/nutcracker ] || program nutcracker
}

check_terminal() { program tmux; }

check_clients() { # pylibmc is compiled where it has no wheel
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || return 0
    header libmemcached/memcached.h libmemcached-dev
}

check_redis() { program redis-server; }

check_lint() {
    program clang-format
    program clang-tidy
    program cppcheck
}

check_clang() {
    program clang
    # Debian's clang does without its sanitizers' run-time library.
    command -v clang >/dev/null 2>&1 && [ -e "$(clang -print-file-name=libclang_rt.fuzzer-"$(uname -m)".a)" ] ||
        lacking="$lacking libclang-rt-dev"
}

check_valgrind() { program valgrind; }

check_spin() {
    program spin
    program gcc
    header stdio.h libc6-dev
}

check_build() { # of OpenSSL and CPython, from Debian's sources
    program make
    program bzip2
    program xz xz-utils
    perl -MIPC::Cmd -e 1 2>/dev/null || lacking="$lacking perl"
}

check_debootstrap() { program debootstrap; program unshare util-linux; }

check() {
    lacking=
    for task; do
        "check_$task"
    done
}

check "$@"
[ -n "$lacking" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
fi
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
    echo "installing with apt:$lacking"
    log=$(mktemp)
    apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >>"$log" 2>&1; }
    # The package lists may be missing or old; they are fetched only where that shows.
    # shellcheck disable=SC2086
    apt install --no-install-recommends $lacking ||
        { apt update && apt install --no-install-recommends $lacking; } || cat "$log" >&2
    rm -f "$log"
    check "$@"
fi
if [ -n "$lacking" ]; then
    echo "error: this is missing, please install it (on Debian: apt-get install$lacking)" >&2
    exit 1
fi
