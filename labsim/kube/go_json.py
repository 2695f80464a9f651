"""JSON as Go's encoding/json reads it, and what it says about a text that is none: clients see that in answers."""

from __future__ import annotations

import codecs
import re
from typing import Any

import orjson

_END = "unexpected end of JSON input"
_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_HEX = re.compile(r"[0-9a-fA-F]")
_DIGITS = frozenset("0123456789")
_REPLACED = "\ufffd"
# An escape: of a pair of surrogates, of one alone (which stands for nothing), or any other.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _each_byte_replaced(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeDecodeError)
    return _REPLACED * (problem.end - problem.start), problem.end


codecs.register_error("labsim-go", _each_byte_replaced)


def loads(body: bytes) -> Any:
    """The value of a JSON text. Bytes that are no UTF-8, and halves of surrogate pairs, read as U+FFFD; ValueError."""
    try:
        return orjson.loads(body)
    except ValueError:
        text = body.decode("utf-8", "labsim-go")
        text = _ESCAPE.sub(lambda found: "\\ufffd" if found[1] else found[0], text)
        if text.startswith("\ufeff") or text.encode() == body:
            raise
        return orjson.loads(text)


class _Problem(Exception):
    pass


def syntax_problem(body: bytes) -> str:
    """The first problem of a text; "" for one that Go can read."""
    reader = _Reader(body.decode("latin-1"))  # Go names bytes
    try:
        reader.value("looking for beginning of value")
        reader.space()
        if reader.at < len(reader.text):
            raise reader.wrong("after top-level value")
    except _Problem as problem:
        return str(problem)
    except RecursionError:
        return str(reader.wrong("exceeded max depth"))
    return ""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        if self.at >= len(self.text):
            raise _Problem(_END)
        return self.text[self.at]

    def space(self) -> None:
        self._skip(_SPACE)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()

    def wrong(self, context: str) -> _Problem:
        return _Problem(f"invalid character {_quoted(self.peek())} {context}")

    def value(self, context: str) -> None:
        self.space()
        letter = self.peek()
        if letter == "{":
            self._members("}")
        elif letter == "[":
            self._members("]")
        elif letter == '"':
            self._string()
        elif letter == "-" or letter in _DIGITS:
            self._number()
        elif letter in _LITERALS:
            self._literal(_LITERALS[letter])
        else:
            raise self.wrong(context)

    def _members(self, end: str) -> None:
        self.at += 1
        self.space()
        if self.peek() == end:
            self.at += 1
            return
        while True:
            if end == "}":
                self._key()
                self.value("looking for beginning of value")
            else:
                self.value("looking for beginning of value")
            self.space()
            letter = self.peek()
            if letter not in (",", end):
                raise self.wrong("after object key:value pair" if end == "}" else "after array element")
            self.at += 1
            if letter == end:
                return
            self.space()

    def _key(self) -> None:
        self.space()
        if self.peek() != '"':
            raise self.wrong("looking for beginning of object key string")
        self._string()
        self.space()
        if self.peek() != ":":
            raise self.wrong("after object key")
        self.at += 1

    def _string(self) -> None:
        self.at += 1
        while True:
            self._skip(_PLAIN)
            letter = self.peek()
            if letter == '"':
                self.at += 1
                return
            if letter < " ":
                raise self.wrong("in string literal")
            self.at += 1
            if letter == "\\":
                self._escape()

    def _escape(self) -> None:
        letter = self.peek()
        if letter not in '"\\/bfnrtu':
            raise self.wrong("in string escape code")
        self.at += 1
        for _ in range(4 if letter == "u" else 0):
            if not _HEX.match(self.peek()):
                raise self.wrong("in \\u hexadecimal character escape")
            self.at += 1

    def _number(self) -> None:
        if self.peek() == "-":
            self.at += 1
            if self.peek() not in _DIGITS:
                raise self.wrong("in numeric literal")
        if self.peek() == "0":
            self.at += 1
        else:
            self._digits()
        if self.text[self.at : self.at + 1] == ".":
            self.at += 1
            if self.peek() not in _DIGITS:
                raise self.wrong("after decimal point in numeric literal")
            self._digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at += 1
            if self.peek() in "+-":
                self.at += 1
            if self.peek() not in _DIGITS:
                raise self.wrong("in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        while self.text[self.at : self.at + 1] in _DIGITS:
            self.at += 1

    def _literal(self, word: str) -> None:
        for letter in word:
            if self.peek() != letter:
                raise self.wrong(f"in literal {word} (expecting {_quoted(letter)})")
            self.at += 1


def _quoted(letter: str) -> str:
    if letter == "'":
        return r"'\''"
    if letter == '"':
        return "'\"'"
    shown = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}.get(letter, letter)
    return f"'{_shown(shown)}'"


def go_quoted(text: str) -> str:
    """A text as Go's %q writes it."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b"}
    escapes |= {"\f": "\\f", "\v": "\\v"}
    return '"' + "".join(escapes.get(letter) or _shown(letter) for letter in text) + '"'


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    code = ord(text)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def kind_of(value: object) -> str:
    """What Go calls a JSON value in «cannot unmarshal ...»."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"


def go_text(value: object) -> str:
    """A JSON value as Go's %v prints it: `map[a:1 b:[x y]]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_text, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
