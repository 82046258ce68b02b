"""What is asked which servers there are: what it may answer, and what is believed of that."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import over_tls
import ports
import pytest
from endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import CLOSE, PATIENCE, STALL

import mcext
from mcext.sources import Dns, ElastiCache, Found, Settings, parse_configuration, take_apart

AT_ONCE = 20 * PATIENCE
SUPPORT = Path(__file__).resolve().parents[1] / "support"


# ---- a configuration -----------------------------------------------------------------------------------------------

hosts = st.one_of(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,60}[A-Za-z0-9])?", fullmatch=True),
    st.just("0001.example.euw1.cache.amazonaws.com"),
)
ips = st.one_of(st.ip_addresses().map(str))
nodes = st.tuples(st.one_of(st.just(""), hosts), ips, st.integers(1, 65535))


def expected(host, ip, port):
    name = host or ip
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


@given(st.integers(0, 10**19 - 1), st.lists(nodes, min_size=1, max_size=6), st.sampled_from(["\n", "\r\n", ""]))
def test_a_configuration_is_read_as_it_was_written(version, rows, end):
    text = f"{version}\n{' '.join(f'{host}|{ip}|{port}' for host, ip, port in rows)}{end}"
    assert parse_configuration(text.encode()) == Found(version, [expected(*row) for row in rows])


def test_what_the_vendor_shows():
    """The example of AWS's documentation, 136 bytes."""
    body = (
        b"12\n"
        b"myCluster.pc4ldq.0001.use1.cache.amazonaws.com|10.82.235.120|11211 "
        b"myCluster.pc4ldq.0002.use1.cache.amazonaws.com|10.80.249.27|11211\n"
    )
    assert len(body) == 136
    assert parse_configuration(body) == Found(
        12,
        [
            "myCluster.pc4ldq.0001.use1.cache.amazonaws.com:11211",
            "myCluster.pc4ldq.0002.use1.cache.amazonaws.com:11211",
        ],
    )


@given(
    st.one_of(
        st.binary(max_size=200),
        st.from_regex(rb"[0-9]{1,25}\n[a-z0-9|.: -]{0,80}\n?", fullmatch=True),
        st.from_regex(rb"1\n([a-z]{0,3}\|[0-9.]{0,4}\|[0-9]{1,6} ?){0,4}\n?", fullmatch=True),
    )
)
def test_any_bytes_are_a_configuration_or_a_value_error(body):
    try:
        found = parse_configuration(body)
    except ValueError:
        return
    assert 1 <= len(found.addresses) <= 1000
    for address in found.addresses:
        assert 0 < len(address.rpartition(":")[0]) <= 257 and 1 <= int(address.rpartition(":")[2]) <= 65535
        mcext.Client([address])  # which takes it


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1\n",
        b"1\n\n",
        b"\na|b|1\n",
        b"-1\na|1.2.3.4|1\n",
        b"1" * 20 + b"\na|1.2.3.4|1\n",
        b"1 \na|1.2.3.4|1\n",
        b"1\na|1.2.3.4|0\n",
        b"1\na|1.2.3.4|65536\n",
        b"1\na|1.2.3.4|99999\n",
        b"1\na|1.2.3.4|+1\n",
        b"1\na|1.2.3.4|\n",
        b"1\n||1\n",
        b"1\na|1.2.3.4\n",
        b"1\na|1.2.3.4|1|2\n",
        b"1\na|1.2.3.4|1  b|1.2.3.4|1\n",
        b"1\na|1.2.3.4|1\nb|1.2.3.4|1\n",
        b"1\na|1.2.3.4|1\t\n",
        b"1\na|nothing|1\n",
        b"1\na b|1.2.3.4|1\n",
        b"1\n/tmp/x|1.2.3.4|1\n",
        b"1\n[a|1.2.3.4|1\n",
        b"1\na\x00|1.2.3.4|1\n",
        b"1\n\xe4|1.2.3.4|1\n",
        b"1\n" + b"a" * 256 + b"|1.2.3.4|1\n",
        b"1\n" + b" ".join(b"a%d|1.2.3.4|1" % i for i in range(1001)) + b"\n",
        "1\n\u0661|1.2.3.4|1\n".encode(),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_configuration(body):
    with pytest.raises(ValueError):
        parse_configuration(body)


