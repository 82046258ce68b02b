"""Servers, placement, TLS and authentication: the options of all verbs."""

import socket
import ssl

import pytest
from command_line import mcext
from endpoint import Endpoint

from mcext import Cache, placement
from mcext.cli.options import servers_in
from mcext.cli.placements import placement_of
from mcext.testing import memcached as start

KEYS = [f"key:{number}" for number in range(60)]
AUTH = ("shop", "correct-horse")


@pytest.fixture(scope="module")
def secure():
    with start(tls=True, auth=AUTH) as server:
        yield server


@pytest.fixture(scope="module")
def guarded():
    with start(auth=AUTH) as server:
        yield server


@pytest.fixture
def word(tmp_path):
    path = tmp_path / "word"
    path.write_text(AUTH[1] + "\n")
    return str(path)


# Servers


def test_servers_are_addresses_with_weights_and_commas_between_them():
    given = ["a:1=3, [::1]:2,unix:/tmp/a=b", "elasticache://c:4=2,dns+d"]
    assert servers_in(given) == [
        *(("a:1", 3), ("[::1]:2", 1), ("unix:/tmp/a=b", 1)),
        *(("elasticache://c:4", 2), ("dns+d", 1)),
    ]


def test_servers_come_from_arguments_the_option_and_the_environment(memcached):
    other = "127.0.0.1:1"
    assert mcext("which", "a", "--servers", memcached.address, MCEXT_SERVERS=other).out == memcached.address + "\n"
    assert mcext("which", "a", MCEXT_SERVERS=other).out == other + "\n"
    assert mcext("which", "a").out == "127.0.0.1:11211\n"
    assert mcext("stats", memcached.address, MCEXT_SERVERS=other).status == 0
    assert mcext("stats", "settings", MCEXT_SERVERS=memcached.address).out.startswith("maxbytes ")


def test_a_unix_socket_and_a_name_of_the_dns_are_servers():
    with start(unix=True) as server:
        assert mcext("set", "a", "1", "--servers", server.address).status == 0
        assert mcext("keys", server.address).out == "a\n"
    with start() as server:
        assert (
            mcext("set", "a", "1", "--servers", f"dns+127.0.0.1:{server.port}", "--placement", "rendezvous").status == 0
        )
        assert mcext("keys", f"dns+127.0.0.1:{server.port}") == (0, "a\n", "")


def test_servers_that_an_endpoint_names_are_asked(memcached):
    with Endpoint([memcached.address]) as endpoint:
        assert mcext("set", "a", "1", "--servers", endpoint.source, "--placement", "ketama") == (0, "a: stored\n", "")
        assert mcext("keys", endpoint.source) == (0, "a\n", "")
        done = mcext("which", "a", "--servers", endpoint.source, "--placement", "ketama")
        assert done == (0, memcached.address + "\n", "")
        for words in (["stats", "settings"], ["check"], ["flush", "--yes"]):
            done = mcext(*words, endpoint.source)
            assert done.status == 0 and done.err == "", words


def test_an_endpoint_that_names_no_servers_is_said_in_one_line():
    with Endpoint() as endpoint:
        endpoint.says = b"SERVER_ERROR \x1b[31m\r\n"
        for words in (["keys"], ["check"], ["copy", "a:1"], ["copy"], ["stats"], ["flush", "--yes"], ["top", "--json"]):
            more = ["a:1", "--placement", "ketama"] if words == ["copy"] else []
            done = mcext(*words, endpoint.source, *more)
            assert done.status == 1 and endpoint.source in done.err and done.err.count("\n") <= 2, words


def test_a_placement_that_moves_most_keys_is_warned_of_where_keys_are_placed(memcached):
    with Endpoint([memcached.address]) as endpoint:
        done = mcext("get", "a", "--servers", endpoint.source)
    assert done.err.startswith("mcext: warning: servers are found by asking") and done.err.count("\n") == 2


@pytest.mark.parametrize("servers", ["x:y", "127.0.0.1:1:2", "http://a", ",", "a:1,a:1", "unix:"])
def test_what_is_no_list_of_servers_is_wrong_use(servers):
    for words in (["get", "a"], ["which", "a"], ["keys"], ["stats"], ["check"]):
        done = mcext(*words, "--servers", servers)
        assert done.status == 2 and done.err.count("\n") == 1


# Placement


@pytest.mark.parametrize(
    "text, made",
    [
        ("rendezvous", placement.rendezvous()),
        ("ketama", placement.libmemcached("ketama")),
        ("libmemcached:distribution=ketama_weighted,hash=md5", placement.libmemcached("ketama_weighted", "md5")),
        ("pylibmc:ketama=true,hash=md5", placement.pylibmc({"ketama": True, "hash": "md5"})),
        ("twemproxy:hash_tag={}", placement.twemproxy(hash_tag="{}")),
        ("uhashring:ketama=true", placement.uhashring(ketama=True)),
        ("libmc:hash=crc32", placement.libmc("crc32")),
        ("pymemcache", placement.pymemcache()),
        ("python_memcached", placement.python_memcached()),
    ],
)
def test_which_chooses_as_a_cache_with_the_same_placement_does(text, made):
    assert placement_of(text) == made
    servers = [("10.0.0.1:11211", 2), ("10.0.0.2:11211", 1), ("10.0.0.3:11311", 1)]
    cache = Cache(servers, placement=made)
    listed = ",".join(f"{address}={weight}" for address, weight in servers)
    done = mcext("which", *KEYS, "--servers", listed, "--placement", text)
    assert done.out.splitlines() == [f"{cache.server_for(key)}  {key}" for key in KEYS] and done.status == 0


