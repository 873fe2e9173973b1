"""Extra SIP headers that an application may put into our messages, and which it may not (contract §1, "Safety of fields").

A name is a token (§25.1), a value one line of text; a header that frames the message, routes it, names the dialog or
promises an extension on our behalf is ours alone. Knows nothing of messages: what passes here is safe to print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

HEADERS_MAX = 32
HEADERS_MAX_BYTES = 2048  # all lines together, so that a 200 with its SDP stays one datagram of reasonable size

# The contract's own list, then what this service writes itself or what would change the rules of the dialog.
OWNED: frozenset[str] = frozenset(
    (
        *("via", "from", "to", "call-id", "cseq", "contact", "route", "record-route"),
        *("allow", "max-forwards", "min-se", "proxy-require", "rack", "require", "rseq"),
        *("session-expires", "supported", "timestamp"),
        *("authorization", "proxy-authorization"),
    )
)
_OWNED_PREFIX = "content-"
# §7.3.3 and the IANA registry: the compact forms of the owned ones.
_OWNED_COMPACT: frozenset[str] = frozenset("vftimcelkx")

_NAME_SYNTAX = r"[A-Za-z0-9\-.!%*_+`'~]+"
# ASCII controls, and what Unicode counts as a line end: some peers' libraries break lines there.
CONTROLS = r"\x00-\x1f\x7f\x85\u2028\u2029"
_NAME = re.compile(_NAME_SYNTAX)
_CONTROL = re.compile(f"[{CONTROLS}]")


def one_line(text: str) -> str:
    """`text` itself when it can stand in one line of a SIP message; control characters, CR and LF first, cannot."""
    if text.isprintable() or not _CONTROL.search(text):
        return text
    raise PydanticCustomError("control_characters", "must be one line without control characters")


OneLine = Annotated[
    str, Field(max_length=256), AfterValidator(one_line), WithJsonSchema({"type": "string", "maxLength": 256})
]


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("header_name", "is no header name (a token of RFC 3261)")
    lower = name.lower()
    if lower in OWNED or lower in _OWNED_COMPACT or lower.startswith(_OWNED_PREFIX):
        raise PydanticCustomError("owned_header", "is a header that this service sets itself")
    return name


def _as_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


def _bounded(headers: dict[str, list[str]]) -> dict[str, list[str]]:
    lines = [(name, value) for name, values in headers.items() for value in values]
    if len(lines) > HEADERS_MAX:
        raise PydanticCustomError("headers_too_many", "has more than {limit} lines", {"limit": HEADERS_MAX})
    if sum(len(name) + len(value.encode()) + 4 for name, value in lines) > HEADERS_MAX_BYTES:
        raise PydanticCustomError("headers_too_large", "takes more than {limit} bytes", {"limit": HEADERS_MAX_BYTES})
    return headers


_VALUE_SCHEMA = {"type": "string", "maxLength": 256}

ExtraHeaders = Annotated[
    dict[
        Annotated[str, Field(max_length=64), AfterValidator(_name)],
        Annotated[list[OneLine], Field(min_length=1, max_length=HEADERS_MAX), BeforeValidator(_as_list)],
    ],
    AfterValidator(_bounded),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": HEADERS_MAX,
            "propertyNames": {"pattern": f"^{_NAME_SYNTAX}$", "maxLength": 64},
            "additionalProperties": {
                "anyOf": [
                    _VALUE_SCHEMA,
                    {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1, "maxItems": HEADERS_MAX},
                ]
            },
            "description": "Extra headers, each with one value or several, one line each, "
            f"{HEADERS_MAX_BYTES} bytes together. Refused: " + ", ".join(sorted(OWNED)) + " and content-*.",
        }
    ),
]


def tuples_of(headers: Mapping[str, list[str]] | None) -> dict[str, tuple[str, ...]]:
    """Extra headers as `bridge.calls` has them."""
    return {name: tuple(values) for name, values in headers.items()} if headers else {}
