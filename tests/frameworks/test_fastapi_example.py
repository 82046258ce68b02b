"""examples/fastapi_cache.py does what it says, in starlette's test client, under uvicorn, and in plain Starlette."""

import asyncio
import contextlib
import importlib.util
import subprocess
import sys

import over_tls
import ports
import pytest

import mcext

pytestmark = pytest.mark.frameworks


@pytest.fixture
def example(examples, monkeypatch):
    spec = importlib.util.spec_from_file_location("fastapi_cache", examples / "fastapi_cache.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_cache", module)  # FastAPI looks for the annotations there
    spec.loader.exec_module(module)
    # The half second of the example is for a site: here a server that is not run for so long would be taken for dead.
    monkeypatch.setattr(module, "mcext", PatientMcext())
    return module


class PatientMcext:
    def __getattr__(self, name):
        return getattr(mcext, name)

    def AsyncCache(self, servers, **settings):
        return mcext.AsyncCache(servers, **(settings | {"timeout": 20}))


@pytest.fixture
def client(example, server):
    from starlette.testclient import TestClient

    with TestClient(example.make_application([server.address])) as client:
        yield client


def test_a_view_has_the_cache_as_a_dependency(client, server):
    assert [client.get("/visits/ada").json() for _ in range(2)] == [{"name": "ada", "visits": n} for n in (1, 2)]
    assert client.get("/visits/a%20key").status_code == 422
    assert [client.get("/squares/12").json() for _ in range(2)] == [144, 144]
    with mcext.Cache([server.address]) as cache:
        assert cache.get("square:12") == 144 and cache.get("visits:ada") == 2


def test_a_dependency_can_be_replaced_as_fastapis_tests_do(example, server, memcached):
    from starlette.testclient import TestClient

    app = example.make_application([server.address])
    with TestClient(app) as client:
        other = mcext.AsyncCache([memcached.address])
        app.dependency_overrides[example.get_cache] = lambda: other
        assert client.get("/visits/ada").json()["visits"] == 1
        client.portal.call(other.aclose)
    with mcext.Cache([memcached.address]) as cache:
        assert cache.get("visits:ada") == 1


def test_a_response_is_made_once_and_has_its_type(client):
    found = [client.get("/report") for _ in range(3)]
    assert [each.json() for each in found] == [{"computed": 1}] * 3
    assert {each.headers["content-type"] for each in found} == {"application/json"}
    assert client.get("/report?of=another").json() == {"computed": 2}


def test_who_says_who_it_is_gets_a_response_of_its_own(client):
    assert client.get("/report").json() == {"computed": 1}
    assert client.get("/report", headers={"Authorization": "Bearer x"}).json() == {"computed": 2}
    assert client.get("/report", headers={"Cookie": "session=x"}).json() == {"computed": 3}
    assert client.post("/report").status_code == 405
    assert client.get("/report").json() == {"computed": 1}


def test_a_response_that_is_no_success_or_sets_a_cookie_is_not_kept(example, server):
    """In plain Starlette, too."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    made = []

    async def view(request):
        made.append(request.url.path)
        response = PlainTextResponse(str(len(made)), 503 if request.url.path == "/broken" else 200)
        if request.url.path == "/cookie":
            response.set_cookie("session", "x")
        return response

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with mcext.AsyncCache([server.address], tls_context=over_tls.context()) as app.state.cache:
            yield

    app = Starlette(routes=[Route(path, view) for path in ("/broken", "/cookie", "/kept")], lifespan=lifespan)
    app.add_middleware(example.ResponseCache, ttl={"/broken": 60, "/cookie": 60, "/kept": 60})
    with TestClient(app) as client:
        assert [(client.get("/broken").text, client.get("/broken").status_code) for _ in range(2)] == [
            ("1", 503),
            ("3", 503),
        ]
        assert [client.get("/cookie").cookies.get("session") for _ in range(2)] == ["x", "x"]
        client.cookies.clear()
        assert [client.get("/kept").text for _ in range(2)] == ["7", "7"]


def test_without_memcached_everything_is_computed(example):
    from starlette.testclient import TestClient

    with (
        ports.bound() as nobody,
        TestClient(example.make_application(["{}:{}".format(*nobody.getsockname())])) as client,
    ):
        assert client.get("/visits/ada").json() == {"name": "ada", "visits": None}
        assert client.get("/squares/12").json() == 144
        assert [client.get("/report").json() for _ in range(2)] == [{"computed": 1}, {"computed": 2}]


def test_of_two_servers_and_forty_callers_one_computes(server, examples, start_program, tmp_path):
    import httpx

    source = (examples / "fastapi_cache.py").read_text()
    assert source.count("timeout=0.5") == 1
    program = tmp_path / "fastapi_cache.py"
    program.write_text(source.replace("timeout=0.5", "timeout=20"))  # as in `example`
    programs = [start_program(sys.executable, program, server.address, 0) for _ in range(2)]
    bases = [program.wait_for(r"running on (http://\S+)").group(1) for program in programs]

    async def main():
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await asyncio.gather(*(client.get(f"{bases[number % 2]}/report") for number in range(40)))

    found = asyncio.run(main())
    assert [each.json() for each in found] == [{"computed": 1}] * 40
    with mcext.Cache([server.address]) as cache:
        stats = cache.stats()[server.address]
        assert stats["total_items"] == "2"  # the stub of the lease, and the page


def test_it_says_how_to_run_it(examples, environment):
    command = [sys.executable, examples / "fastapi_cache.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "fastapi_cache.py 127.0.0.1:11211" in done.stderr
