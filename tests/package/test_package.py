"""What is packed, what is needed to build it, and who owns the name memcache."""

import email
import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import mcext

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = [".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", "*.so", ".*_cache", ".hypothesis"]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*command, status=0, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def python(*arguments, folder, path, status=0, **environment):
    """Run this interpreter without site-packages: what it can import lies in `path` and in the standard library."""
    return run(
        *(sys.executable, "-S", *arguments),
        cwd=folder,
        status=status,
        env={**os.environ, "PYTHONPATH": str(path), **environment},
    )


def backend(call, folder, target):
    """Call setuptools' build backend as pip does, in `folder`; returns the path of what it has made."""
    code = f"import sys; from setuptools import build_meta; build_meta.{call}(sys.argv[1])"
    target.mkdir(parents=True)
    # The build is tried, not what it makes fast: without optimisation it takes a third of the time.
    environment = {**os.environ, "MCEXT_CFLAGS": "-O0 -U_FORTIFY_SOURCE", "MCEXT_LDFLAGS": ""}
    run(sys.executable, "-c", code, target, cwd=folder, env=environment)
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def sdist(folder):
    """The source distribution, made from a copy of the tree."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return backend("build_sdist", tree, folder / "sdist")


@pytest.fixture(scope="module")
def wheel(folder, sdist):
    """The wheel, made from the unpacked source distribution and nothing else."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = (folder / "unpacked").iterdir()
    return backend("build_wheel", tree, folder / "wheel")


@pytest.fixture(scope="module")
def installed(folder, wheel):
    """A folder into which the wheel is installed; a wheel of one extension is installed by unpacking it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture
def copy(installed, tmp_path):
    """A copy of the installed package that a test may spoil."""
    return shutil.copytree(installed, tmp_path / "copy")


def names_in(sdist):
    with tarfile.open(sdist) as archive:
        return {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}


def test_the_sdist_holds_what_builds_tests_and_explains_it(sdist):
    names = names_in(sdist)
    wanted = {
        *("setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "LICENSE", "README.md", "CHANGELOG.md"),
        *("memcache.py", "memcache-stubs/__init__.pyi", "mcext/__init__.py", "mcext/_core.pyi", "mcext/py.typed"),
        "examples/demo.py",
        *("tests/conftest.py", "tests/requirements.txt", "tools/test.sh", ".clang-format", ".clang-tidy", ".ci/run"),
        *(str(path.relative_to(ROOT)) for path in ROOT.glob("mcext/*/*.[ch]")),
        *(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/*.py")),
        *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*")),
    }
    assert wanted - names == set()
    if (ROOT / ".git").exists():
        tracked = set(run("git", "ls-files", cwd=ROOT).stdout.splitlines())
        assert {name for name in tracked if (ROOT / name).exists()} - names == set()


def test_the_sdist_holds_nothing_built(sdist):
    built = [name for name in names_in(sdist) if name.endswith((".so", ".o", ".pyc")) or "build/" in name]
    assert built == []


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    info = f"mcext-{mcext.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {
        *(f"mcext/{path.name}" for path in ROOT.glob("mcext/*.py")),
        *(f"mcext/{folder}/{path.name}" for folder in ("cli", "pure") for path in ROOT.glob(f"mcext/{folder}/*.py")),
        *("memcache.py", "memcache-stubs/__init__.pyi", "mcext/_core.pyi", "mcext/py.typed", f"mcext/_core{SUFFIX}"),
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt")),
        f"{info}/licenses/LICENSE",
    }


def test_nothing_is_needed_at_run_time(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"mcext-{mcext.__version__}.dist-info/METADATA"))
    assert [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need] == []
    assert metadata["Requires-Python"] == ">=3.10"
    assert (metadata["Name"], metadata["Version"]) == ("mcext", mcext.__version__)


def test_the_wheel_works_alone(installed, tmp_path, memcached):
    program = f"""
