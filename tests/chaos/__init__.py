"""The chaos suite: a client between damaged streams, dying servers, forks, signals and threads.

    python -m tests.chaos --help

`proxy` damages the replies of a real memcached, `caller` makes the calls in a process of its own and checks every
answer, `run` watches both and counts, `clients` speaks to each client library in its own words.
"""
