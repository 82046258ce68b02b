"""What is released is the same bytes whoever makes it, and says what it is made of. `make wheels` does the rest."""

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mcext
from tools.wheels.pack import pack
from tools.wheels.sbom import bill
from tools.wheels.whole import ALWAYS, HINTED, write_attributes

ROOT = Path(__file__).resolve().parents[2]
TIME = 1_700_000_000
INFO = f"mcext-{mcext.__version__}.dist-info"
WHEEL = f"mcext-{mcext.__version__}-cp311-cp311-manylinux_2_28_x86_64.whl"


def run(*command, folder):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(TIME), "PYTHONPATH": str(folder)}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def make_sdist(folder):
    """In a copy of the tree there."""
    run(ROOT / "tools/copy.sh", folder, folder=ROOT)
    run("git", "init", "-q", folder=folder)
    run(sys.executable, "-m", "tools.wheels", "--sdist", "--out", folder / "out", folder=folder)
    (made,) = (folder / "out").iterdir()
    return made


@pytest.fixture
def packed(tmp_path):
    """A wheel with something in each of its places."""
    extension = "mcext/_core.cpython-311-x86_64-linux-gnu.so"
    sbom = bill("mcext", mcext.__version__, WHEEL, TIME, {"ziglang": "1.2", "cpython": "3.11.7"})
    files = {extension: b"\x7fELF" * 100, "mcext/__init__.py": b"", f"{INFO}/sboms/mcext.cdx.json": sbom}
    pack(tmp_path / WHEEL, files, INFO, "a test", TIME)
    return tmp_path / WHEEL, files


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git tells which files belong to the tree")
def test_two_sdists_of_one_tree_are_the_same_bytes_in_any_folder_and_at_any_time(tmp_path):
    first = make_sdist(tmp_path / "first")
    old = tmp_path / "another" / "folder"
    old.parent.mkdir()
    second = make_sdist(old)
    assert first.name == second.name == f"mcext-{mcext.__version__}.tar.gz"
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {TIME}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert {member.mode for member in members} == {0o644, 0o755}
    assert [member.name for member in members] == sorted(member.name for member in members)


def test_two_wheels_of_the_same_parts_are_the_same_bytes(packed, tmp_path):
    path, files = packed
    (tmp_path / "again").mkdir()
    backwards = dict(reversed(files.items()))
    pack(tmp_path / "again" / WHEEL, backwards, INFO, "a test", TIME)
    assert (tmp_path / "again" / WHEEL).read_bytes() == path.read_bytes()


def test_a_wheels_record_has_every_file_with_its_hash_and_itself_without(packed):
    path, _ = packed
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(content[f"{INFO}/RECORD"].decode()))}
    assert rows.keys() == content.keys() and f"{INFO}/sboms/mcext.cdx.json" in rows
    assert rows.pop(f"{INFO}/RECORD") == ("", "")
    for name, (digest, size) in rows.items():
        wanted = base64.urlsafe_b64encode(hashlib.sha256(content[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={wanted}", len(content[name])), name
    assert "Tag: cp311-cp311-manylinux_2_28_x86_64\n" in content[f"{INFO}/WHEEL"].decode()


def test_pip_takes_a_wheel_as_it_is_packed(packed, tmp_path):
    path, _ = packed
    tags = [
        "--platform",
        "manylinux_2_28_x86_64",
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
    ]
    metadata = f"Metadata-Version: 2.1\nName: mcext\nVersion: {mcext.__version__}\n".encode()
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole" / WHEEL
    pack(whole, {f"{INFO}/METADATA": metadata, "mcext/__init__.py": b"answer = 42\n"}, INFO, "a test", TIME)
    target = tmp_path / "target"
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--only-binary", ":all:"]
    run(sys.executable, *install, *tags, "--target", target, whole, folder=tmp_path)
    assert (target / "mcext/__init__.py").read_text() == "answer = 42\n"


def test_the_sbom_names_mcext_what_made_it_and_the_zlib_of_the_system(packed):
    _, files = packed
    sbom = json.loads(files[f"{INFO}/sboms/mcext.cdx.json"])
    own = sbom["metadata"]["component"]
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.7", 1)
    assert (own["name"], own["version"], own["purl"]) == (
        *("mcext", mcext.__version__),
        f"pkg:pypi/mcext@{mcext.__version__}",
    )
    (zlib,) = sbom["components"]
    assert (zlib["name"], zlib["isExternal"]) == ("zlib", True) and "version" not in zlib
    assert {each["name"]: each["version"] for each in sbom["metadata"]["tools"]["components"]} == {
        "ziglang": "1.2",
        "cpython": "3.11.7",
    }
    references = {own["bom-ref"], zlib["bom-ref"]}
    assert {each["ref"] for each in sbom["dependencies"]} == references
    assert {ref for each in sbom["dependencies"] for ref in each.get("dependsOn", [])} <= references
    other = bill("mcext", mcext.__version__, "another.whl", TIME, {})
    assert json.loads(other)["serialNumber"] != sbom["serialNumber"]


def test_what_the_compiler_is_to_put_into_its_callers_is_there_and_a_name_that_is_not_stops_the_build(tmp_path):
    sources = sorted((ROOT / "mcext").glob("**/*.c"))
    write_attributes(tmp_path / "whole.csv", sources)
    rows = (tmp_path / "whole.csv").read_text().splitlines()
    assert sorted(row.partition(",")[0] for row in rows) == sorted([*HINTED, *ALWAYS])
    lacking = [source for source in sources if source.name != "retrieve.c"]
    with pytest.raises(SystemExit, match="names mcx_retrieve, which is no function any more"):
        write_attributes(tmp_path / "whole.csv", lacking)