import mcext, memcache, sys
assert mcext.__file__.startswith({str(installed)!r}) and memcache.__file__.startswith({str(installed)!r})
assert mcext.Client is memcache.Client
mc = memcache.Client([{memcached.address!r}])
print(mc.set("Foo", "Bar"), mc.get("Foo"), {{"pytest", "setuptools"}} & set(sys.modules))
"""
    done = python("-W", "error", "-c", program, folder=tmp_path, path=installed)
    assert done.stdout == "True Bar set()\n"


def test_the_extension_is_hardened_and_exports_one_name(installed):
    extension = installed / "mcext" / f"_core{SUFFIX}"
    exported = run("nm", "-D", "--defined-only", extension).stdout.split()[2::3]
    assert [name for name in exported if not name.startswith("_")] == ["PyInit__core"]
    assert "__stack_chk_fail" in run("nm", "-D", "--undefined-only", extension).stdout
    assert "GNU_RELRO" in run("readelf", "-lW", extension).stdout
    assert "BIND_NOW" in run("readelf", "-dW", extension).stdout


def test_a_build_without_a_header_names_its_package(folder, sdist, tmp_path):
    """A header that refuses to be included stands before the real one."""
    tree = shutil.copytree(folder / "tree", tmp_path / "tree")
    for header, package in {"zlib.h": "zlib1g-dev", "Python.h": "python3-dev"}.items():
        hidden = tmp_path / header.partition(".")[0]
        hidden.mkdir()
        (hidden / header).write_text("#error not here\n")
        environment = {**os.environ, "CPPFLAGS": f"-I{hidden}"}
        done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree, env=environment, status=1)
        assert done.stderr.splitlines()[-1].startswith("error: mcext cannot be built without")
        assert package in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_build_without_a_compiler_says_so(folder, sdist):
    environment = {**os.environ, "CC": "/no/such/compiler"}
    done = run(
        *(
            sys.executable,
            "setup.py",
            "-q",
            "build_ext",
            "--build-temp",
            folder / "none",
            "--build-lib",
            folder / "none",
        ),
        cwd=folder / "tree",
        env=environment,
        status=1,
    )
    assert "error: mcext cannot be built without the C compiler '/no/such/compiler'" in done.stderr


def test_python_m_mcext_tells_what_is_installed(installed, tmp_path):
    done = python("-W", "error", "-m", "mcext", folder=tmp_path, path=installed)
    assert f"mcext    {mcext.__version__}\n" in done.stdout
    assert str(installed / "mcext" / f"_core{SUFFIX}") in done.stdout
    assert done.stdout.splitlines()[-1] == "memcache is mcext"


REPAIR = ("pip uninstall python-memcached", "pip install --force-reinstall mcext")


def check_warns(copy, tmp_path, path, *words):
    """Both ways of asking complain, in the given words; and importing goes on."""
    done = python("-c", "import mcext; print(mcext.Client.__name__)", folder=tmp_path, path=path)
    assert done.stdout == "Client\n"
    assert done.stderr.count("RuntimeWarning") == 1
    assert all(word in done.stderr for word in words)
    done = python("-W", "ignore", "-m", "mcext", folder=tmp_path, path=path, status=1)
    assert all(word in done.stdout.splitlines()[-1] for word in words)
    return done.stdout.splitlines()[-1]


def test_another_memcache_in_front_is_warned_of(copy, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "memcache.py").write_text('"""client module for memcached"""\n')
    check_warns(copy, tmp_path, f"{other}{os.pathsep}{copy}", str(other / "memcache.py"), *REPAIR)


def test_another_memcache_in_place_of_ours_is_warned_of(copy, tmp_path):
    """What installing python-memcached beside mcext does: both own this file."""
    (copy / "memcache.py").write_text('"""client module for memcached"""\n')
    check_warns(copy, tmp_path, copy, str(copy / "memcache.py"), *REPAIR)


def test_the_package_memcache_is_told_from_python_memcached(copy, tmp_path):
    """Another client of the index: its folder wins over the file beside it, and goes with it alone."""
    (copy / "memcache").mkdir()
    (copy / "memcache" / "__init__.py").write_text("")
    line = check_warns(copy, tmp_path, copy, str(copy / "memcache" / "__init__.py"), "the package memcache")
    assert "(to repair: pip uninstall memcache)" in line and "python-memcached" not in line
    program = "import memcache, mcext"  # the other way round: it is imported already
    done = python("-c", program, folder=tmp_path, path=copy)
    assert "(to repair: pip uninstall memcache)" in done.stderr and "python-memcached" not in done.stderr
    shutil.rmtree(copy / "memcache")
    assert python("-m", "mcext", folder=tmp_path, path=copy).stdout.splitlines()[-1] == "memcache is mcext"


def test_a_folder_of_that_name_without_a_module_is_none(copy, tmp_path):
    """A namespace: it counts only where our file is gone."""
    (copy / "memcache").mkdir()
    assert python("-m", "mcext", folder=tmp_path, path=copy).stdout.splitlines()[-1] == "memcache is mcext"
    (copy / "memcache.py").unlink()
    check_warns(copy, tmp_path, copy, "no module memcache", *REPAIR)


def test_no_memcache_at_all_is_warned_of(copy, tmp_path):
    """What uninstalling python-memcached afterwards does."""
    (copy / "memcache.py").unlink()
    check_warns(copy, tmp_path, copy, "no module memcache", *REPAIR)


def test_another_memcache_imported_already_is_warned_of(copy, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "memcache.py").write_text("")
    program = f"import sys; sys.path.insert(0, {str(other)!r}); import memcache; sys.path.pop(0); import mcext"
    done = python("-c", program, folder=tmp_path, path=copy)
    assert str(other / "memcache.py") in done.stderr


FROZEN = """
import importlib.machinery, importlib.util, sys
with open({source!r}) as file:
    code = compile(file.read(), "memcache.py", "exec")

