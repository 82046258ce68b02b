"""docs/switch.md: every row of its tables runs, on the real client and on a Cache, and returns the same where the page
names no difference; no call of the client is left out; and each reads what the other stores."""

import re
from pathlib import Path

import guides
import oracle
import pytest
from other_clients import patient

import mcext
from mcext.testing import memcached

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "switch.md").read_text()
CLIENTS = ["python-memcached", "pylibmc", "libmc", "pymemcache"]
VALUES = [
    "text",
    "ünï",
    b"bytes",
    5,
    -7,
    2**70,
    1.5,
    None,
    True,
    [1, "two"],
    {"a": {"b": (1, 2)}},
    {1, 2},
    "long " * 2000,
]


def section(client):
    return PAGE.partition(f"\n## From {client}\n")[2].partition("\n## ")[0]


def rows(client):
    """The old call, the new one, and what differs."""
    for line in section(client).splitlines():
        if line.startswith("| `"):
            _, old, new, differs, _ = (cell.strip() for cell in line.split("|"))
            yield old.strip("`"), new.strip("`"), differs


def marked(client):
    return () if client == "python-memcached" else (pytest.mark.frameworks,)


def each_client(function):
    return pytest.mark.parametrize("client", [pytest.param(name, marks=marked(name)) for name in CLIENTS])(function)


@pytest.fixture(scope="module")
def servers():
    """With one thread each does what it is told in the order in which it was told it, also what is not waited for."""
    with memcached("-t", "1") as one, memcached("-t", "1") as other:
        yield [one.address, other.address]


def with_servers(code, servers):
    return code.replace("10.0.0.1:11211", servers[0]).replace("10.0.0.2:11211", servers[1])


@pytest.fixture
def names(client, servers):
    """What the lines above the table make: `mc` and `cache`, each new."""
    made = {"__name__": "switch"}
    if client == "python-memcached":
        made["memcache"] = oracle.load()
    for _, block in guides.numbered(section(client)):
        block = block.replace("import memcache\n", "") if client == "python-memcached" else block
        guides.run(with_servers(block, servers), made, "docs/switch.md")
    if client == "libmc":
        patient(made["mc"])
    yield made
    made["cache"].close()


def outcome(code, names, servers):
    cache = names["cache"]
    cache.flush_all()
    for key, value in (("key", "value"), ("other", "second"), ("n", 5)):
        cache.set(key, value)
    return eval(with_servers(code, servers), names)


ROWS = [pytest.param(name, *row, id=f"{name}: {row[0]}", marks=marked(name)) for name in CLIENTS for row in rows(name)]


@pytest.mark.parametrize("client, old, new, differs", ROWS)
def test_both_calls_of_a_row_run_and_return_the_same_where_no_difference_is_named(
    client, old, new, differs, names, servers
):
    theirs = outcome(old, names, servers)
    if client == "libmc" and isinstance(theirs, type(names["mc"])):
        patient(theirs)
    assert new or differs
    if new:
        ours = outcome(new, names, servers)
        if isinstance(ours, mcext.Cache) and not differs:
            assert ours.set("ours", b"x") and theirs.get("ours") == b"x"
            assert theirs.set("theirs", b"x") and theirs.get("theirs") == b"x"  # pymemcache does not wait for a set
            assert ours.get("theirs") == b"x"
        elif not differs:
            assert ours == theirs and type(ours) is type(theirs)


def calls(thing):
    """The public methods of an object; not the classes in its class."""
    return {
        name
        for name in dir(type(thing))
        if not name.startswith("_") and callable(method := getattr(type(thing), name)) and not isinstance(method, type)
    }


@each_client
def test_every_public_call_of_the_client_is_in_its_section(client, names):
    wanted = calls(names["mc"]) | (calls(names["one"]) if client == "pymemcache" else set())
    told = set(re.findall(r"\b(?:mc|one)\.(\w+)", section(client))) | set(re.findall(r"`(\w+)`", section(client)))
    assert len(wanted) > 20
    assert wanted - told == set()


@each_client
def test_each_reads_what_the_other_stores_on_the_same_server(client, names):
    mc, cache = names["mc"], names["cache"]
    for number, value in enumerate(VALUES):
        assert mc.set(f"theirs:{number}", value)
        read = mc.get(f"theirs:{number}")
        assert cache.get(f"theirs:{number}", "a miss") == read and type(cache.get(f"theirs:{number}")) is type(read)
        assert cache.set(f"ours:{number}", value)
        assert mc.get(f"ours:{number}") == read
    used = {cache.server_for(f"theirs:{number}") for number in range(len(VALUES))}
    assert len(used) == 2


@pytest.mark.frameworks
def test_what_is_compressed_is_read(servers):
    import libmc
    import pylibmc
    from pymemcache import HashClient, serde

    from mcext import codecs, placement

    text = "to be or not to be " * 500
    compressed = mcext.Compression(min_length=100)
    hash_client = HashClient(servers, serde=serde.compressed_serde, default_noreply=False)
    for where, codec, store in [
        (placement.pylibmc({}), codecs.Pylibmc(), lambda: pylibmc.Client(servers).set("a", text, min_compress_len=100)),
        (placement.libmc(), codecs.Libmc(), lambda: patient(libmc.Client(servers, comp_threshold=100)).set("a", text)),
        (placement.pymemcache(), codecs.Pymemcache(), lambda: hash_client.set("a", text)),
        (None, None, lambda: oracle.load().Client(servers).set("a", text, min_compress_len=100)),
        (None, None, lambda: mcext.Cache(servers, compression=compressed).set("a", text)),
    ]:
        with mcext.Cache(servers, placement=where, codec=codec) as cache:
            cache.flush_all()
            assert store()
            assert cache.get("a") == text
            assert cache.get_item("a").size < 1000


@pytest.mark.frameworks
def test_a_value_that_libmc_has_split_is_an_error_and_no_other_value(servers):
    import libmc

    from mcext import codecs, placement

    assert patient(libmc.Client(servers, do_split=True)).set("large", b"x" * 1_500_000) is True
    with mcext.Cache(servers, placement=placement.libmc(), codec=codecs.Libmc()) as cache:
        with pytest.raises(mcext.DecodeError):
            cache.get("large")


@pytest.mark.frameworks
def test_pymemcache_without_a_serde_and_mcext_read_each_other_as_bytes(servers):
    from pymemcache import HashClient

    from mcext import codecs, placement

    theirs = HashClient(servers, default_noreply=False)
    with mcext.Cache(servers, placement=placement.pymemcache(), codec=codecs.Pymemcache()) as cache:
        for key, value in (("text", "text"), ("number", 7), ("bytes", b"bytes")):
            assert theirs.set(key, value) is True
            assert cache.get(key) == theirs.get(key) == str(value if key != "bytes" else "bytes").encode()
        for key, value in (("ours:text", "text"), ("ours:bytes", b"text")):
            assert cache.set(key, value) is True
            assert theirs.get(key) == b"text"
