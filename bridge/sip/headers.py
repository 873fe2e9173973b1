"""Header fields: the ordered multimap of a message's, and the values in them that have a structure (§7.3, §20).

A header field's value is text until somebody asks for its meaning. What a peer wrote wrongly comes back as None or
`Malformed`, never as an exception. Knows nothing of start lines, bodies or how bytes become lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias

from bridge.errors import LocalProtocolError
from bridge.sip.grammar import (
    Parameters,
    first_of_list,
    is_number,
    is_token,
    parameters,
    print_parameters,
    quote,
    quoted_end,
    split_list,
    unquote,
)
from bridge.sip.names import CANONICAL, METHODS, PRINTED, canonical_name

MAX_ADDRESSES: Final = 128  # in one message's Contact, Route or Record-Route

Line: TypeAlias = tuple[str, str]  # canonical name, value


class Headers:
    """The header fields of one message, in order: names case-insensitive, compact forms the same as long ones.

    A value is one header line as it came, unfolded. Asking never copies more than what is asked for.
    """

    __slots__ = ("_first", "_lines")

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self._lines: list[Line] = [_line(name, value) for name, value in lines]
        self._first: dict[str, str] | None = None

    @classmethod
    def of(cls, lines: list[Line], first: dict[str, str] | None = None) -> Headers:
        """Headers of lines that are canonical already, such as those of other Headers; takes the list over.

        `first`: each name's first value, where that is known.
        """
        self = cls.__new__(cls)
        self._lines = lines
        self._first = first
        return self

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"

    def get(self, name: str) -> str | None:
        """The value of the first line of that name, or None."""
        first = self._first
        if first is None:
            first = self._first = dict(reversed(self._lines))
        value = first.get(name)
        if value is not None or name in PRINTED:
            return value
        for spelled in self._spellings(name):
            if spelled in first:
                return first[spelled]
        return None

    def lines(self, name: str) -> list[str]:
        """The values of all lines of that name, in order."""
        spellings = self._spellings(name)
        return [value for each, value in self._lines if each in spellings]

    def values(self, name: str) -> list[str]:
        """All values of that name: its lines split at their commas, those in quotes and <> excepted (§7.3.1)."""
        spellings = self._spellings(name)
        return [part for each, value in self._lines if each in spellings for part in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Put a line behind all others."""
        self._lines.append(_line(name, value))
        self._first = None

    def prepend(self, name: str, value: str) -> None:
        """Put a line before all others: a Via, a Record-Route."""
        self._lines.insert(0, _line(name, value))
        self._first = None

    def set(self, name: str, value: str) -> None:
        """Have this line alone of that name: where the first one was, or behind all others."""
        line = _line(name, value)
        spellings = self._spellings(name)
        kept: list[Line] = []
        place = -1
        for each in self._lines:
            if each[0] not in spellings:
                kept.append(each)
            elif place < 0:
                place = len(kept)
        kept.insert(len(kept) if place < 0 else place, line)
        self._lines = kept
        self._first = None

    def replace_first(self, name: str, value: str) -> None:
        """Put another value in place of the first one, even where that shares its line: how Via gets `received`."""
        spellings = self._spellings(name)
        for index, (each, line) in enumerate(self._lines):
            if each in spellings:
                _, rest = first_of_list(line)
                self._lines[index] = _line(each, f"{value}, {rest}" if rest else value)
                self._first = None
                return
        self.add(name, value)

    def remove_first(self, name: str) -> None:
        """Drop the first value of that name, which may share its line; there may be none. How a proxy takes off its Via."""
        spellings = self._spellings(name)
        for index, (each, line) in enumerate(self._lines):
            if each in spellings:
                _, rest = first_of_list(line)
                self._lines[index : index + 1] = [(each, rest)] if rest else []
                self._first = None
                return

    def remove(self, name: str) -> None:
        """Drop all lines of that name; there may be none."""
        spellings = self._spellings(name)
        self._lines = [line for line in self._lines if line[0] not in spellings]
        self._first = None

    def copy(self) -> Headers:
        """Headers with the same lines, to be changed apart from these."""
        return Headers.of(self._lines.copy())

    def _spellings(self, name: str) -> tuple[str, ...]:
        """How `name` is spelled in here: one way for a known name, as it came for any other."""
        known = CANONICAL.get(name) or CANONICAL.get(name.lower())
        if known is not None:
            return (known,)
        lowered = name.lower()
        return tuple(dict.fromkeys(each for each, _ in self._lines if each.lower() == lowered))  # the first one first


