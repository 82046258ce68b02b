"""The examples of the documents: a page's blocks of Python, run in order, and what the comments behind them promise."""

import ast
import builtins
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def numbered(text):
    """Each block of Python of a page, as (number of its first line, code)."""
    for found in re.finditer(r"^( *)```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        indent, code = found.groups()
        yield text.count("\n", 0, found.start(2)) + 1, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)


def blocks(document):
    """The blocks of Python of a document, by its path from the top."""
    return [code for _, code in numbered((ROOT / document).read_text())]


def promised(line):
    """What the comment of a line begins with: (value,), or the class of an exception; None where it is neither."""
    comment = line.partition("  # ")[2].strip()
    for end in range(len(comment), 0, -1):
        if end == len(comment) or comment[end] in ":,;":
            beginning = comment[:end].strip()
            kind = getattr(builtins, beginning, None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                return kind
            try:
                return (ast.literal_eval(beginning),)
            except (SyntaxError, ValueError):
                pass
    return None


def expressions(tree):
    """The expressions of a block that stand alone, wherever they are, with the list that each is in."""
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                yield from ((body, at, each) for at, each in enumerate(body) if isinstance(each, ast.Expr))


def statement(code, expression):
    """The code with the expression in the place of `_`."""
    (made,) = ast.parse(code).body
    for node in ast.walk(made):
        if isinstance(getattr(node, "value", None), ast.Name) and node.value.id == "_":
            node.value = expression
    return ast.copy_location(made, expression)


def run(block, names, where):
    """Run the block; how many values and exceptions in it were as they are promised.

    Half a second, which pages have as a timeout, may be too short where the machine is busy.
    """
    block = block.replace("timeout=0.5", "timeout=20").replace('"timeout": 0.5', '"timeout": 20')
    lines = block.splitlines()
    tree = ast.parse(block)
    promises = {}
    for body, at, node in list(expressions(tree)):
        value = promised(lines[node.end_lineno - 1])
        if value is not None:
            number = len(promises)
            promises[number] = (lines[node.lineno - 1], value)
            kept = f"_results[{number}] = _"
            if isinstance(value, type):
                kept = (
                    f"try: _results[{number}] = _\nexcept {value.__name__} as _error: _results[{number}] = type(_error)"
                )
            body[at] = statement(kept, node.value)
    names["_results"] = results = {}
    exec(compile(ast.fix_missing_locations(tree), where, "exec", dont_inherit=True), names)
    for number, (line, value) in promises.items():
        assert number in results, f"{where}: not reached: {line}"
        found = results[number] if isinstance(value, type) else (results[number],)
        assert found == value, f"{where}: {line}"
    return len(promises)
