"""Builds the site: the pages, as they are in the repository, with the links between them turned into those of the site.

The pages stay where they are and how they are: Markdown that a reader of the repository reads, too. So they are copied
into one folder, those of the repository's top under names of their own, and Sphinx makes the site of that.
"""

import re
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
BUILT = ROOT / "build" / "site"
FROM_THE_TOP = {
    "README.md": "client.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "LICENSE": "license.md",
}
HEADINGS = {  # of pages that need another one
    "README.md": "Client: in place of python-memcached",
    "SECURITY.md": "Reporting a vulnerability",
    "LICENSE": "License",
}


def pages() -> dict[Path, str]:
    """Each file that becomes a page, or is shown on one, and its name on the site."""
    names = {path: path.name for suffix in ("md", "svg") for path in (ROOT / "docs").glob(f"*.{suffix}")}
    return names | {ROOT / name: new for name, new in FROM_THE_TOP.items()}


def heading(path: Path) -> str:
    return HEADINGS.get(path.name) or path.read_text().partition("\n")[0].lstrip("# ")


def text_for_the_site(path: Path, names: dict[Path, str]) -> str:
    """The page's text with the site's links. One that is called by its file's name is called by its heading there."""

    def replaced(link: re.Match[str]) -> str:
        text, (name, hash_sign, anchor) = link[1], link[2].partition("#")
        if not name or re.match(r"\w+:", name):
            return link[0]
        target = (path.parent / name).resolve()
        if target not in names:
            sys.exit(f"{path.relative_to(ROOT)}: {link[2]} is no page of the site: name the file in words")
        if Path(text).name == target.name:
            text = heading(target).partition(":")[0]
        return f"[{text}]({names[target]}{hash_sign}{anchor})"

    text = path.read_text()
    if path.name in HEADINGS:
        text = f"# {HEADINGS[path.name]}\n\n" + re.sub(r"\A# .*\n", "", text)
    text = re.sub(r"\[([^][]*)\]\(([^)\s]+)\)", replaced, text)
    return text + (SITE / "contents.txt").read_text() if path.name == "index.md" else text


def stage(folder: Path) -> None:
    """Fill the folder; what has not changed is left as it is, so that Sphinx need not read it again."""
    names = pages()
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.iterdir()) - {folder / name for name in names.values()}:
        old.unlink()
    for path, name in names.items():
        text = path.read_text() if path.suffix == ".svg" else text_for_the_site(path, names)
        page = folder / name
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


if __name__ == "__main__":
    stage(BUILT / "source")
    options = ["-q", "-W", "--keep-going", "-n", "-b", "html", "-c", str(SITE), "-d", str(BUILT / "doctrees")]
    status = main([*options, str(BUILT / "source"), str(BUILT / "html")])
    if status:
        shutil.rmtree(BUILT / "doctrees", ignore_errors=True)  # what was wrong is to be said again next time
    else:
        print(f"the site: {(BUILT / 'html' / 'index.html').relative_to(ROOT)}")
    sys.exit(status)