def test_a_thousand_nodes_of_the_longest_names():
    names = [b"%04d" % i + b"a" * 251 for i in range(1000)]
    body = b"7\n" + b" ".join(b"%s|1.2.3.4|11211" % name for name in names) + b"\n"
    assert len(parse_configuration(body).addresses) == 1000
    with Endpoint() as endpoint:
        endpoint.says = b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(body), body)
        assert len(look(endpoint).addresses) == 1000


# ---- an endpoint ---------------------------------------------------------------------------------------------------


CONTEXT = over_tls.context()


def look(endpoint, seconds=AT_ONCE, context=CONTEXT, name=None):
    return ElastiCache(endpoint.host, endpoint.port).look(Settings(seconds, context, name))


@pytest.mark.parametrize("old", [False, True], ids=["config get cluster", "get AmazonElastiCache:cluster"])
def test_both_commands(old):
    with Endpoint(["a:1", "b:2", "c|10.0.0.1|3", "|::1|4"], old=old) as endpoint:
        assert look(endpoint) == Found(1, ["a:1", "b:2", "c:3", "[::1]:4"])
        assert endpoint.commands == [b"config get cluster\r\n", b"get AmazonElastiCache:cluster\r\n"][: 1 + old]
        assert endpoint.connections[0].closed.wait(AT_ONCE)


@pytest.mark.parametrize("old", [False, True], ids=["config get cluster", "get AmazonElastiCache:cluster"])
def test_an_answer_cut_at_every_byte_is_none(old):
    with Endpoint(["a:1", "b:2"], old=old) as endpoint:
        whole = endpoint.answer
        for length in range(len(whole)):
            endpoint.says = (whole[:length], CLOSE)
            with pytest.raises((OSError, ValueError)):
                look(endpoint)
        endpoint.says = whole
        assert look(endpoint).addresses == ["a:1", "b:2"]


def test_an_answer_in_pieces_of_one_byte_is_one():
    with Endpoint(["a:1", "b:2"]) as endpoint:
        endpoint.says = tuple(endpoint.answer[i : i + 1] for i in range(len(endpoint.answer)))
        assert look(endpoint).addresses == ["a:1", "b:2"]


BODY = b"1\na||1\n"
HOSTILE = {
    "ERROR": b"ERROR\r\n",
    "an error with words": b"SERVER_ERROR out of memory\r\n",
    "refused without a name": b"CLIENT_ERROR unauthenticated\r\n",
    "none": b"END\r\n",
    "another key": b"CONFIG other 0 %d\r\n%s\r\nEND\r\n" % (len(BODY), BODY),
    "the old command's answer": b"VALUE AmazonElastiCache:cluster 0 %d\r\n%s\r\nEND\r\n" % (len(BODY), BODY),
    "a negative length": b"CONFIG cluster 0 -1\r\n%s\r\nEND\r\n" % BODY,
    "a length of words": b"CONFIG cluster 0 many\r\n%s\r\nEND\r\n" % BODY,
    "a length of 4 GB": b"CONFIG cluster 0 4294967296\r\n" + BODY,
    "a length of 9 MB": b"CONFIG cluster 0 9999999\r\n" + BODY,
    "a length too short": b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(BODY) - 1, BODY),
    "a length too long": (b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(BODY) + 9, BODY), CLOSE),
    "the length of nothing": b"CONFIG cluster 0 0\r\n\r\nEND\r\n",
    "no end": b"CONFIG cluster 0 %d\r\n%s\r\nEND \r\n" % (len(BODY), BODY),
    "a line that does not end": (b"C" * 100_000, STALL),
    "a web page": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "nothing": CLOSE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_answer(name):
    with Endpoint() as endpoint:
        endpoint.says = HOSTILE[name]
        with pytest.raises((OSError, ValueError)):
            look(endpoint)


@pytest.mark.parametrize(
    "said", [STALL, (b"CONFIG", STALL), (b"CONFIG cluster 0 500000\r\n1\na", STALL)], ids=["all", "a line", "a body"]
)
def test_silence_costs_the_time_that_there_is(said):
    with Endpoint() as endpoint:
        endpoint.says = said
        with pytest.raises(TimeoutError):
            look(endpoint, 0.05)


