"""Session descriptions: RFC 8866, read and printed.

Reads what answering needs (origin, connection, media lines) and keeps every other line as it came, so a description can
be printed again. Attributes stay raw text until somebody asks for one. Does not judge: what an offer means is
`offer_answer`'s business. Knows nothing of SIP, of codecs or of sockets.

Reading is linear in the input, and bounded: `MAX_BYTES`, `MAX_MEDIA`, `MAX_FORMATS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

MAX_BYTES = 64 * 1024  # nothing larger arrives in one datagram
MAX_LINES = 4096
MAX_MEDIA = 64
MAX_FORMATS = 128  # payload types have seven bits

Line: TypeAlias = tuple[str, str]  # (type letter, value)


class Origin(NamedTuple):
    """`o=`, §5.2: names the session and the version of its description. Numbers stay text: they may have 20 digits."""

    username: str
    session_id: str
    version: str
    net_type: str
    address_type: str
    address: str


class Connection(NamedTuple):
    """`c=`, §5.7. `address` keeps a multicast TTL: "233.252.0.1/127"."""

    net_type: str
    address_type: str
    address: str


class MediaDescription(NamedTuple):
    """One `m=` section, §5.14."""

    kind: str  # "audio", "video", ...
    port: int  # 0: refused or removed
    protocol: str  # "RTP/AVP"
    formats: tuple[str, ...]  # payload types where the protocol is RTP
    connection: Connection | None = None
    attributes: tuple[str, ...] = ()  # what stands after "a=": "rtpmap:0 PCMU/8000", "sendonly"
    other: tuple[Line, ...] = ()  # every other line, in order
    port_count: int = 1  # "m=audio 5004/2" has 2

    def attribute(self, name: str) -> str | None:
        """The value of the first such attribute ("" for a flag), None when absent."""
        return _attribute(self.attributes, name)

    def values(self, name: str) -> Iterator[str]:
        """The values of all attributes of this name, in order."""
        prefix = name + ":"
        cut = len(prefix)
        return (text[cut:] for text in self.attributes if text.startswith(prefix))


class SessionDescription(NamedTuple):
    """A whole description, §5."""

    origin: Origin
    session_name: str = "-"
    connection: Connection | None = None
    attributes: tuple[str, ...] = ()
    media: tuple[MediaDescription, ...] = ()
    other: tuple[Line, ...] = (("t", "0 0"),)  # every other line before the first m=, in order

    @property
    def times(self) -> tuple[str, ...]:
        """The values of the `t=` lines, §5.9."""
        return tuple(value for letter, value in self.other if letter == "t")

    def attribute(self, name: str) -> str | None:
        """The value of the first such session attribute ("" for a flag), None when absent."""
        return _attribute(self.attributes, name)

    def encode(self) -> bytes:
        """The description as it goes on the wire, its lines in the order §5 demands."""
        lines = ["v=0", "o=" + " ".join(self.origin), "s=" + self.session_name]
        _print_section(lines, self.other, "iuep", self.connection, self.attributes)
        for media in self.media:
            port = media.port if media.port_count == 1 else f"{media.port}/{media.port_count}"
            lines.append(f"m={media.kind} {port} {media.protocol} {' '.join(media.formats)}")
            _print_section(lines, media.other, "i", media.connection, media.attributes)
        lines.append("")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class MalformedSdp:
    """Not a description we can read. `reason` fits a SIP reason phrase."""

    reason: str


def parse(data: bytes) -> SessionDescription | MalformedSdp:
    """Read one description. Bare LF line ends, a missing `s=` or `t=` and unknown letters are forgiven; `v=0`, `o=` and
    readable `c=` and `m=` lines are not."""
    if len(data) > MAX_BYTES:
        return MalformedSdp("SDP too large")
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        return MalformedSdp("Control character in SDP")
    if text.count("\n") > MAX_LINES:
        return MalformedSdp("Too many SDP lines")
    # Whatever the far end calls its media sections, the first one ends the session part.
    sections = text.split("\nm=")
    if len(sections) - 1 > MAX_MEDIA:
        return MalformedSdp("Too many SDP media lines")
    session = _parse_session(sections[0])
    if isinstance(session, MalformedSdp):
        return session
    origin, name, connection, attributes, other = session
    media: list[MediaDescription] = []
    for section in sections[1:]:
        described = _parse_media(section)
        if isinstance(described, MalformedSdp):
            return described
        media.append(described)
    return SessionDescription(origin, name, connection, attributes, tuple(media), other)


_SessionPart: TypeAlias = tuple[Origin, str, Connection | None, tuple[str, ...], tuple[Line, ...]]


def _parse_session(text: str) -> _SessionPart | MalformedSdp:
    lines = text.split("\n")
    if lines[0].rstrip(" ") != "v=0":
        return MalformedSdp("SDP does not begin with v=0")
    origin: Origin | None = None
    name = "-"
    connection: Connection | None = None
    attributes: list[str] = []
    other: list[Line] = []
    for line in lines[1:]:
        letter, value = line[:2], line[2:]
        if letter == "a=":
            attributes.append(value)
        elif letter == "o=":
            parts = value.split()
            if origin is not None or len(parts) != 6:
                return MalformedSdp("Bad SDP o= line")
            origin = Origin._make(parts)
        elif letter == "s=":
            name = value
        elif letter == "c=" and connection is None:
            parts = value.split()
            if len(parts) != 3:
                return MalformedSdp("Bad SDP c= line")
            connection = Connection._make(parts)
        elif letter[1:] == "=":
            other.append((letter[0], value))
        elif line:
            return MalformedSdp("Bad SDP line")
    if origin is None:
        return MalformedSdp("SDP without o=")
    return origin, name, connection, tuple(attributes), tuple(other)


def _parse_media(text: str) -> MediaDescription | MalformedSdp:
    lines = text.split("\n")
    heads = lines[0].split()
    if len(heads) < 4:
        return MalformedSdp("Bad SDP m= line")
    if len(heads) > 3 + MAX_FORMATS:
        return MalformedSdp("Too many SDP formats")
    port, port_count = _parse_port(heads[1])
    if port < 0:
        return MalformedSdp("Bad SDP port")
    connection: Connection | None = None
    attributes: list[str] = []
    other: list[Line] = []
    for line in lines[1:]:
        letter, value = line[:2], line[2:]
        if letter == "a=":
            attributes.append(value)
        elif letter == "c=" and connection is None:
            parts = value.split()
            if len(parts) != 3:
                return MalformedSdp("Bad SDP c= line")
            connection = Connection._make(parts)
        elif letter[1:] == "=":
            other.append((letter[0], value))
        elif line:
            return MalformedSdp("Bad SDP line")
    return MediaDescription(
        heads[0], port, heads[2], tuple(heads[3:]), connection, tuple(attributes), tuple(other), port_count
    )


def _parse_port(text: str) -> tuple[int, int]:
    """(port, number of ports); (-1, 0) when it is none."""
    first, slash, count = text.partition("/")
    if not is_number(first, 65535) or (slash and not is_number(count, 65535)):
        return -1, 0
    return int(first), (int(count) or 1) if slash else 1


def is_number(text: str, most: int) -> bool:
    """Whether this is a plain decimal number from 0 to `most`, as the grammar writes them: ASCII digits only."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most


def _attribute(attributes: tuple[str, ...], name: str) -> str | None:
    prefix = name + ":"
    for text in attributes:
        if text == name:
            return ""
        if text.startswith(prefix):
            return text[len(prefix) :]
    return None


def _print_section(
    lines: list[str],
    other: tuple[Line, ...],
    before_connection: str,
    connection: Connection | None,
    attributes: tuple[str, ...],
) -> None:
    for letter, value in other:
        if letter in before_connection:
            lines.append(f"{letter}={value}")
    if connection is not None:
        lines.append("c=" + " ".join(connection))
    for letter, value in other:
        if letter not in before_connection:
            lines.append(f"{letter}={value}")
    lines.extend(["a=" + text for text in attributes])
