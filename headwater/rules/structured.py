"""Structured field dictionaries (RFC 9651 section 3.2), as far as targeted cache control needs them: keys with bare items.

Strict, as the RFC demands: any error makes the whole field void. Parameters and inner lists are read and dropped.
"""

from __future__ import annotations

import re
from typing import Final

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_NUMBER = re.compile(r"-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})(?![0-9.])")
_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BYTES = re.compile(r":[A-Za-z0-9+/=]*:")
_BOOLEAN = re.compile(r"\?[01]")
_SPACE: Final = " "

Item = int | float | bool | str


class _Invalid(Exception):
    pass


class _Reader:
    """A position in the text; each method reads one production or raises _Invalid."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    @property
    def over(self) -> bool:
        return self.position >= len(self.text)

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def take_character(self, character: str) -> bool:
        if self.text.startswith(character, self.position):
            self.position += 1
            return True
        return False

    def skip(self, characters: str) -> None:
        while not self.over and self.text[self.position] in characters:
            self.position += 1

    def key(self) -> str:
        key = self.take(_KEY)
        if key is None:
            raise _Invalid
        return key

    def bare_item(self) -> Item:
        if (number := self.take(_NUMBER)) is not None:
            return float(number) if "." in number else int(number)
        if (string := self.take(_STRING)) is not None:
            return re.sub(r"\\(.)", r"\1", string[1:-1])
        if (boolean := self.take(_BOOLEAN)) is not None:
            return boolean == "?1"
        for pattern in (_BYTES, _TOKEN):
            if (text := self.take(pattern)) is not None:
                return text
        raise _Invalid

    def parameters(self) -> None:
        while self.take_character(";"):
            self.skip(_SPACE)
            self.key()
            if self.take_character("="):
                self.bare_item()

    def member(self) -> Item:
        """The value of a dictionary member; a lone key is true."""
        if not self.take_character("="):
            self.parameters()
            return True
        if self.take_character("("):
            self._inner_list()
            self.parameters()
            return ""
        item = self.bare_item()
        self.parameters()
        return item

    def _inner_list(self) -> None:
        while True:
            self.skip(_SPACE)
            if self.take_character(")"):
                return
            self.bare_item()
            self.parameters()


def parse_dictionary(text: str) -> dict[str, Item] | None:
    """The dictionary's members, the last of equal keys; None when the field is not a valid dictionary."""
    reader = _Reader(text)
    members: dict[str, Item] = {}
    try:
        reader.skip(_SPACE)
        while not reader.over:
            key = reader.key()
            members[key] = reader.member()
            reader.skip(" \t")
            if reader.over:
                break
            if not reader.take_character(","):
                return None
            reader.skip(" \t")
            if reader.over:
                return None  # a trailing comma
    except _Invalid:
        return None
    return members
