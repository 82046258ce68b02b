"""The documents: links lead somewhere, files that they name exist, and what tests cite of the contract stands there."""

import re
from pathlib import Path

import pytest

import mcext

ROOT = Path(__file__).resolve()
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = [one for one in ROOT.iterdir() if one.is_dir() and one.name not in (".git", ".venv", "build", "dist")]
FILES = [path for folder in FOLDERS for path in folder.rglob("*")] + list(ROOT.iterdir())
SUFFIXES = "py|pyi|c|h|md|json|svg|toml|sh|in|txt"
MADE = {"tables.md", "results.json"}  # by make bench


def anchors(path):
    """What a link to a heading of this document may end in, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path):
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [link for link in found if not link.startswith(("http:", "https:", "mailto:"))]


def leads_somewhere(document, link):
    name, _, anchor = link.partition("#")
    target = (document.parent / name).resolve() if name else document
    return target.exists() and (not anchor or anchor in anchors(target))


def named_files(path):
    """What stands in backquotes and looks like a file or folder of this repository."""
    for name in re.findall(r"`([\w./-]+)`", path.read_text()):
        first, slash, _ = name.partition("/")
        if (slash and first in {one.name for one in FOLDERS}) or re.search(rf"\w\.({SUFFIXES})$", name):
            yield name.rstrip("/")


def listed_files(path):
    """What stands in the first column of a table that is headed by a folder of the package, without its suffix."""
    for table in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.MULTILINE):
        head, _, *lines = table.splitlines()
        folder = ROOT / "mcext" / head.split("|")[1].strip(" `")
        if folder.is_dir():
            for line in lines:
                yield from ((folder, name) for name in re.findall(r"`(\w+)`", line.split("|")[1]))


def exists(name):
    """A path from the top, or the last part of one, as in `fleet/pool.h` or `replaced.c`."""
    return (ROOT / name).exists() or name in MADE or any(path.as_posix().endswith(f"/{name}") for path in FILES)


def in_words(text):
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def rows(name):
    """The first cells of the tables of a document, and what its paragraphs begin with in bold."""
    text = (ROOT / "docs" / name).read_text()
    cells = re.findall(r"^\| (.*?) \| ", text, re.MULTILINE)
    return [in_words(one) for one in cells + re.findall(r"^\*\*(.*?)\*\*", text, re.MULTILINE)]


def source(name):
    (path,) = (ROOT / "tests").rglob(name)
    return path.read_text()


def sections(name):
    """The comments that head the sections of a file of tests."""
    return re.findall(r"\n\n\n# (.+)\n\n", source(name))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    assert [link for link in links(document) if not leads_somewhere(document, link)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document):
    assert [name for name in named_files(document) if not exists(name)] == []


def test_the_files_in_the_tables_of_the_architecture_exist():
    found = list(listed_files(ROOT / "docs" / "architecture.md"))
    assert len(found) > 20
    assert [name for folder, name in found if not any(folder.rglob(f"{name}.*"))] == []


def test_what_does_not_exist_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading, here\n[a](page.md#a-heading-here) [b](#no) [c](no.md) `mcext/no` `no.c` `docs/` `reply.h`\n"
    )
    assert [link for link in links(page) if not leads_somewhere(page, link)] == ["#no", "no.md"]
    assert [name for name in named_files(page) if not exists(name)] == ["mcext/no", "no.c"]


def test_every_document_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document not in reached:
            reached.add(document)
            targets = [(document.parent / link.partition("#")[0]).resolve() for link in links(document)]
            waiting += [target for target in targets if target.suffix == ".md"]
    assert set(DOCUMENTS) - reached == set()


def test_every_page_is_in_the_contents_of_the_site():
    contents = (ROOT / "docs" / "site" / "contents.txt").read_text()
    listed = set(re.findall(r"^(?:.* <)?([\w-]+)>?$", contents, re.MULTILINE))
    assert {path.stem for path in ROOT.glob("docs/*.md")} - {"index"} - listed == set()


def test_every_public_name_is_in_the_api_reference():
    page = (ROOT / "docs" / "api.md").read_text()
    named = set(re.findall(r"auto\w+:: mcext\.([\w.]+)", page)) | {"__version__"}
    assert set(mcext.__all__) - named == set()


def test_the_differences_in_the_readme_are_rows_of_the_whole_list():
    table = (ROOT / "README.md").read_text().partition("## What differs")[2].partition("\n## ")[0]
    found = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(found) == 2 + 5
    assert set(found) - set((ROOT / "docs" / "differences.md").read_text().splitlines()) == set()


def numbers(text):
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


def test_the_figures_of_the_front_page_are_rows_of_the_pages_that_it_names():
    table = (ROOT / "docs" / "index.md").read_text().partition("## What was measured")[2]
    found = re.findall(r"^\| (?!measured|-)(.*) \| \[\w+\]\((\w+\.md)#.*\) \|$", table, re.MULTILINE)
    assert len(found) >= 5
    for figures, page in found:
        wanted = numbers(figures.partition(", where a loop in C")[0]) | numbers(figures.partition(" |")[2])
        assert len(wanted) >= 4
        lines = (ROOT / "docs" / page).read_text().splitlines()
        assert any(wanted <= numbers(line) for line in lines), figures


@pytest.mark.parametrize(
    "tests, page",
    [("test_differences.py", "differences.md"), ("test_answers.py", "contract.md")],
    ids=["differences", "answers"],
)
def test_sections_of_the_tests_are_rows(tests, page):
    headed = sections(tests)
    known = rows(page) + rows("contract.md")
    assert len(headed) > 20
    assert [one for one in headed if not any(row.startswith(in_words(one)) for row in known)] == []


def test_reasons_for_which_a_call_is_not_compared_are_rows():
    text = source("test_differential.py")
    before = re.findall(r"\w+", text.partition("KNOWN_BEFORE = [")[2].partition("]")[0])
    reasons = before + re.findall(r'rows\.append\("(\w+)"\)', text)
    known = rows("differences.md") + rows("contract.md")
    assert len(reasons) > 15
    assert [one for one in reasons if not any(row.startswith(in_words(one)) for row in known)] == []
