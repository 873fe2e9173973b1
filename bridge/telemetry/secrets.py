"""Keeping secrets out of the log: what is masked, wherever in a line it turns up.

Three nets, each for what the others miss: values under a telling key (`authorization=…`), text of a telling shape
(`whsec_…`, a password in a URL), and the configured secrets themselves, letter by letter. Masking too much is no harm.
Most lines have nothing to hide, so each pattern has words without which it cannot match, and those are looked for first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"
_LITERAL_MIN = 4  # a shorter "secret" would black out half of the log
_DEPTH_MAX = 6
_ITEMS_MAX = 100
_TEXT_MAX = 8192

_TELLING_KEY = re.compile(r"authorization|passw|secret|token|api_?key|cookie|private|^key$", re.IGNORECASE)

_ENDPOINT_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]+", re.IGNORECASE)
# user:password@ in a URL, which ends at the last @ before a slash, so a password may hold one; and in a SIP URI (§19.1.1).
_PASSWORDS: Final = (
    re.compile(r"(://[^\s/:@]*:)[^\s/]*@"),
    re.compile(r"\b(sips?:[^\s:@;<>]+:)[^\s@;<>]+@", re.IGNORECASE),
)
# What must be there in lower case, the pattern, what stays of it.
_PATTERNS: Final = (
    # A header, as SIP and HTTP print it, in a dictionary or a list of pairs: everything up to the end of the line.
    (("authorization",), re.compile(r"(authorization\b[\"']?\s*[:=,]\s*)[^\r\n]+", re.IGNORECASE), rf"\1{MASK}"),
    (("bearer", "basic"), re.compile(r"\b(bearer|basic)(\s+)[^\s\"',;]+", re.IGNORECASE), rf"\1\2{MASK}"),
    (
        ("passw", "secret", "token", "key"),
        re.compile(
            r"((?:password|passwd|secret|token|api[_-]?key)[\"']?\s*[:=]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # The key of an SRTP stream (RFC 4568).
    (("inline:",), re.compile(r"(inline:)[A-Za-z0-9+/=]+", re.IGNORECASE), rf"\1{MASK}"),
)


class Masker:
    """A structlog processor: leaves only masked text, numbers, and plain containers of them for the renderer."""

    __slots__ = ("_key", "_secrets")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({it for it in secrets if len(it) >= _LITERAL_MIN}, key=len, reverse=True)
        # The names in log lines are few and come again and again.
        self._key = lru_cache(maxsize=512)(self._read_key)

    def __call__(self, _logger: object, _method: str, line: Mapping[str, Any]) -> dict[str, Any]:
        masked = {}
        for key, value in line.items():
            shown, telling = self._key(key)
            masked[shown] = MASK if telling and value is not None else self._value(value, _DEPTH_MAX)
        return masked

    def text(self, text: str) -> str:
        """`text` without its secrets, and not endlessly long."""
        if (
            not text.isidentifier()
        ):  # nearly every other name in a log line is one, and hides nothing but a secret itself
            text = _telling(text)
        elif "whsec_" in text.lower():
            text = _ENDPOINT_SECRET.sub(f"whsec_{MASK}", text)
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"

    def _read_key(self, key: str) -> tuple[str, bool]:
        return self.text(key), _TELLING_KEY.search(key) is not None

    def _value(self, value: object, depth: int) -> object:
        match value:
            case str():
                return self.text(value)
            case None | bool() | int() | float():
                return value
            case bytes() | bytearray():
                return self.text(bytes(value).decode("utf-8", "replace"))
            case Mapping() if depth:
                return self._mapping(value, depth - 1)
            case list() | tuple() | set() | frozenset() if depth:
                return [self._value(item, depth - 1) for item in list(value)[:_ITEMS_MAX]]
        return self.text(repr(value))

    def _mapping(self, given: Mapping[Any, object], depth: int) -> dict[str, object]:
        masked: dict[str, object] = {}
        for name, value in list(given.items())[:_ITEMS_MAX]:
            text = str(name)
            masked[self.text(text)] = MASK if _TELLING_KEY.search(text) else self._value(value, depth)
        return masked


def _telling(text: str) -> str:
    lower = text.lower()
    if "whsec_" in lower:
        text = _ENDPOINT_SECRET.sub(f"whsec_{MASK}", text)
    at = text.rfind("@")
    if at > 0 and text.count(":", 0, at) > 1:
        for pattern in _PASSWORDS:
            text = pattern.sub(rf"\1{MASK}@", text)
    for words, pattern, kept in _PATTERNS:
        for word in words:
            if word in lower:
                text = pattern.sub(kept, text)
                break
    return text