@pytest.mark.parametrize(
    "text",
    [
        "ketma",
        "rendezvous:a=1",
        "libmemcached:hash",
        "libmemcached:hash=sha",
        "pylibmc:ketama=perhaps",
        "",
        "Placement",
    ],
)
def test_what_is_no_placement_is_wrong_use(text):
    done = mcext("which", "a", "--placement", text or ":")
    assert done.status == 2 and done.err.startswith("mcext: --placement") and done.err.count("\n") == 1


# TLS and authentication


def secured(server, *words, **options):
    return mcext(*words, "--servers", server.address, "--tls-ca", server.ca_file, "--username", AUTH[0], **options)


@pytest.mark.parametrize(
    "words",
    [
        ["set", "a", "1"],
        ["get", "a"],
        ["stats"],
        ["keys"],
        ["check"],
        ["set", "e", ""],
        ["get", "e"],
        ["flush", "--yes"],
    ],
    ids=" ".join,
)
def test_verbs_speak_tls_and_say_the_password(secure, words):
    for key, value in (("a", "1"), ("e", "")):
        assert secured(secure, "set", key, value, MCEXT_PASSWORD=AUTH[1]).status == 0
    done = secured(secure, *words, MCEXT_PASSWORD=AUTH[1])
    assert done.status == 0 and done.err == ""


def test_a_certificate_that_nobody_vouches_for_is_not_believed(secure):
    for words in (["get", "a"], ["keys"], ["check"]):
        done = mcext(*words, "--servers", secure.address, "--tls")
        assert done.status == 1 and "certificate verify failed" in done.out + done.err


def test_the_name_in_the_certificate_is_that_of_the_option(secure):
    done = secured(secure, "get", "a", "--tls-server-hostname", "other.example", MCEXT_PASSWORD=AUTH[1])
    assert done.status == 1 and "mismatch" in done.err.lower()
    done = secured(secure, "keys", "--tls-server-hostname", "other.example", MCEXT_PASSWORD=AUTH[1])
    assert done.status == 1 and "mismatch" in done.err.lower()
    assert secured(secure, "keys", "--tls-server-hostname", "localhost", MCEXT_PASSWORD=AUTH[1]).status == 0


def test_a_certificate_is_shown_to_a_server_that_wants_one():
    with start("-o", "ssl_verify_mode=2", tls=True) as server:
        shown = ["--tls-ca", server.ca_file, "--tls-cert", server.certificate_file]
        assert mcext("keys", server.address, *shown) == (0, "", "")
        assert mcext("set", "a", "1", "--servers", server.address, *shown).status == 0
        assert mcext("keys", server.address, *shown[:2], "--timeout", "1").status == 1


@pytest.mark.parametrize("option", ["--tls-ca", "--tls-cert", "--password-file"])
def test_a_file_that_is_not_there_is_wrong_use(option, tmp_path):
    done = mcext("get", "a", option, str(tmp_path / "none"), "--username", "shop", MCEXT_PASSWORD="x")
    assert done.status == 2 and option in done.err and "No such file" in done.err


def test_what_needs_another_option_says_so(tmp_path):
    assert "--tls-cert" in mcext("get", "a", "--tls-key", "k").err
    assert "--username" in mcext("get", "a", "--password-file", "p").err


def test_the_password_comes_from_a_file_or_the_environment(guarded, word):
    for words in (["set", "a", "1", "--servers", guarded.address], ["keys", guarded.address]):
        assert mcext(*words, "--username", AUTH[0], "--password-file", word).status == 0
        assert mcext(*words, "--username", AUTH[0], MCEXT_PASSWORD=AUTH[1]).status == 0


def test_who_is_not_let_in_is_told_so_and_the_password_is_shown_nowhere(guarded):
    for words in (["get", "a"], ["keys"], ["stats"], ["check"], ["flush", "--yes"]):
        done = mcext(*words, "--servers", guarded.address, "--username", "shop", MCEXT_PASSWORD="battery-staple")
        assert done.status == 1 and "battery-staple" not in done.out + done.err
        assert "does not take" in done.out + done.err, words
        done = mcext(*words, "--servers", guarded.address)
        assert done.status == 1 and any(said in done.out + done.err for said in ("wants", "unauthenticated")), words


def test_a_password_in_clear_to_another_machine_is_warned_of_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        # It sends nothing, and tells the address that this machine has outside.
        error = there.connect_ex(("192.0.2.1", 9))
        address = there.getsockname()[0]
    if error or address.startswith("127."):
        pytest.skip("this machine has no address but its own")
    with start("-l", address, auth=AUTH) as server:
        for words in (["keys"], ["get", "a"], ["check"]):
            done = mcext(*words, "--servers", server.address, "--username", AUTH[0], MCEXT_PASSWORD=AUTH[1])
            warned = [line for line in done.err.splitlines() if line.startswith("mcext: warning: ")]
            assert len(warned) == 1 and f"{address} in clear" in warned[0], words


def test_no_option_takes_a_password_as_an_argument():
    done = mcext("get", "--help")
    assert done.status == 0 and "--password " not in done.out and "--password-file" in done.out


def test_a_context_is_made_as_the_library_would(secure):
    """All that TLS may do is what ssl.create_default_context says."""
    from argparse import Namespace

    from mcext.cli.options import fleet_of

    plain = {"tls_cert": None, "tls_key": None, "tls_server_hostname": None, "username": None, "password_file": None}
    given = Namespace(tls=False, tls_ca=secure.ca_file, timeout=1.0, **plain)
    context = fleet_of(["a"], given).access.tls_context
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