def _line(name: str, value: str) -> Line:
    """A line of ours. What a peer wrote has been through the parser, which has its own checks."""
    known = CANONICAL.get(name)
    if "\n" in value or "\r" in value or not (known or is_token(name)):
        raise LocalProtocolError(f"no header field may be {name!r}: {value!r}")
    return known or canonical_name(name), value


@dataclass(frozen=True, slots=True)
class Malformed:
    """What the far end wrote does not follow the grammar; `reason` says what, fit for a reason phrase."""

    reason: str


class Star(Enum):
    """`Contact: *`, which only a REGISTER with `Expires: 0` may say (§10.2.2)."""

    ALL = "*"


class HasHeaders(Protocol):
    """A request or a response."""

    @property
    def headers(self) -> Headers: ...


class NameAddr(NamedTuple):
    """`"display name" <uri>;parameters`, or the same without brackets: From, To, Contact, Route … (§20.10)."""

    display_name: str | None  # without quotes and escapes
    uri: str  # as written between the brackets
    params: Parameters = ()  # the header field's, not the URI's

    def __str__(self) -> str:
        name = "" if self.display_name is None else f"{quote(self.display_name)} "
        return f"{name}<{self.uri}>{print_parameters(self.params)}"

    def param(self, name: str) -> str | None:
        """The value of a parameter, unquoted; "" for one without value, None when it is absent."""
        for each, value in self.params:
            if each == name:
                return unquote(value) if value else ""
        return None

    @property
    def tag(self) -> str | None:
        """The tag (§19.3), or None; an empty one is none."""
        for name, value in self.params:
            if name == "tag":
                return value or None
        return None


class Via(NamedTuple):
    """One Via value (§20.42)."""

    transport: str  # upper case
    host: str  # sent-by; IPv6 in its brackets
    port: int | None
    params: Parameters = ()

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {self.sent_by}{print_parameters(self.params)}"

    @property
    def sent_by(self) -> str:
        """`host` or `host:port`, as written."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def branch(self) -> str | None:
        """The branch parameter, or None (RFC 2543); an empty one is none."""
        for name, value in self.params:
            if name == "branch":
                return value or None
        return None

    def param(self, name: str) -> str | None:
        """The value of a parameter; "" for one without value, None when it is absent."""
        for each, value in self.params:
            if each == name:
                return value or ""
        return None

    def with_param(self, name: str, value: str) -> Via:
        """The same with that parameter set: where it stood (`rport`), or at the end (`received`)."""
        if all(each != name for each, _ in self.params):
            return self._replace(params=(*self.params, (name, value)))
        return self._replace(params=tuple((each, value if each == name else old) for each, old in self.params))


class CSeq(NamedTuple):
    """§20.16."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


_SIMPLE_NAME_ADDR = re.compile(r"([^\"<>,;:]*+)<([A-Za-z][A-Za-z0-9+.\-]*+:[^<>\"\s]++)>(?:;tag=([^\s;,\"<>=]++))?")
_BRACKETED = re.compile(r"[ \t]*+<([A-Za-z][A-Za-z0-9+.\-]*+:[^<>\"\s]++)>[ \t]*+")
_ADDR_SPEC = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+:[^<>\"\s,;?]++)[ \t]*+")
# Tokens, says the grammar; phones also send brackets, `@` and bare UTF-8. A comma or a quote would mean another value.
_DISPLAY_NAME = re.compile(r"[^\"<>,;:]+")
_SIMPLE_VIA = re.compile(
    r"SIP/2\.0/([A-Za-z]++) (\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++)(?::([0-9]{1,5}+))?"
    r";branch=([^\s;=\"<>,]++)(;[^\s\"<>,]*+)?"
)
_VIA = re.compile(
    r"SIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+([A-Za-z0-9\-.!%*_+`'~]++)[ \t]++"
    r"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++)[ \t]*+(?::[ \t]*+([0-9]{1,5}+)[ \t]*+)?",
    re.IGNORECASE,
)


