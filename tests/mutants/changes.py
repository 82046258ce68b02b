"""The small changes of meaning that can be made to a file of C, and where.

A change is a pair of offsets and what takes the place of the text between them. It lies in the body of a function, or
in the values of a table; never in a comment, a string or a preprocessor line.
"""

import re
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
    (?P<skip> \s+ | //[^\n]* | /\*.*?\*/ | (?<![^\n])[ \t]*\#(?:\\\n|[^\n])* )
    | (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
    | (?P<number> 0[xX][0-9a-fA-F]+[uUlL]* | [0-9]+[uUlL]* )
    | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> <<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|. )
    """,
    re.VERBOSE | re.DOTALL,
)

COMPARISONS = {
    "<": ("<=", ">="),
    ">": (">=", "<="),
    "<=": ("<", ">"),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
}
BOOLEANS = {"&&": ("||",), "||": ("&&",)}
ARITHMETIC = {
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "/": ("*",),
    "%": ("+",),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|",),
    "|": ("&",),
    "^": ("|",),
    "+=": ("-=",),
    "-=": ("+=",),
    "*=": ("+=",),
    "/=": ("*=",),
    "|=": ("=", "&="),
    "&=": ("=", "|="),
    "<<=": (">>=",),
    ">>=": ("<<=",),
    "++": ("--",),
    "--": ("++",),
}
WORDS = {"true": "false", "false": "true"}
# What begins a statement that is not dropped: it holds others, or is no statement.
NOT_DROPPED = {"if", "else", "for", "while", "do", "switch", "case", "default", "const", "static", "struct", "union"}
NOT_DROPPED |= {"enum", "typedef", "unsigned", "signed", "int", "char", "short", "long", "bool", "float", "double"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int

    @property
    def end(self):
        return self.start + len(self.text)


@dataclass(frozen=True)
class Change:
    kind: str
    function: str
    start: int
    end: int
    to: str


def tokens_of(text):
    found = TOKEN.finditer(text)
    return [Token(match.lastgroup, match.group(), match.start()) for match in found if match.lastgroup != "skip"]


def closing(tokens, at):
    """The index of what closes the bracket at this index."""
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].kind == "sign":
            depth += (tokens[index].text in "({[") - (tokens[index].text in ")}]")
            if depth == 0:
                return index
    raise ValueError(f"nothing closes the bracket at {tokens[at].start}")


def regions(tokens):
    """What stands between braces outside of which there are none: (name, first, last, whether it is a function)."""
    head = 0
    at = 0
    while at < len(tokens):
        text = tokens[at].text
        if tokens[at].kind != "sign" or text not in "({[;":
            at += 1
        elif text == ";":
            at = head = at + 1
        elif text in "([":
            at = closing(tokens, at) + 1
        else:
            last = closing(tokens, at)
            words = [token.text for token in tokens[head:at]]
            if tokens[at - 1].text == ")" and "typedef" not in words:
                yield words[words.index("(") - 1], at, last, True
                head = last + 1
            elif "=" in words:
                yield next(word for word in reversed(words[: words.index("=")]) if word[0].isalpha()), at, last, False
            at = last + 1


def numbers(text):
    """Its neighbours."""
    digits = text.rstrip("uUlL")
    value = int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
    for near in (value + 1, value - 1):
        if near >= 0:
            yield (f"{near:#x}" if digits[:2] in ("0x", "0X") else str(near)) + text[len(digits) :]


def of_token(tokens, at):
    """What the token may become: (kind, text)."""
    token = tokens[at]
    if token.text in ("0", "1") and tokens[at - 1].text == "return" and tokens[at + 1].text == ";":
        yield "constant", "10"[int(token.text)]  # no and yes
    elif token.kind == "number":
        for text in numbers(token.text):
            yield "constant", text
    elif token.text in WORDS and token.kind == "word":
        yield "constant", WORDS[token.text]
    elif token.kind == "sign":
        before, after = tokens[at - 1], tokens[at + 1]
        # Of one operand: a sign, an address, what a pointer points to; and the star of a declaration.
        is_binary = before.kind in ("number", "word") or before.text in (")", "]")
        is_binary = is_binary and before.text != "return" and not (token.text in "*&" and after.text in (")", "*"))
        if token.text in COMPARISONS:
            yield from (("comparison", text) for text in COMPARISONS[token.text])
        elif token.text in BOOLEANS:
            yield from (("boolean operator", text) for text in BOOLEANS[token.text])
        elif token.text == "!":
            yield "boolean operator", ""
        elif token.text in ARITHMETIC and (is_binary or len(token.text) == 2):
            yield from (("arithmetic operator", text) for text in ARITHMETIC[token.text])


def is_declaration(tokens, at):
    first, second, third = tokens[at : at + 3]
    names = first.kind == second.kind == "word"
    return names or (first.kind == "word" and second.text == "*" and (third.kind == "word" or third.text == "*"))


def statement_end(tokens, at):
    """The index of the semicolon that ends the statement which begins here."""
    while tokens[at].text != ";":
        at = closing(tokens, at) + 1 if tokens[at].text in ("(", "{", "[") else at + 1
    return at


def statements(tokens, first, last):
    """Statements that can be dropped: (first, last) token."""
    at = first
    begins = True
    while at < last:
        token = tokens[at]
        if token.text in ("if", "for", "while", "switch"):
            at = closing(tokens, at + 1) + 1
            begins = True
        elif begins and token.text in ("case", "default"):
            while tokens[at].text != ":":
                at += 1
            at += 1
        elif token.text in ("{", "}", "else", "do", ";"):
            begins = True
            at += 1
        elif begins:
            end = statement_end(tokens, at)
            jumps = token.text in ("return", "goto", "break", "continue")
            if token.text not in NOT_DROPPED and (jumps or not is_declaration(tokens, at)):
                yield at, end
            begins = True
            at = end + 1
        else:
            at += 1


def checks(tokens, first, last):
    """Conditions of an `if`: (first, last) token, brackets left out."""
    for at in range(first, last):
        if tokens[at].text == "if":
            yield at + 2, closing(tokens, at + 1) - 1


def changes(text, is_header):
    """All that can be made to a file, in its order."""
    tokens = tokens_of(text)
    for name, first, last, is_function in regions(tokens):
        if is_header and not is_function:
            continue
        for at in range(first + 1, last):
            for kind, to in of_token(tokens, at):
                if is_function or kind == "constant":
                    yield Change(kind, name, tokens[at].start, tokens[at].end, to)
        if is_function:
            for begin, end in statements(tokens, first + 1, last):
                yield Change("dropped statement", name, tokens[begin].start, tokens[end].start, "")
            for begin, end in checks(tokens, first + 1, last):
                yield Change("dropped check", name, tokens[begin].start, tokens[end].end, "false")


def apply(text, change):
    """The file with this change; what follows stays in its line."""
    lines = text.count("\n", change.start, change.end)
    return text[: change.start] + change.to + "\n" * lines + text[change.end :]


def lines_of(text, change):
    """The number of the line, and what stands there before and after, in one line each."""
    start = text.rfind("\n", 0, change.start) + 1
    end = text.find("\n", change.end)
    before = text[start:end]
    after = text[start : change.start] + change.to + text[change.end : end]
    return text.count("\n", 0, start) + 1, " ".join(before.split()), " ".join(after.split())
