#!/bin/sh
# Checks the ownership protocol exhaustively with spin, and that the checks can fail: each piece taken out of the
# protocol has to give an error. Needs spin and a C compiler. Work is done in a temporary folder.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0

# model NAME FILE MACROS...: prints what was explored; sets `errors`
model() {
    name=$1
    file=$2
    shift 2
    rm -f pan pan.* ./*.trail
    spin -a "$@" "$here/$file" >spin.log 2>&1 || { cat spin.log; exit 1; }
    "${CC:-cc}" -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -o pan pan.c
    start=$(date +%s)
    ./pan -m2000000 >pan.log 2>&1 || true
    took=$(($(date +%s) - start))
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
    if [ -z "$errors" ] || grep -q "max search depth too small\|out of memory\|Search not completed" pan.log && [ "${errors:-0}" = 0 ]; then
        cat pan.log
        echo "$name: not completed"
        exit 1
    fi
}

holds() {
    model "$@"
    if [ "$errors" = 0 ]; then
        echo "holds     $1 ($states states, $took s)"
    else
        echo "BROKEN    $1"
        sed -n '/^pan/p' pan.log
        file=$2
        shift 2
        spin -t -p -k ./*.trail "$@" "$here/$file" | tail -400 || true
        failed=1
    fi
}

breaks() {
    model "$@"
    if [ "$errors" != 0 ]; then
        echo "as wanted $1: $(sed -n 's/^pan:1: //p' pan.log)"
    else
        echo "BLIND     $1: no error found"
        failed=1
    fi
}

holds "two calls, disconnect_all" pool.pml -DCALLERS=2
holds "two calls, a reaper" pool.pml -DCALLERS=2 -DDISCONNECTS=0 -DREAPERS=1
holds "two threads of two calls" pool.pml -DCALLERS=2 -DCALLS=2 -DDISCONNECTS=0
holds "a call on two connections, disconnect_all twice" pool.pml -DCALLERS=1 -DDISCONNECTS=2 -DOPEN=2
holds "a call on two connections, disconnect_all, a reaper" pool.pml -DCALLERS=1 -DREAPERS=1 -DOPEN=2
holds "three calls on one connection" pool.pml -DDISCONNECTS=0 -DOPEN=1 -DGOOD_WEATHER
holds "two threads of two calls, each with a connection of its own" pool.pml -DCALLERS=2 -DCALLS=2 -DDISCONNECTS=0 -DOPEN=2 -DBOUND
holds "two threads with connections of their own, disconnect_all" pool.pml -DCALLERS=2 -DOPEN=1 -DBOUND -DGOOD_WEATHER
if [ "${1:-}" = --long ]; then
    holds "two threads of two calls, disconnect_all" pool.pml -DCALLERS=2 -DCALLS=2
    holds "a call, disconnect_all twice, a reaper" pool.pml -DCALLERS=1 -DDISCONNECTS=2 -DREAPERS=1 -DOPEN=2
    holds "two calls, disconnect_all twice" pool.pml -DCALLERS=2 -DDISCONNECTS=2 -DOPEN=1 -DGOOD_WEATHER
    holds "two calls, disconnect_all, a reaper" pool.pml -DCALLERS=2 -DREAPERS=1 -DOPEN=2 -DGOOD_WEATHER
    holds "three calls on two connections, disconnect_all" pool.pml -DOPEN=2 -DGOOD_WEATHER
    holds "three calls" pool.pml -DDISCONNECTS=0
    holds "three calls on one connection, disconnect_all" pool.pml -DOPEN=1
fi
breaks "without the lock" pool.pml -DWITHOUT_LOCK -DCALLERS=2 -DDISCONNECTS=0 -DOPEN=1
breaks "without the epoch" pool.pml -DWITHOUT_EPOCH -DCALLERS=1 -DOPEN=1 -DBOUND
breaks "where disconnect_all closes another thread's" pool.pml -DWITHOUT_OWNER -DCALLERS=1 -DOPEN=1 -DBOUND
breaks "with a look at the epoch before the lock" pool.pml -DWITHOUT_LOCKED_EPOCH -DCALLERS=1 -DOPEN=1
breaks "without the epoch of when none was found" pool.pml -DWITHOUT_EARLY_EPOCH -DCALLERS=1
breaks "where what is taken stays on the stack" pool.pml -DWITHOUT_REMOVAL -DCALLERS=2 -DDISCONNECTS=0 -DOPEN=1

holds "the lock, three threads" lock.pml
breaks "a lock taken as one that nobody waits for" lock.pml -DWITHOUT_TWO
breaks "a lock without the compare-and-swap" lock.pml -DWITHOUT_SWAP
breaks "sleep without a look at the lock" lock.pml -DWITHOUT_CHECK

holds "fork, fork of a fork, two threads in the child" fork.pml
breaks "a mark of a start that names no process" fork.pml -DWITHOUT_OWNED_MARK

holds "the lease, two callers, two writes" lease.pml
holds "the lease, two callers of two calls, a write" lease.pml -DCALLS=2 -DWRITES=1
holds "the lease, three callers, a write" lease.pml -DCALLERS=3 -DWRITES=1 -DEXPIRIES=0
if [ "${1:-}" = --long ]; then
    holds "the lease, two callers of two calls, two writes" lease.pml -DCALLS=2
    holds "the lease, three callers, two writes" lease.pml -DCALLERS=3
fi
breaks "a fill by set" lease.pml -DWITHOUT_CAS
breaks "a lease for whoever finds one" lease.pml -DWITHOUT_WON
breaks "invalidate without a new token" lease.pml -DWITHOUT_NEW_TOKEN
breaks "a lease that is not given back" lease.pml -DWITHOUT_RELEASE
breaks "a lease given back by delete" lease.pml -DWITHOUT_GATE
breaks "a lease that does not run out" lease.pml -DWITHOUT_EXPIRY

exit $failed
