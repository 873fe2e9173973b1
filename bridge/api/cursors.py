"""Cursors: places in a list, as text that nobody needs to understand (contract §2, "Lists").

A cursor is not secret and grants nothing; it is checked so that a foreign or mangled one is told as such instead of
silently answering with a wrong page. Knows nothing of what the lists hold.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from bridge.api import Position

_POSITION = re.compile(r"p([0-9]{1,15})\.([a-z0-9_]{1,100})")
_NAME = re.compile(r"n(.{1,255})", re.DOTALL)
_SEQUENCE = re.compile(r"s([0-9]{1,9})")


def write_position(position: Position) -> str:
    """The cursor for a place in a list that is ordered by time."""
    return _write(f"p{position.created_ms}.{position.id}")


def read_position(cursor: str) -> Position | None:
    """The place; None for what `write_position` has not made."""
    found = _POSITION.fullmatch(_read(cursor))
    return Position(int(found[1]), found[2]) if found else None


def write_sequence(sequence: int) -> str:
    """The cursor for a place among the events of one call."""
    return _write(f"s{sequence}")


def read_sequence(cursor: str) -> int | None:
    """The sequence; None for what `write_sequence` has not made."""
    found = _SEQUENCE.fullmatch(_read(cursor))
    return int(found[1]) if found else None


def write_name(name: str) -> str:
    """The cursor for a place in a list that is ordered by name."""
    return _write(f"n{name}")


def read_name(cursor: str) -> str | None:
    """The name; None for what `write_name` has not made."""
    found = _NAME.fullmatch(_read(cursor))
    return found[1] if found else None


def _write(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def _read(cursor: str) -> str:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        return ""
    # base64 has several spellings of the same bytes, and its decoder skips foreign characters: only ours counts.
    return text if _write(text) == cursor else ""