class Archive:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, {origin!r}, loader=self) if name == "memcache" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(code, vars(module))
    def get_code(self, name):
        return code
    def get_data(self, path):
        with open(path, "rb") as file:
            return file.read()

sys.meta_path.insert(0, Archive())
import {first}, memcache, mcext
print(memcache.name)
"""


@pytest.mark.parametrize("first", ["mcext", "memcache"])
def test_a_frozen_application_has_the_module_without_its_file(installed, tmp_path, first):
    """Its loader has the code; the file that `origin` names was on the machine where it was frozen."""

    def frozen(source):
        (tmp_path / "frozen.py").write_text(source)
        program = FROZEN.format(
            source=str(tmp_path / "frozen.py"), origin=str(tmp_path / "no" / "file.py"), first=first
        )
        return python("-c", program, folder=tmp_path, path=installed)

    ours = frozen((installed / "memcache.py").read_text() + "\nname = 'ours'\n")
    assert (ours.stdout, ours.stderr) == ("ours\n", "")
    theirs = frozen("name = 'theirs'")
    assert theirs.stdout == "theirs\n"
    assert theirs.stderr.count("RuntimeWarning") == 1 and str(tmp_path / "no" / "file.py") in theirs.stderr


def test_a_memcache_that_cannot_be_read_is_warned_of(copy, tmp_path):
    """An imported module whose file is gone since."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "memcache.py").write_text("")
    program = f"""
import os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {str(other)!r})
import memcache
os.unlink(memcache.__file__)
import mcext
print(mcext.Client.__name__)
"""
    done = python("-c", program, folder=tmp_path, path=copy)
    assert done.stdout == "Client\n"
    assert str(other / "memcache.py") in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "import mcext",
        "import memcache, mcext",
        "import mcext, memcache; mcext.Client",
        "import sys, types; sys.modules['memcache'] = types.ModuleType('memcache'); import mcext",
        "import sys; sys.modules['memcache'] = None; import mcext",
    ],
)
def test_there_is_no_warning_where_all_is_well(installed, tmp_path, program):
    done = python("-W", "error", "-c", program, folder=tmp_path, path=installed)
    assert done.stderr == ""


def test_importing_mcext_does_not_import_memcache_nor_what_is_slow(installed, tmp_path):
    program = """
import sys
before = set(sys.modules)
import mcext
new = set(sys.modules) - before
print(sorted(new & {"memcache", "mcext._core", "importlib.util", "importlib.metadata", "warnings", "socket", "pickle"}))
"""
    assert python("-c", program, folder=tmp_path, path=installed).stdout == "[]\n"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = mcext.Cleint
    assert {"Client", "__version__"} <= set(mcext.__all__) <= set(dir(mcext))
    for name in mcext.__all__:
        assert getattr(mcext, name) is not None


def test_the_change_log_and_the_readme_name_all_that_is_new():
    parameters = inspect.signature(mcext.Client).parameters.values()
    keywords = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    names = [f"mcext.{name}" for name in mcext.__all__ if name not in ("Client", "__version__")]
    changes, readme = ((ROOT / name).read_text() for name in ("CHANGELOG.md", "README.md"))
    assert [name for name in keywords + names if f"`{name}`" not in changes] == []
    assert [name for name in keywords if f"`{name}`" not in readme] == []
    assert f"## {mcext.__version__}\n" in changes
