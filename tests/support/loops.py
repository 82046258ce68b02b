"""Event loops for tests of asyncio: asyncio's own, and uvloop's where that is installed.

@pytest.mark.parametrize("loop", LOOPS)
def test(loop):
    run(loop, coroutine())
"""

import asyncio
import functools
import importlib.util

import pytest

PATIENCE = 60

ASYNCIO, UVLOOP = "asyncio", "uvloop"
HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
LOOPS = [
    ASYNCIO,
    pytest.param(
        UVLOOP, marks=[pytest.mark.frameworks, pytest.mark.skipif(not HAS_UVLOOP, reason="uvloop is not installed")]
    ),
]


def new_loop(kind=ASYNCIO):
    if kind == UVLOOP:
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def run(kind, coroutine, patience=PATIENCE, debug=None):
    """asyncio.run in a loop of that kind."""

    async def main():
        return await asyncio.wait_for(coroutine, patience)

    loop = new_loop(kind)
    try:
        if debug is not None:
            loop.set_debug(debug)
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop):
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def in_a_loop(test):
    """A test that is a coroutine; its argument `loop` says of which kind."""

    @functools.wraps(test)
    def running(**fixtures):
        run(fixtures.get("loop", ASYNCIO), test(**fixtures))

    return running


async def until(condition):
    """Turns of the loop until it is true."""
    while not condition():
        await asyncio.sleep(0.001)


async def turns(count=4):
    """So many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
