"""What other asyncio clients do when a call is cancelled, or times out: the controls of our own tests.

A test that no client fails might not look. aiomcache fails it; emcache and memcachio pass, at a price that is written
down here. If one of these tests fails with a new release of theirs, docs/reliability.md is to be renewed.
"""

import asyncio

import pytest
from cancelling import (
    COMMANDS,
    LATE,
    REPLY_FIRST,
    REPLY_LATER,
    AiomcacheClient,
    AsyncCacheClient,
    BatchingClient,
    EmcacheClient,
    MemcachioClient,
    cancelled_then_sentinel,
    storm,
    timed_out,
)

REPLIES = (REPLY_FIRST, REPLY_LATER)
every_command = pytest.mark.parametrize("command", COMMANDS)
every_reply = pytest.mark.parametrize("reply", REPLIES)


def after_a_cancel(client, command, reply, cut=0):
    return asyncio.run(cancelled_then_sentinel(client, command, reply, cut))


# ---- ours


@every_command
@every_reply
@pytest.mark.parametrize("cut", [0, 1])
def test_asynccache_gives_each_call_its_own_answer_on_the_same_connection(command, reply, cut):
    seen = after_a_cancel(AsyncCacheClient, command, reply, cut)
    assert seen.wrong == []
    assert seen.connections == 1


def test_asynccache_goes_unharmed_through_random_cancels():
    seen = asyncio.run(storm(AsyncCacheClient))
    assert seen.cancelled > 100
    assert (seen.wrong, seen.missed, seen.raised, seen.hung) == (0, 0, 0, 0)
    assert seen.connections <= 2


# ---- aiomcache: the next caller gets the reply


@pytest.mark.frameworks
@every_command
@every_reply
def test_aiomcache_fails_the_promise(command, reply):
    seen = after_a_cancel(AiomcacheClient, command, reply)
    assert seen.wrong != []


@pytest.mark.frameworks
@every_reply
@pytest.mark.parametrize("cut", [0, 1])
def test_aiomcache_gives_the_next_caller_the_cancelled_calls_number(reply, cut):
    seen = after_a_cancel(AiomcacheClient, "incr", reply, cut)
    assert seen.wrong[0] == ("incr", 1_001, 8)


@pytest.mark.frameworks
@every_reply
def test_aiomcache_misses_what_is_there_after_a_cancelled_get(reply):
    seen = after_a_cancel(AiomcacheClient, "get", reply)
    assert seen.wrong[0] == ("get", b"the sentinel's own", None)


@pytest.mark.frameworks
def test_aiomcache_fails_with_random_cancels_too():
    seen = asyncio.run(storm(AiomcacheClient))
    assert seen.cancelled > 100
    assert seen.wrong + seen.missed + seen.raised > 0


@pytest.mark.frameworks
def test_aiomcache_misses_after_a_timeout():
    seen = asyncio.run(timed_out(AiomcacheClient))
    assert seen.later is None
    assert seen.connections == 1


# ---- emcache: right, a connection for each cancel


@pytest.mark.frameworks
@every_command
@every_reply
def test_emcache_closes_the_connection_at_a_cancel(command, reply):
    seen = after_a_cancel(EmcacheClient, command, reply)
    assert seen.wrong == []
    assert seen.connections == 2


@pytest.mark.frameworks
def test_emcache_opens_many_connections_with_random_cancels():
    seen = asyncio.run(storm(EmcacheClient))
    assert (seen.wrong, seen.missed, seen.hung) == (0, 0, 0)
    assert seen.connections > 10


@pytest.mark.frameworks
@every_reply
def test_emcache_with_autobatching_keeps_it_where_a_get_is_cancelled(reply):
    seen = after_a_cancel(BatchingClient, "get", reply)
    assert seen.wrong == []
    assert seen.connections == 1


@pytest.mark.frameworks
def test_emcache_closes_the_connection_at_a_timeout():
    seen = asyncio.run(timed_out(EmcacheClient))
    assert all(isinstance(error, LATE) for error in seen.ended)
    assert seen.connections > 3


# ---- memcachio: right; what has timed out stays in front of what comes next


@pytest.mark.frameworks
@every_command
@every_reply
@pytest.mark.parametrize("cut", [0, 1])
def test_memcachio_reads_the_reply_and_drops_it(command, reply, cut):
    seen = after_a_cancel(MemcachioClient, command, reply, cut)
    assert seen.wrong == []
    assert seen.connections == 1


@pytest.mark.frameworks
def test_memcachio_goes_unharmed_through_random_cancels():
    seen = asyncio.run(storm(MemcachioClient))
    assert (seen.wrong, seen.missed, seen.raised, seen.hung) == (0, 0, 0, 0)
    assert seen.connections <= 2


@pytest.mark.frameworks
def test_memcachios_timeouts_leave_their_requests_in_front_of_the_next_call():
    seen = asyncio.run(timed_out(MemcachioClient))
    assert all(isinstance(error, LATE) for error in seen.ended)
    assert isinstance(seen.after, LATE)
    assert (seen.requests, seen.connections) == (3, 1)
    assert seen.later == b"the sentinel's own"
