"""Why a request or a reply cannot be taken: which field, what is wrong with it, what was received.

Turns pydantic's findings into sentences for a person, with a path through the JSON (`actions.0.code`). What was received
comes from outside: it is shortened, nothing of it that a terminal or a log would act on is passed on, and no password.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.contract.dialing import LIST_FORM, TARGET_FORM, URI_FORM

QUOTE_MAX = 80  # characters of what was received that are repeated to whoever sent it
REFUSALS_MAX = 20
# What a path through a tagged union or a dictionary has that the JSON has not.
_NO_JSON = frozenset({"[key]", URI_FORM, TARGET_FORM, LIST_FORM})

_SECRET_FIELDS = frozenset({"auth", "password"})
# Nothing behind the name of such a field is quoted: what it holds may be cut short, badly escaped, or no JSON at all.
_SECRET_FOLLOWS = re.compile(r"(passw(?:or)?d|\bauth\b).+", re.IGNORECASE | re.DOTALL)
_URI_PASSWORD = re.compile(r"\b(sips?:[^\s:@\"<>]*:)[^\s@\"<>]*(@|$)", re.IGNORECASE)


class Refusal(NamedTuple):
    """One field that cannot be taken."""

    field: str  # the JSON path; empty: the whole of it
    detail: str
    received: str = ""  # quoted; empty where the path says it all

    def __str__(self) -> str:
        said = f"{self.field}: {self.detail}" if self.field else self.detail
        return f"{said}; received {self.received}" if self.received else said


def quote(received: str | bytes, limit: int = QUOTE_MAX) -> str:
    """Text that came from outside: on one line, short, without passwords and what a terminal would act on."""
    # Four bytes at most make a character, so this many hold all that is shown.
    received = received[: 4 * limit + 4]
    text = received.decode("utf-8", "replace") if isinstance(received, bytes) else received
    text = _URI_PASSWORD.sub(r"\1…\2", _SECRET_FOLLOWS.sub(r"\1…", text))
    short = text if len(text) <= limit else text[:limit] + "…"
    return short if short.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in short)


def refusals_of(error: ValidationError, *, tags: frozenset[str] = frozenset()) -> tuple[Refusal, ...]:
    """Every finding, at most twenty. `tags` are the names of a tagged union's members, which are no part of the path."""
    return tuple(_refusal(found, tags) for found in error.errors(include_url=False)[:REFUSALS_MAX])


def _refusal(found: ErrorDetails, tags: frozenset[str]) -> Refusal:
    path = _path(found["loc"], tags)
    match found["type"]:
        case "extra_forbidden":
            return Refusal(path, "unknown field")
        case "missing":
            return Refusal(path, "required")
        case "union_tag_not_found":
            return Refusal(f"{path}.action", "required")
        case "union_tag_invalid":
            unknown = quote(str(found["ctx"]["tag"]))
            return Refusal(f"{path}.action", f'unknown action "{unknown}"; known: {", ".join(sorted(tags))}')
        case "model_type" | "model_attributes_type" | "dict_type":
            return Refusal(path, "should be an object", _received(found))
    said = found["msg"].removeprefix("Input ")
    return Refusal(path, said[0].lower() + said[1:], _received(found))


def _received(found: ErrorDetails) -> str:
    if _SECRET_FIELDS.intersection(found["loc"]):
        return ""
    return quote(json.dumps(found["input"], ensure_ascii=False, default=repr))


def _path(location: tuple[int | str, ...], tags: frozenset[str]) -> str:
    parts: list[str] = []
    after_index = False
    for part in location:
        if part not in _NO_JSON and not (after_index and part in tags):
            parts.append(quote(str(part)))
        after_index = isinstance(part, int)
    return ".".join(parts)