def parse_name_addr(text: str) -> NameAddr | None:
    """Read one name-addr or addr-spec with its parameters; None when it is malformed."""
    match = _SIMPLE_NAME_ADDR.fullmatch(text)
    if match is not None:
        name, uri, tag = match.groups()
        return NameAddr(name.strip(" \t") or None, uri, () if tag is None else (("tag", tag),))
    display_name = None
    text = text.strip(" \t")
    if text[:1] == '"':
        end = quoted_end(text)
        if end < 0:
            return None
        display_name = unquote(text[:end])
        match = _BRACKETED.match(text, end)
    else:
        bracket = text.find("<")
        if bracket < 0:
            # Without brackets `?`, `,` and `;` end the URI: what follows is the header field's own (§20.10).
            match = _ADDR_SPEC.match(text)
        else:
            display_name = text[:bracket].strip(" \t") or None
            if display_name is not None and not _DISPLAY_NAME.fullmatch(display_name):
                return None
            match = _BRACKETED.match(text, bracket)
    if match is None:
        return None
    params = parameters(text[match.end() :])
    return None if params is None else NameAddr(display_name, match[1], params)


def parse_via(text: str) -> Via | None:
    """Read one Via value; None when it is malformed."""
    match = _SIMPLE_VIA.fullmatch(text)
    if match is not None:
        transport, host, port, branch, written = match.groups()
        first = ("branch", branch)
        others = parameters(written) if written else ()
        params = None if others is None else (first, *others)
    else:
        match = _VIA.match(text)
        if match is None:
            return None
        transport, host, port = match.groups()
        params = parameters(text[match.end() :])
    if params is None:
        return None
    number = None if port is None else int(port)
    return None if number is not None and number > 65535 else Via(transport.upper(), host, number, params)


def parse_cseq(text: str) -> CSeq | None:
    """Read a CSeq value; None when it is malformed. The number may be one that §8.1.1.5 forbids: see `parser`."""
    number, _, method = text.partition(" ")
    if not number.isdigit() or method not in METHODS:
        pieces = text.split(None, 2)
        if len(pieces) != 2:
            return None
        number, method = pieces
        if not is_token(method):
            return None
    return CSeq(int(number), method) if is_number(number) else None


def format_name_addr(display_name: str | None, uri: str, **params: str | None) -> str:
    """A name-addr as a header field's value; the display name is quoted, None or "" leaves it out."""
    written = tuple((name.replace("_", "-"), value) for name, value in params.items())
    return str(NameAddr(display_name or None, uri, written))


def contacts(message: HasHeaders) -> tuple[NameAddr, ...] | Star | Malformed:
    """All Contact values (§20.10), or `Star` where `*` is the only one."""
    values = message.headers.values("Contact")
    if values == ["*"]:
        return Star.ALL
    return _addresses(values, "Contact")


def routes(message: HasHeaders, name: str) -> tuple[NameAddr, ...] | Malformed:
    """All Route or Record-Route values (`name` says which), top first (§20.30, §20.34)."""
    return _addresses(message.headers.values(name), canonical_name(name))


def _addresses(values: list[str], name: str) -> tuple[NameAddr, ...] | Malformed:
    if len(values) > MAX_ADDRESSES:
        return Malformed(f"Too Many {name} Values")
    found: list[NameAddr] = []
    for value in values:
        address = parse_name_addr(value)
        if address is None:
            return Malformed(f"Malformed {name}")
        found.append(address)
    return tuple(found)


def max_forwards(message: HasHeaders) -> int | None:
    """Max-Forwards (§20.22), or None when it is absent."""
    return _number(message.headers.get("Max-Forwards"))


def option_tags(message: HasHeaders, name: str) -> tuple[str, ...]:
    """The values of a list of tokens (Require, Supported, Proxy-Require, Unsupported …), in lower case."""
    return tuple([value.lower() for value in message.headers.values(name)])


def reason_q850(message: HasHeaders) -> int | None:
    """The Q.850 cause of a Reason header field (RFC 3326), or None."""
    number = _reason(message, "Q.850")
    return number if number is not None and number <= 127 else None


def reason_sip(message: HasHeaders) -> int | None:
    """The SIP status of a Reason header field (RFC 3326): 200 in a CANCEL says that somebody else has answered."""
    return _reason(message, "SIP")


def _reason(message: HasHeaders, wanted: str) -> int | None:
    for value in message.headers.values("Reason"):
        protocol, semicolon, rest = value.partition(";")
        if protocol.strip(" \t").upper() == wanted:
            for name, cause in parameters(semicolon + rest) or ():
                if name == "cause":
                    return _number(cause)
    return None


def content_type(message: HasHeaders) -> str | None:
    """`type/subtype` of Content-Type in lower case, without its parameters; None when it is absent."""
    value = message.headers.get("Content-Type")
    if value is None:
        return None
    written = value.partition(";")[0]
    return "".join(written.split()).lower() if " " in written or "\t" in written else written.lower()


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    return int(text) if is_number(text) else None
