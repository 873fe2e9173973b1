"""SIP and SDP as text, for the phones: read and written from RFC 3261 §7 and RFC 4566 alone, and nothing of `bridge`.

As strict as a phone that wants to find mistakes: what is missing or malformed raises `Malformed`.
"""

from __future__ import annotations

from hashlib import md5
from typing import NamedTuple

_LONG = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type"}
_MANDATORY = ("via", "from", "to", "call-id", "cseq")  # §8.1.1, §8.2.6.2


class Malformed(Exception):
    """Somebody has sent what is no SIP message."""


class Message:
    """One SIP message. Names of header fields are lower case."""

    __slots__ = ("body", "fields", "start")

    def __init__(self, start: str, fields: list[tuple[str, str]], body: str = "") -> None:
        self.start = start
        self.fields = fields
        self.body = body

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name]

    def get(self, name: str) -> str:
        """The first of that name; empty where there is none."""
        return next((value for each, value in self.fields if each == name), "")

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start.split(" ", 2)[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Of a request, or of the request that this answers."""
        return self.get("cseq").split()[1]

    @property
    def number(self) -> int:
        """Of its CSeq."""
        return int(self.get("cseq").split()[0])

    @property
    def uri(self) -> str:
        """The Request-URI."""
        return self.start.split(" ", 2)[1]

    @property
    def branch(self) -> str:
        return param(self.get("via"), "branch")

    @property
    def from_tag(self) -> str:
        return param(self.get("from"), "tag")

    @property
    def to_tag(self) -> str:
        return param(self.get("to"), "tag")

    def encode(self) -> bytes:
        lines = [self.start, *[f"{name.title()}: {value}" for name, value in self.fields]]
        body = self.body.encode()
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


def read(data: bytes) -> Message:
    """A datagram as a message (§7, §18.3)."""
    head, parted, body = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
    if not parted:
        raise Malformed("no empty line")
    start, *lines = head.split("\r\n")
    fields: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in " \t" and fields:
            name, value = fields.pop()
            fields.append((name, f"{value} {line.strip()}"))
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"no header field: {line!r}")
        name = name.strip().lower()
        fields.append((_LONG.get(name, name), value.strip()))
    message = Message(start, fields, body)
    missing = [name for name in _MANDATORY if not message.get(name)]
    length = message.get("content-length")
    if missing or (length and int(length) != len(body.encode("utf-8", "surrogateescape"))):
        raise Malformed(f"without {missing}, or of another length than it says")
    return message


def told(data: bytes) -> str:
    """In a few words, for the ladder."""
    try:
        message = read(data)
    except Malformed:
        return repr(data[:40])
    start = message.start.removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")
    direction = next((line[2:] for line in message.body.split("\r\n") if line[2:] in _DIRECTIONS), "sendrecv")
    sdp = f" [{direction}]" if message.body else ""
    return f"{start}{sdp}  {message.get('call-id')[:24]} {message.get('cseq')} {message.branch[-12:]}"


def param(value: str, name: str) -> str:
    """A parameter of a header field's value, not of the URI in it; empty where there is none."""
    outside = value.rpartition(">")[2] if ">" in value else value
    for part in outside.split(";")[1:]:
        key, _, given = part.strip().partition("=")
        if key.lower() == name:
            return given.strip()
    return ""


def uri_in(value: str) -> str:
    """The URI of a name-addr or addr-spec (§20.10)."""
    return value.partition("<")[2].partition(">")[0] if "<" in value else value.partition(";")[0].strip()


def place_of(uri: str) -> tuple[str, int]:
    """Host and port of a SIP URI with an IPv4 address."""
    host, _, port = uri.partition(":")[2].rpartition("@")[2].partition(";")[0].partition(":")
    return host, int(port) if port else 5060


def user_of(uri: str) -> str:
    return uri.partition(":")[2].rpartition("@")[0]


# SDP

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


class Session(NamedTuple):
    """What one side says of its audio."""

    host: str
    port: int
    formats: tuple[str, ...]
    direction: str
    version: int  # of its o= line


def describe(session: Session, number: int) -> str:
    """As SDP. `number`: the session's, for its o= line."""
    formats = " ".join(session.formats)
    events = "a=rtpmap:101 telephone-event/8000\r\n" if "101" in session.formats else ""
    return (
        f"v=0\r\no=- {number} {session.version} IN IP4 {session.host}\r\ns=-\r\nc=IN IP4 {session.host}\r\nt=0 0\r\n"
        f"m=audio {session.port} RTP/AVP {formats}\r\n{events}a={session.direction}\r\n"
    )


def described(body: str) -> Session:
    """The audio of an SDP, which has to have some."""
    host, port, formats, direction, version = "", 0, ("",), "sendrecv", 0
    for line in body.split("\r\n"):
        kind, _, value = line.partition("=")
        if kind == "o":
            version = int(value.split()[2])
        elif kind == "c":
            host = value.split()[2]
        elif kind == "m" and value.startswith("audio "):
            _, text, _, *listed = value.split()
            port, formats = int(text), tuple(listed)
        elif kind == "a" and value in _DIRECTIONS:
            direction = value
    if not host or not formats[0]:
        raise Malformed("an SDP without audio")
    return Session(host, port, formats, direction, version)


def seen_from_there(direction: str) -> str:
    """What the other side of a stream of this direction says (RFC 3264 §6.1)."""
    return {"sendonly": "recvonly", "recvonly": "sendonly"}.get(direction, direction)


# Digest (RFC 2617 §3.2.2, qop=auth)


def proves(authorization: str, *, username: str, password: str, nonce: str, method: str) -> bool:
    """Whether this Authorization header field shows that its sender knows the password."""
    kind, _, rest = authorization.partition(" ")
    given = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    said = {key: value.strip('"') for key, value in given.items()}
    if kind.lower() != "digest" or said.get("nonce") != nonce or said.get("username") != username:
        return False
    first = _digest(f"{username}:{said.get('realm')}:{password}")
    second = _digest(f"{method}:{said.get('uri')}")
    middle = f"{nonce}:{said.get('nc')}:{said.get('cnonce')}:{said.get('qop')}"
    return said.get("response") == _digest(f"{first}:{middle}:{second}")


def _digest(text: str) -> str:
    return md5(text.encode()).hexdigest()
