"""The quick start runs as the README says, on each kind of address. The others: test_cherrypy, test_twisted."""

import subprocess
import sys

import pytest

from mcext.testing import memcached

pytestmark = pytest.mark.frameworks

OUTPUT = """\
get: hello
a miss: None a default
counter: 1 11 10
not stored: []
get_multi: [('ada', {'born': 1815}), ('alan', {'born': 1912})]
add: True False
compressed: True
"""


def run(examples, environment, *arguments):
    return subprocess.run(
        [sys.executable, examples / "quickstart.py", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_on_tcp_and_on_a_unix_socket_and_on_two_servers(examples, environment):
    with memcached() as tcp, memcached(unix=True) as unix:
        for addresses in ([tcp.address], [unix.address], [tcp.address, unix.address]):
            done = run(examples, environment, *addresses)
            assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT, "")


def test_says_that_nobody_answers(examples, environment, tmp_path):
    done = run(examples, environment, f"unix:{tmp_path}/nothing")
    assert done.returncode == 1
    assert "no memcached answers at unix:" in done.stderr


def test_says_how_to_run_it(examples, environment):
    done = run(examples, environment)
    assert done.returncode == 1
    assert "quickstart.py 127.0.0.1:11211" in done.stderr


def test_the_readme_shows_what_comes_out(examples):
    text = (examples.parent / "README.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    shown = 0
    with memcached() as server:
        names = {}
        for line in code.replace("127.0.0.1:11211", server.address).splitlines():
            statement, _, comment = line.partition("  # ")
            if not comment or "=" in statement.partition("(")[0]:
                exec(statement, names)
            else:
                # A comment is the value, or the value and a word about it after a colon.
                value = repr(eval(statement, names))
                assert comment == value or comment.startswith(f"{value}: "), (statement, value, comment)
                shown += 1
    assert shown == 5
