"""What the configuration of a framework becomes: options of Cache, and its servers."""

import ssl

import pytest

import mcext
from mcext import codecs, placement
from mcext.settings import cache_options, options_known, options_of_query, server_list

SOURCE = "OPTIONS of CACHES['default']"

# What the dotted paths below lead to.
context = ssl.create_default_context()
told = []


def make_context():
    return context


def broken_context():
    raise RuntimeError("no certificate")


def hook(event):
    told.append(event)


def options_of(**options):
    return cache_options(options, source=SOURCE)


def test_options_are_the_caches_own_and_go_on_as_they_are():
    given = {"timeout": 0.5, "prefix": "shop:", "username": "a.b", "password": "ssl.create_default_context", "slow": 1}
    assert options_of(**given) == given
    assert options_of() == {}


def test_every_keyword_of_a_cache_is_an_option():
    given = dict.fromkeys(options_known())
    assert {"timeout", "errors", "tls_context", "password"} < given.keys()
    assert "servers" not in given and options_of(**given) == given
    assert options_known(mcext.AsyncCache) == [*given, "connections", "max_pending"]


def test_a_dotted_path_gives_the_object_or_what_its_callable_gives():
    assert options_of(tls_context=f"{__name__}.context")["tls_context"] is context
    assert options_of(tls_context=f"{__name__}.make_context")["tls_context"] is context
    assert isinstance(options_of(tls_context="ssl.create_default_context")["tls_context"], ssl.SSLContext)
    assert options_of(placement="mcext.placement.rendezvous")["placement"] == placement.rendezvous()
    assert isinstance(options_of(codec="mcext.codecs.JSON")["codec"], codecs.JSON)
    assert options_of(compression="mcext.Compression")["compression"] == mcext.Compression()


def test_a_hook_is_found_and_not_called():
    assert options_of(on_event=f"{__name__}.hook")["on_event"] is hook
    assert told == []


def test_an_object_is_no_path():
    codec = codecs.JSON()
    assert options_of(codec=codec, on_event=hook, tls_context=context) == {
        "codec": codec,
        "on_event": hook,
        "tls_context": context,
    }


def test_what_they_give_makes_a_cache(memcached):
    options = options_of(codec="mcext.codecs.JSON", placement="mcext.placement.rendezvous", timeout=2, errors="miss")
    with mcext.Cache(server_list(memcached.address), **options) as cache:
        assert cache.set("a", {"n": [1]}) and cache.get("a") == {"n": [1]}


@pytest.mark.parametrize("options, words", [({"timeuot": 1}, "did you mean 'timeout'"), ({"behaviors": {}}, "timeout")])
def test_an_option_that_there_is_not_is_named_with_its_place(options, words):
    with pytest.raises(ValueError) as caught:
        options_of(**options)
    assert SOURCE in str(caught.value) and repr(next(iter(options))) in str(caught.value)
    assert words in str(caught.value)


def test_options_of_an_async_cache_are_its_own():
    given = {"connections": 4, "max_pending": 10, "timeout": 1}
    assert cache_options(given, source=SOURCE, of=mcext.AsyncCache) == given
    with pytest.raises(ValueError, match="'connections'"):
        options_of(connections=4)


@pytest.mark.parametrize(
    "path, words",
    [
        ("context", "dotted path"),
        ("no_such_module.context", "No module named 'no_such_module'"),
        (f"{__name__}.nothing", "has no attribute 'nothing'"),
    ],
)
def test_a_path_that_leads_nowhere_says_which_option_and_why(path, words):
    with pytest.raises(ValueError) as caught:
        options_of(tls_context=path)
    for part in (SOURCE, "tls_context", repr(path), words):
        assert part in str(caught.value)


def test_what_a_callable_raises_is_raised():
    with pytest.raises(RuntimeError, match="no certificate"):
        options_of(tls_context=f"{__name__}.broken_context")


def test_options_must_be_a_mapping():
    with pytest.raises(TypeError, match=r"CACHES\['default'\] must be a dict"):
        cache_options([("timeout", 1)], source=SOURCE)


def test_a_query_becomes_numbers_and_truth_values():
    pairs = [("timeout", "0.5"), ("max_value_length", "1000"), ("allow_pickle", "False"), ("prefix", "1")]
    assert options_of_query(pairs, source="the URL") == {
        "timeout": 0.5,
        "max_value_length": 1000,
        "allow_pickle": False,
        "prefix": "1",
    }


@pytest.mark.parametrize(
    "name, text, kind",
    [
        ("timeout", "soon", "a number"),
        ("max_value_length", "1.5", "a whole number"),
        ("allow_pickle", "maybe", "true or false"),
    ],
)
def test_a_query_that_cannot_be_read_is_named(name, text, kind):
    with pytest.raises(ValueError, match=f"the URL: {name} must be {kind}, not '{text}'"):
        options_of_query([(name, text)], source="the URL")


def test_an_option_that_stands_twice_in_a_query_is_refused():
    with pytest.raises(ValueError, match="'timeout' stands there twice"):
        options_of_query([("timeout", "1"), ("timeout", "2")], source="the URL")


@pytest.mark.parametrize(
    "location, servers",
    [
        ("a:1", ["a:1"]),
        ("a:1;b:2", ["a:1", "b:2"]),
        (" a:1, b:2\n[::1]:3 ", ["a:1", "b:2", "[::1]:3"]),
        ("unix:/run/mc.sock;elasticache://c:4", ["unix:/run/mc.sock", "elasticache://c:4"]),
        (["unix:/run/my socket", ("a:1", 2)], ["unix:/run/my socket", ("a:1", 2)]),
        (("a:1", "b:2"), ["a:1", "b:2"]),
        (("a:1", 2), [("a:1", 2)]),
        (mcext.Server("a:1", 2, "one"), [mcext.Server("a:1", 2, "one")]),
        ([mcext.Server("a:1"), "b:2"], [mcext.Server("a:1"), "b:2"]),
    ],
)
def test_servers_are_a_text_a_list_or_one(location, servers):
    found = server_list(location)
    assert found == servers and list(map(type, found)) == list(map(type, servers))


@pytest.mark.parametrize("location", ["", " ; ", [], ()])
def test_no_server_at_all_is_refused(location):
    with pytest.raises(ValueError, match="servers must name one"):
        server_list(location)


@pytest.mark.parametrize("location", [None, 11211, b"a:1", {"a:1"}])
def test_what_is_no_list_is_refused(location):
    with pytest.raises(TypeError, match="servers must be a str or a list"):
        server_list(location)
