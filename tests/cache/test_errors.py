"""The exceptions of mcext.Cache: what they are, what they carry, and that they survive copying and pickling."""

import copy
import pickle
import subprocess
import sys

import pytest

import mcext
from mcext import errors

KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.ServerUnavailable, ConnectionError),
        (errors.ServerTimeout, TimeoutError),
        (errors.ConnectionLost, ConnectionError),
        (errors.DecodeError, ValueError),
        (errors.ValueTooLarge, errors.ServerError),
    ],
)
def test_each_is_also_what_python_calls_it(kind, also):
    with pytest.raises(also) as caught:
        raise kind("no")
    assert type(caught.value) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_found_in_mcext_and_is_a_memcache_error(kind):
    assert getattr(mcext, kind.__name__) is kind
    assert issubclass(kind, errors.MemcacheError)


@pytest.mark.parametrize("kind", KINDS)
def test_each_says_server_command_and_whether_it_may_have_run(kind):
    error = kind("boom", server="10.0.0.1:11211", command="incr", may_have_run=True)
    assert (error.server, error.command, error.may_have_run) == ("10.0.0.1:11211", "incr", True)
    assert error.args == ("boom",)
    assert str(error) == "boom (incr, server 10.0.0.1:11211, it may have been carried out)"
    bare = kind("boom")
    assert (bare.server, bare.command, bare.may_have_run) == (None, None, False)
    assert str(bare) == "boom"


def test_what_is_not_known_is_left_out_of_the_words():
    assert str(errors.MemcacheError("boom", command="get")) == "boom (get)"
    assert str(errors.ServerTimeout("boom", server="a:1")) == "boom (server a:1)"


def test_the_servers_own_words_are_the_message():
    assert errors.ServerError("SERVER_ERROR out of memory", server="a:1").message == "SERVER_ERROR out of memory"


def test_server_and_command_are_given_by_keyword_alone():
    with pytest.raises(TypeError):
        errors.ServerTimeout("boom", "10.0.0.1:11211")


def copies(error):
    yield copy.copy(error)
    yield copy.deepcopy(error)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(error, protocol))


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_all_that_the_error_has(kind):
    error = kind("boom", server="a:1", command="get", may_have_run=True)
    error.noted = "by the application"
    for other in copies(error):
        assert type(other) is kind
        assert (other.args, str(other), other.__dict__) == (error.args, str(error), error.__dict__)


def test_a_copy_of_what_has_more_has_that_too():
    for other in copies(errors.DecodeError("boom", flags=40)):
        assert other.flags == 40
    inner = errors.ServerTimeout("late", server="a:1")
    failure = errors.PartialFailure("boom", result={"k": 1}, errors={"a:1": inner}, keys=iter(["x", b"y"]))
    assert failure.errors == {"a:1": inner}
    for other in copies(failure):
        assert (other.result, other.keys) == ({"k": 1}, ["x", b"y"])
        assert str(other.errors["a:1"]) == "late (server a:1)"
        assert isinstance(other.errors["a:1"], TimeoutError)


def test_a_partial_failure_says_what_is_not_done_and_why():
    late = errors.ServerTimeout("timed out", server="a:1", command="set", may_have_run=True)
    gone = errors.ServerUnavailable("refused", server="b:1", command="set")
    failure = errors.partial_failure("set", ["x"], {"b:1": gone}, ["x"])
    assert str(failure) == "1 key was not done; b:1: refused (set)"
    assert (failure.result, failure.errors, failure.keys) == (["x"], {"b:1": gone}, ["x"])
    assert (failure.command, failure.server, failure.may_have_run) == ("set", None, False)
    failure = errors.partial_failure("set", [], {"b:1": gone, "a:1": late}, ["x", b"y"])
    assert failure.may_have_run
    assert failure.args == ("2 keys were not done; b:1: refused; a:1: timed out",)


def test_each_failure_has_a_dict_and_a_list_of_its_own():
    one, other = errors.PartialFailure("a"), errors.PartialFailure("b")
    one.errors["a:1"] = ValueError()
    one.keys.append("k")
    assert (other.errors, other.keys, other.result) == ({}, [], None)


def test_importing_mcext_imports_none_of_what_new_code_alone_needs():
    names = ["errors", "codecs", "compress", "prometheus", "otel"]
    program = f"import sys, mcext; print([n for n in {names} if 'mcext.' + n in sys.modules]); print(mcext.DecodeError)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n<class 'mcext.errors.DecodeError'>\n"
