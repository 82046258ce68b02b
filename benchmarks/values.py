"""The values that are stored. Nothing large is made here: in a process that has freed a large block, malloc no longer
asks the system for each buffer of asyncio's reads, and they cost half as much."""

COUNTER = 1_000_000_000  # so large that no run of incr changes the number of digits


def some_bytes(size: int) -> bytes:
    return (bytes(range(32, 127)) * (size // 95 + 1))[:size]