def test_an_endpoint_that_sends_for_ever_costs_the_time_that_there_is():
    """Each byte comes soon enough; all of them do not."""
    enough = threading.Event()
    with ports.listen() as listener:

        def serve():
            stream = over_tls.server_end(listener.accept()[0])
            with stream, contextlib.suppress(OSError):
                stream.sendall(b"CONFIG cluster 0 500000\r\n")
                while not enough.wait(0.005):
                    stream.sendall(b"1")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                ElastiCache("127.0.0.1", listener.getsockname()[1]).look(Settings(0.2, CONTEXT))
        finally:
            enough.set()
            thread.join()


def test_each_address_of_the_endpoints_name_is_tried():
    """localhost is ::1 first, where nothing listens."""
    with Endpoint(["a:1"]) as endpoint:
        assert ElastiCache("localhost", endpoint.port).look(Settings(AT_ONCE, CONTEXT)).addresses == ["a:1"]


class Encrypted:
    """An endpoint over TLS, whose certificate is for 127.0.0.1, behind a plain one."""

    def __init__(self, endpoint, folder):
        self.certificate = str(folder / "certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=endpoint"]
            + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", self.certificate],
            check=True,
            capture_output=True,
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, str(folder / "key.pem"))
        self._endpoint = endpoint
        self._listener = ports.listen()
        self.host, self.port = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with plain, contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as stream:
                    command = stream.recv(100)
                    with socket.create_connection((self._endpoint.host, self._endpoint.port)) as behind:
                        behind.sendall(command + b"quit\r\n")
                        stream.sendall(b"".join(iter(lambda: behind.recv(1 << 16), b"")))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_an_endpoint_over_tls_is_verified(tmp_path):
    with Endpoint(["a:1"], tls=None) as endpoint, Encrypted(endpoint, tmp_path) as encrypted:
        trusted = ssl.create_default_context(cafile=encrypted.certificate)
        assert look(encrypted, context=trusted).addresses == ["a:1"]
        assert look(encrypted, context=trusted, name="127.0.0.1").addresses == ["a:1"]
        for context, name in ((ssl.create_default_context(), None), (trusted, "other.example")):
            with pytest.raises(ssl.SSLCertVerificationError):
                look(encrypted, context=context, name=name)
        with pytest.raises((OSError, ValueError)):
            look(encrypted, context=None)
        assert endpoint.looks == 2
        endpoint.says = STALL
        with pytest.raises(TimeoutError):
            look(endpoint, 0.05, context=trusted)


# ---- names ---------------------------------------------------------------------------------------------------------


def test_the_addresses_of_a_name_are_in_order_whatever_the_answers(monkeypatch):
    found = [[("10.0.0.9", 5), ("10.0.0.10", 5)], [("fd00::1", 5, 0, 0), ("10.0.0.10", 5), ("10.0.0.9", 5)]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *unused: [(0, 0, 0, "", where) for where in found.pop(0)])
    dns = Dns("cache.example", 5)
    first = dns.look(Settings(1))
    assert first == Found(None, ["10.0.0.10:5", "10.0.0.9:5"])
    second = dns.look(Settings(1))
    assert second.addresses == ["10.0.0.10:5", "10.0.0.9:5", "[fd00::1]:5"]
    assert second.is_news(first) and not second.is_news(second) and first.is_news(None)


def test_a_name_with_no_address_or_too_many_is_an_error(monkeypatch):
    dns = Dns("cache.example", 5)
    for count in (0, 1001):
        rows = [(0, 0, 0, "", (f"10.1.{i >> 8}.{i & 255}", 5)) for i in range(count)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *unused, rows=rows: rows)
        with pytest.raises(ValueError):
            dns.look(Settings(1))


def test_only_a_greater_version_is_news():
    known = Found(5, ["a:1"])
    assert [Found(version, ["b:1"]).is_news(known) for version in (4, 5, 6)] == [False, False, True]


