"""What a torture message must get: the kinds of expectation, and how a message is read to be held against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bridge.sip import headers as fields
from bridge.sip.headers import Line
from bridge.sip.message import Message, Request, Response
from bridge.sip.uri import parse_uri

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Taken:
    """A good message. `reads`: what it says, by the names of `READINGS` or a header field's."""

    reads: Mapping[str, object]


@dataclass(frozen=True)
class Refused:
    """A malformed request that can be answered, and the answer."""

    reason: str
    status: int = 400


@dataclass(frozen=True)
class Dropped:
    """A malformed message that nobody is to answer; `reason` is what the log says."""

    reason: str


@dataclass(frozen=True)
class Answer:
    """The one final response of a user agent server, with header fields it must have."""

    status: int
    headers: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Case:
    """One message of an RFC."""

    section: str
    why: str
    parsed: Taken | Refused | Dropped
    answer: Answer | None  # of our user agent server; None: silence
    unmet: str = ""  # why `answer` is not what it does, and …
    instead: Answer | None = None  # … what it does


Table: TypeAlias = Mapping[str, Case]


def taken(headers: Mapping[str, list[str]] | None = None, /, **reads: object) -> Taken:
    """A good message with these header fields' lines, and what else it says by the names of `READINGS`."""
    return Taken({**reads, **(headers or {})})


def load(rfc: str, name: str) -> bytes:
    """A message as it comes by the wire."""
    return (HERE / rfc / f"{name}.dat").read_bytes()


def counted(data: bytes) -> bytes:
    """The message with the Content-Length that its body has."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [
        b"Content-Length: %d" % len(body) if line.startswith(b"Content-Length:") else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def read(message: Message, what: str) -> object:
    """What `message` says of this."""
    if what in READINGS:
        return READINGS[what](message)
    return message.headers.lines(what)


def _of_uri(part: str) -> Callable[[Message], object]:
    return lambda message: getattr(parse_uri(message.uri), part) if isinstance(message, Request) else None


def _start(message: Message) -> str:
    if isinstance(message, Response):
        return f"{message.status} {message.reason}"
    return f"{message.method} {message.uri}"


READINGS: Mapping[str, Callable[[Message], object]] = {
    "start": _start,
    "user": _of_uri("user"),
    "password": _of_uri("password"),
    "host": _of_uri("host"),
    "port": _of_uri("port"),
    "scheme": _of_uri("scheme"),
    "uri_params": _of_uri("params"),
    "from_": lambda message: message.from_,
    "to": lambda message: message.to,
    "call_id": lambda message: message.call_id,
    "cseq": lambda message: str(message.cseq),
    "vias": lambda message: [str(fields.parse_via(value)) for value in message.headers.values("Via")],
    "contacts": fields.contacts,
    "routes": lambda message: fields.routes(message, "Route"),
    "record_routes": lambda message: fields.routes(message, "Record-Route"),
    "hops": fields.max_forwards,
    "content_type": fields.content_type,
    "body_size": lambda message: len(message.body),
    "body": lambda message: message.body,
}
