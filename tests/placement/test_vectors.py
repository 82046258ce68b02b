"""The servers that real clients chose, as vectors/README.md says, and the hashes by which they did."""

import hashlib
import json
from pathlib import Path

import pytest

import mcext
from mcext import Server, _core, placement

VECTORS = Path(__file__).with_name("vectors")


def cases():
    for file in sorted(VECTORS.glob("*_*.json")) + [VECTORS / "uhashring.json", VECTORS / "rendezvous.json"]:
        read = json.loads(file.read_text())
        for number, case in enumerate(read["cases"]):
            yield pytest.param(read["keys"], case, id=f"{file.stem}-{number}")


def made(case):
    function, arguments = case["placement"]
    return getattr(placement, function)(**arguments)


@pytest.mark.parametrize("kind", [mcext.Client, mcext.Cache])
@pytest.mark.parametrize("keys, case", [*cases()])
def test_a_key_goes_where_the_real_client_sent_it(keys, case, kind):
    servers = [Server(*server) for server in case["servers"]]
    client = kind(servers, placement=made(case))
    wanted = {key: servers[int(digit, 36)].address for key, digit in zip(keys, case["index"], strict=True)}
    assert {key: client.server_for(key) for key in keys} == wanted
    assert {key: client.server_for(key.encode()) for key in keys} == wanted


@pytest.mark.parametrize("file", ["libmemcached_ketama.json", "libmemcached_ketama_weighted.json"])
def test_a_dict_of_pylibmcs_says_the_same(file):
    read = json.loads((VECTORS / file).read_text())
    for case in read["cases"]:
        arguments = case["placement"][1]
        behaviors = {arguments["distribution"]: True, "hash": arguments.get("hash", "default"), "tcp_nodelay": True}
        servers = [Server(*server) for server in case["servers"]]
        client = mcext.Cache(servers, placement=placement.pylibmc(behaviors))
        index = [servers[int(digit, 36)].address for digit in case["index"]]
        assert [client.server_for(key) for key in read["keys"]] == index


HASHKIT = json.loads((VECTORS / "hashkit.json").read_text())


@pytest.mark.parametrize("name", HASHKIT["hashes"])
def test_a_hash_is_that_of_libhashkit(name):
    assert [_core._key_hash(name, key.encode()) for key in HASHKIT["keys"]] == HASHKIT["hashes"][name]


def test_md5_is_md5():
    for length in range(300):
        data = bytes(7 * number % 256 for number in range(length))
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        assert _core._md5(data) == digest
        assert _core._key_hash("md5", data) == int.from_bytes(digest[:4], "little")
        assert _core._key_hash("md5_64", data) == int.from_bytes(digest[:8], "big")


def test_what_is_no_hash_or_no_bytes_is_refused():
    with pytest.raises(ValueError, match="no hash hsieh"):
        _core._key_hash("hsieh", b"key")
    with pytest.raises(TypeError):
        _core._key_hash("md5", "key")
    with pytest.raises(TypeError, match="bytes are needed, not str"):
        _core._md5("key")


def test_md5_needs_none_of_the_systems(monkeypatch):
    """As where cryptography is restricted to what FIPS 140 allows."""

    def refuse(*arguments, **options):
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setattr(hashlib, "md5", refuse)
    monkeypatch.setattr(hashlib, "new", refuse)
    client = mcext.Client(["10.0.0.1", "10.0.0.2"], placement=placement.libmemcached("ketama_weighted"))
    assert client.server_for("foo") in ("10.0.0.1", "10.0.0.2")


# The worked example of docs/fleets.md.

SERVERS = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11212"]
EXAMPLE = [
    (placement.libmemcached(), (0, 0, 2)),
    (placement.libmemcached(hash="md5"), (1, 2, 0)),
    (placement.libmemcached(hash="crc"), (1, 1, 0)),
    (placement.pylibmc({"ketama": True}), (1, 1, 0)),
    (placement.pylibmc({"ketama": True, "hash": "md5"}), (2, 1, 2)),
    (placement.libmemcached("ketama_weighted"), (1, 0, 2)),
    (placement.twemproxy(), (1, 0, 0)),
    (placement.twemproxy("modula"), (2, 0, 0)),
    (placement.libmc(), (2, 1, 2)),
    (placement.pymemcache(), (0, 2, 0)),
    (placement.uhashring(), (2, 0, 2)),
    (placement.uhashring(ketama=True), (1, 0, 2)),
]


@pytest.mark.parametrize("one, wanted", EXAMPLE, ids=repr)
def test_the_worked_example(one, wanted):
    client = mcext.Client(SERVERS, placement=one)
    assert tuple(SERVERS.index(client.server_for(key)) for key in ("foo", "user:42", "käse")) == wanted


def test_the_worked_example_with_weights():
    client = mcext.Client([*SERVERS[:2], (SERVERS[2], 2)], placement=placement.libmemcached("ketama_weighted"))
    assert [SERVERS.index(client.server_for(key)) for key in ("foo", "user:42", "käse")] == [1, 1, 2]


@pytest.mark.parametrize(
    "count, points",
    [(count, 156) for count in (25, 47, 50, 55, 61, 71, 94, 100, 107)] + [(24, 160), (26, 160), (99, 160)],
)
def test_libmemcached_counts_points_in_single_precision(count, points):
    """Of 25 servers of one weight each has 156 points, where 160 were meant."""
    servers = [_core._Server(f"10.0.0.{number}") for number in range(count)]
    rows = placement._rows(servers)
    assert {4 * digests for digests in placement._digests(rows)} == {points}