NAMESPACE = """
import threading, sys
sys.path[:0] = [{root!r}, {support!r}]
import warnings; warnings.simplefilter("ignore")
from name_server import NameServer
import mcext
from mcext.testing import memcached

HERE = {here!r}
with NameServer(HERE) as names, memcached("-l", "127.83.12.11") as one, memcached("-l", "127.83.12.10") as two:
    port = one.port
    two._port = port
    two.restart()  # both listen on one port, as a headless service's do
    names.records["cache.test"] = ["127.83.12.11"]
    for client in (
        mcext.Client([f"dns+cache.test:{{port}}"], socket_timeout=20),
        mcext.Cache([f"dns+cache.test:{{port}}"], timeout=20),
    ):
        def listed():
            if isinstance(client, mcext.Cache):
                return [server.address for server in client.servers]
            return [f"{{host.ip}}:{{host.port}}" for host in client.servers]

        names.records["cache.test"] = ["127.83.12.11"]
        assert client.set("k", 1) is True and listed() == [f"127.83.12.11:{{port}}"], listed()
        for addresses in (["127.83.12.11", "127.83.12.10"], ["127.83.12.10", "127.83.12.11"]):
            names.records["cache.test"] = addresses
            client.refresh_servers()
            assert listed() == [f"127.83.12.10:{{port}}", f"127.83.12.11:{{port}}"], listed()
        names.records["cache.test"] = []  # a service without pods: nothing is changed
        try:
            client.refresh_servers()
            assert isinstance(client, mcext.Client)
        except mcext.ServerUnavailable as error:
            assert f"dns+cache.test:{{port}}" in str(error)
        assert len(listed()) == 2
        names.records["cache.test"] = ["127.83.12.10"]
        client.refresh_servers()
        assert listed() == [f"127.83.12.10:{{port}}"], listed()
        assert client.set("k", 2) is True and client.get("k") == 2
    plain = mcext.Client([f"cache.test:{{port}}"], socket_timeout=20)  # one server, whatever its addresses
    assert plain.set("k", 3) is True and len(plain.servers) == 1
print("done")
"""


def test_each_address_of_a_name_is_a_server_as_its_name_server_says(tmp_path):
    """With a name server of its own, in a mount namespace that has another /etc/resolv.conf."""
    here = f"127.83.12.{os.getpid() % 200 + 20}"
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {here}\noptions timeout:2 attempts:2\n")
    inside = ["unshare", "-m", "sh", "-c", f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace is not allowed here")
    root = str(Path(mcext.__file__).resolve().parents[1])
    script = textwrap.dedent(NAMESPACE).format(root=root, support=str(SUPPORT), here=here)
    done = subprocess.run([*inside, sys.executable, "-c", script], capture_output=True, text=True, timeout=6 * AT_ONCE)
    assert done.stdout == "done\n", done.stderr


# ---- what users write ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, kind, host, port, weight",
    [
        ("elasticache://a.cfg.example:11211", ElastiCache, "a.cfg.example", 11211, 1),
        ("elasticache://a.cfg.example", ElastiCache, "a.cfg.example", 11211, 1),
        (("elasticache://[::1]:5", 3), ElastiCache, "::1", 5, 3),
        ("dns+a.example:5", Dns, "a.example", 5, 1),
        (("dns+a.example", 2), Dns, "a.example", 11211, 2),
    ],
)
def test_a_source_is_taken_apart(given, kind, host, port, weight):
    source, found = take_apart(given)
    assert (type(source), source.host, source.port, found) == (kind, host, port, weight)
    shown = f"[{host}]" if ":" in host else host
    assert str(source) == f"{kind.prefix}{shown}:{port}"


WRONG = [
    ("elasticache://", ValueError),
    ("elasticache://:5", ValueError),
    ("elasticache://a:x", ValueError),
    ("elasticache://a:5/", ValueError),
    ("elasticache:///tmp/x", ValueError),
    ("dns+", ValueError),
    ("dns+unix:/tmp/x", ValueError),
    (("dns+a:1", "2"), TypeError),
    (("dns+a:1", 1, 1), (ValueError, TypeError)),
]


@pytest.mark.parametrize("wrong, error", WRONG, ids=[repr(wrong) for wrong, _ in WRONG])
@pytest.mark.parametrize("make", [mcext.Client, mcext.Cache])
@pytest.mark.filterwarnings("ignore:servers are found by asking")
def test_a_wrong_source_is_refused_and_changes_nothing(make, wrong, error):
    with pytest.raises(error):
        make([wrong])
    client = make(["a:1", "dns+b:2"])
    client.set_servers(["a:1"])
    before = client.servers
    for servers in ([wrong], ["b:1", wrong], ["dns+b:3", wrong], ["dns+b:3", "c:x"]):
        with pytest.raises((TypeError, ValueError)):
            client.set_servers(servers)
        assert client.servers == before
