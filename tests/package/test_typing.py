"""The stub mcext/_core.pyi: type checkers take a program that uses the whole API, and it says what the type says."""

import ast
import inspect
import json
import shutil
import subprocess
import sys
import sysconfig
import threading
import types
from pathlib import Path

import pytest

import mcext
import memcache
from mcext import _core

PACKAGE = Path(mcext.__file__).parent
STUBS = Path(memcache.__file__).with_name("memcache-stubs")
SAMPLE = Path(__file__).with_name("typing_sample.py")
CACHE_SAMPLE = Path(__file__).with_name("typing_sample_cache.py")


@pytest.fixture
def project(tmp_path):
    """A folder with the samples and the package's Python files alone: the stub stands for the extension."""
    shutil.copy(SAMPLE, tmp_path)
    shutil.copy(CACHE_SAMPLE, tmp_path)
    (tmp_path / "mcext").mkdir()
    for path in (PACKAGE / "py.typed", PACKAGE / "_core.pyi", *PACKAGE.glob("*.py")):
        shutil.copy(path, tmp_path / "mcext")
    return tmp_path


def check(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.frameworks
@pytest.mark.parametrize("sample", [SAMPLE, CACHE_SAMPLE], ids=["client", "cache"])
def test_mypy_strict_takes_the_sample(project, sample):
    check(sys.executable, "-m", "mypy", "--strict", "--no-incremental", sample.name, cwd=project)


def check_with_pyright(project, python=sys.executable, sample=SAMPLE):
    configuration = {
        "include": [sample.name],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportPrivateUsage": "none",  # the sample uses the private names that the contract lists
        "pythonVersion": ".".join(map(str, sys.version_info[:2])),
    }
    (project / "pyrightconfig.json").write_text(json.dumps(configuration))
    check(sys.executable, "-m", "basedpyright", "--pythonpath", python, cwd=project)


@pytest.mark.frameworks
@pytest.mark.parametrize("sample", [SAMPLE, CACHE_SAMPLE], ids=["client", "cache"])
def test_pyright_strict_takes_the_sample(project, sample):
    check_with_pyright(project, sample=sample)


MEMCACHE = """
import memcache

client: memcache.Client = memcache.Client(["127.0.0.1:11211"])
stored: int = client.set("key", 1)
longest: int = memcache.SERVER_MAX_KEY_LENGTH
memcache.SERVER_MAX_VALUE_LENGTH = 1 << 20
memcache.serverHashFunction = memcache.cmemcache_hash
memcache.useOldServerHashFunction()
timeout: float = memcache.socket.getdefaulttimeout() or memcache.time.time() + memcache._SOCKET_TIMEOUT
client.get(None)  # type: ignore[arg-type]
"""


@pytest.mark.frameworks
def test_a_program_that_imports_memcache_is_typed(project, tmp_path):
    environment = tmp_path / "environment"
    check(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.move(project / "mcext", packages)
    shutil.copy(Path(memcache.__file__), packages)
    shutil.copytree(STUBS, packages / STUBS.name)
    (project / SAMPLE.name).write_text(MEMCACHE)
    python = environment / "bin" / "python"
    check(
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--python-executable",
        python,
        SAMPLE.name,
        cwd=project,
    )
    check_with_pyright(project, python)


def test_the_stubs_of_memcache_name_what_it_has():
    named = set()
    for node in ast.parse((STUBS / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            named |= {alias.asname for alias in node.names if alias.asname}
        elif isinstance(node, ast.AnnAssign):
            named.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            named.add(node.name)
    assert [name for name in named if not hasattr(memcache, name)] == []
    of_any_module = {"__all__", "__builtins__", "__cached__", "__file__", *vars(types.ModuleType("any"))}
    of_any_module.add("__warningregistry__")  # where a warning was about one of its lines
    of_its_own = {"ModuleType", "sys", "_core", "_module", "_Module", "_LIMITS", "_MODULES"}
    has = {name for name in vars(memcache) if not name.startswith("@")}  # pytest's
    assert has - of_any_module - of_its_own - named == set()


def test_the_stub_and_the_marker_are_installed_with_the_package():
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()


# The stub against the type.

STUB = ast.parse((PACKAGE / "_core.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def functions(name):
    """By name; of several overloads the last, which takes all arguments, and no property."""
    return {
        node.name: node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef) and not is_property(node)
    }


def is_property(node):
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def stub_parameters(node):
    """[(name, kind, default as text)] of a function in the stub, without self."""
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    kinds = ["POSITIONAL_ONLY"] * len(arguments.posonlyargs) + ["POSITIONAL_OR_KEYWORD"] * len(arguments.args)
    found = list(zip([one.arg for one in positional], kinds, defaults, strict=True))
    if arguments.vararg:
        found.append((arguments.vararg.arg, "VAR_POSITIONAL", None))
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((one.arg, "KEYWORD_ONLY", default))
    return [(name, kind, ast.unparse(default) if default else None) for name, kind, default in found[1:]]


def real_parameters(function):
    found = []
    for one in inspect.signature(function).parameters.values():
        default = None if one.default is one.empty else repr(one.default)
        found.append((one.name, one.kind.name, default))
    return found[1:] if found and found[0][0] == "self" else found


METHODS = [(kind, name) for kind in ("Client", "_Server") for name in functions(kind)]
# The private methods of _Cache that take a tuple have no signature: test_cache calls them.
CACHE_METHODS = [("_Cache", name) for name in functions("_Cache") if not name.startswith("_")]


@pytest.mark.parametrize("kind, name", METHODS + CACHE_METHODS, ids=lambda part: part)
def test_the_stubs_signature_is_the_real_one(kind, name):
    kind_type = mcext.Cache if kind == "_Cache" else getattr(_core, kind)
    real = real_parameters(kind_type if name == "__init__" else getattr(kind_type, name))
    node = functions(kind)[name]
    stub = stub_parameters(node)
    assert [one[:2] for one in stub] == [one[:2] for one in real]
    for (name, _, default), (_, _, real_default) in zip(stub, real, strict=True):
        if default != "...":
            # An overload without default says that there is one.
            is_overloaded = default is None and any("overload" in ast.unparse(one) for one in node.decorator_list)
            if not is_overloaded:
                assert default.strip("'\"") == real_default.strip("'\"") if default else real_default is None, name


@pytest.mark.parametrize("kind", ["Client", "_Server", "_Cache"])
def test_the_stub_names_every_attribute_of_the_type(kind):
    real_type = getattr(_core, kind)
    named = set()
    for node in CLASSES[kind].body:
        if isinstance(node, ast.AnnAssign):
            named.add(node.target.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named.add(node.name)
    if kind == "Client":
        instance = real_type([])
        base = set(dir(threading.local))
    elif kind == "_Cache":
        instance = mcext.Cache([])
        in_python = {name for name, one in vars(mcext.Cache).items() if not isinstance(one, types.MethodDescriptorType)}
        base = (in_python - set(dir(_core._Cache))) | set(dir(object))
    else:
        instance = real_type("127.0.0.1:11211")
        base = set(dir(object)) | {"__dict__", "__weakref__"}
    there = {name for name in dir(instance) if name not in base and not name.startswith(("__", "_mcext_"))}
    assert {name for name in named if not name.startswith("__")} == there


def test_the_stub_has_the_bases_of_the_types():
    classes = {"Client": threading.local, "Item": tuple}
    classes |= dict.fromkeys(("_Server", "_Stream", "_Secret", "_Table", "_Cache"), object)
    classes |= dict.fromkeys(("_AsyncCache", "_AsyncCall", "_AsyncStream"), object)
    texts = {
        "Client": ["threading.local"],
        "_Cache": ["Generic[_T]"],
        "_AsyncCache": ["Generic[_T]"],
        "Item": ["tuple"],
    }
    texts |= {"_Server": [], "_Stream": [], "_Secret": [], "_Table": [], "_AsyncCall": [], "_AsyncStream": []}
    for name, node in CLASSES.items():
        real = getattr(_core, name)
        bases = [ast.unparse(base) for base in node.bases]
        if name == "Item":
            bases = [base.partition("[")[0] for base in bases]
        assert bases == texts.get(name, ["Exception"])
        assert real.__mro__[1] is classes.get(name, Exception)


def test_the_stub_names_the_fields_of_an_item():
    properties = [node.name for node in CLASSES["Item"].body if isinstance(node, ast.FunctionDef) and is_property(node)]
    assert list(_core.Item.__match_args__) == properties
    assert [name for name in vars(_core.Item) if not name.startswith("_")] == properties
    (arguments,) = (node.value for node in CLASSES["Item"].body if isinstance(node, ast.AnnAssign))
    assert list(ast.literal_eval(arguments)) == properties


def test_the_stub_names_every_function_of_the_extension():
    named = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}
    real = {name for name in dir(_core) if inspect.isbuiltin(getattr(_core, name))}
    assert named - real == set()
    assert real - named == {"_set_hash_function", "_set_limit", "_set_socket", "_set_time"}  # memcache.py's own


def test_a_cache_is_one_class_however_its_values_are_typed():
    typed = mcext.Cache[int]
    assert typed.__origin__ is mcext.Cache and typed.__args__ == (int,)
    assert type(typed([])) is mcext.Cache


def test_the_stub_has_the_nested_exceptions():
    nested = {
        node.name: ast.unparse(node.bases[0]) for node in CLASSES["Client"].body if isinstance(node, ast.ClassDef)
    }
    for name, base in nested.items():
        assert getattr(_core.Client, name).__bases__[0].__name__ == base


def test_the_extension_suffix_is_not_in_the_way():
    """A checker prefers the stub: the extension lies beside it under the interpreter's own suffix."""
    assert Path(_core.__file__).name == "_core" + sysconfig.get_config_var("EXT_SUFFIX")
