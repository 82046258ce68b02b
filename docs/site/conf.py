"""Sphinx's settings for the site (build.py runs it), and how the package's docstrings are read.

The docstrings are plain text, made for help(): `name: what it is` lists arguments, what is indented is code. Here they
become reStructuredText.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mcext

project = "mcext"
copyright = "the authors of mcext"
version = release = mcext.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

myst_heading_anchors = 4
default_role = "code"
smartquotes = False
highlight_language = "text"

html_theme = "furo"
html_title = f"mcext {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
# Types in signatures are names of Python's library and of type variables, for which the site has no page.
nitpick_ignore_regex = [(r"py:(class|obj)", r".*")]

NOT_MADE_BY_USERS = {"mcext.Item", "mcext.Event", "mcext.placement.Placement", "mcext.codecs.Codec"}
ARGUMENT = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")


def escaped(text: str) -> str:
    """What is not in backquotes, without a meaning to reStructuredText."""
    parts = re.split(r"(``.+?``|`[^`]+`)", text)
    parts[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\\_", re.sub(r"([\\*|])", r"\\\1", part)) for part in parts[::2]]
    return "".join(parts)


def paragraphs(lines: list[str]) -> list[list[str]]:
    return [part.split("\n") for part in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")) if part]


def arguments(paragraph: list[str]) -> list[str]:
    """A list of a paragraph of `name: what it is`; where a line is none, it belongs to the one before."""
    items: list[str] = []
    for line in paragraph:
        found = ARGUMENT.fullmatch(line)
        if found:
            names = ", ".join(f"``{name}``" for name in found[1].split(", "))
            items.append(f"* {names}: {escaped(found[2])}")
        else:
            items.append(f"  {escaped(line.strip())}")
    return items


def as_restructured_text(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    made: list[str] = []
    in_code = False
    for paragraph in paragraphs(lines):
        if all(line.startswith("    ") for line in paragraph):
            made += paragraph if in_code else [".. code-block:: python", "", *paragraph]
            in_code = True
        else:
            made += arguments(paragraph) if ARGUMENT.fullmatch(paragraph[0]) else map(escaped, paragraph)
            in_code = False
        made.append("")
    lines[:] = made


def without_a_constructor(
    app: object, what: str, name: str, thing: object, options: object, arguments: str | None, result: str | None
) -> tuple[str, None] | None:
    """No signature for classes that the package alone makes things of."""
    return ("", None) if arguments and (what == "exception" or name in NOT_MADE_BY_USERS) else None


def setup(app: "sphinx.application.Sphinx") -> None:  # noqa: F821
    app.connect("autodoc-process-signature", without_a_constructor)
    app.connect("autodoc-process-docstring", as_restructured_text)
