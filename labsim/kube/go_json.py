"""What Go's encoding/json says about a text that is no JSON: clients see it in the API server's answers."""

from __future__ import annotations

import re

_END = "unexpected end of JSON input"
_SPACE = " \t\r\n"
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_HEX = re.compile(r"[0-9a-fA-F]")


class _Problem(Exception):
    pass


def syntax_problem(body: bytes) -> str:
    """The first problem of a text; "" for one that Go can read."""
    reader = _Reader(body.decode("utf-8", "replace"))
    try:
        reader.value("looking for beginning of value")
        reader.space()
        if reader.at < len(reader.text):
            raise reader.wrong("after top-level value")
    except _Problem as problem:
        return str(problem)
    except RecursionError:
        return "exceeded max depth"
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
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1

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
        elif letter == "-" or letter.isdigit():
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
            if not self.peek().isdigit():
                raise self.wrong("in numeric literal")
        if self.peek() == "0":
            self.at += 1
        else:
            self._digits()
        if self.text[self.at : self.at + 1] == ".":
            self.at += 1
            if not self.peek().isdigit():
                raise self.wrong("after decimal point in numeric literal")
            self._digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at += 1
            if self.peek() in "+-":
                self.at += 1
            if not self.peek().isdigit():
                raise self.wrong("in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        while self.text[self.at : self.at + 1].isdigit():
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
    return f"'{shown}'" if shown.isprintable() else f"'\\x{ord(letter):02x}'"


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
