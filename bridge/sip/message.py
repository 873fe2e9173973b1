"""Requests and responses as values: §7.

Made by the parser of what came, or by us of what shall leave. The header fields every message has are read here
once, when first asked for. Knows nothing of transactions, flows or what a message means.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from bridge.errors import LocalProtocolError
from bridge.sip.grammar import first_of_list
from bridge.sip.headers import CSeq, Headers, NameAddr, Via, parse_cseq, parse_name_addr, parse_via

V = TypeVar("V")


class _Common:
    """What requests and responses share."""

    __slots__ = (
        "_cseq",
        "_cseq_line",
        "_from",
        "_from_line",
        "_to",
        "_to_line",
        "_via",
        "_via_line",
        "body",
        "headers",
    )

    headers: Headers
    body: bytes

    # Each value is kept with the line it was read from: whoever changes the headers need not know of it.
    _via: Via
    _from: NameAddr
    _to: NameAddr
    _cseq: CSeq
    _via_line: str | None
    _from_line: str | None
    _to_line: str | None
    _cseq_line: str | None

    def __init__(self, headers: Headers | None, body: bytes) -> None:
        self.headers = Headers() if headers is None else headers
        self.body = body
        self._via_line = self._from_line = self._to_line = self._cseq_line = None

    @property
    def via(self) -> Via:
        """The top Via (§20.42)."""
        line = self.headers.get("Via")
        if line is not self._via_line or line is None:
            self._via = _sure("Via", line, parse_via(first_of_list(line)[0]) if line else None)
            self._via_line = line
        return self._via

    @property
    def from_(self) -> NameAddr:
        """From (§20.20)."""
        line = self.headers.get("From")
        if line is not self._from_line or line is None:
            self._from = _sure("From", line, parse_name_addr(line) if line else None)
            self._from_line = line
        return self._from

    @property
    def to(self) -> NameAddr:
        """To (§20.39)."""
        line = self.headers.get("To")
        if line is not self._to_line or line is None:
            self._to = _sure("To", line, parse_name_addr(line) if line else None)
            self._to_line = line
        return self._to

    @property
    def cseq(self) -> CSeq:
        """CSeq (§20.16)."""
        line = self.headers.get("CSeq")
        if line is not self._cseq_line or line is None:
            self._cseq = _sure("CSeq", line, parse_cseq(line) if line else None)
            self._cseq_line = line
        return self._cseq

    @property
    def call_id(self) -> str:
        """Call-ID (§20.8)."""
        line = self.headers.get("Call-ID")
        return _sure("Call-ID", line, line)

    @property
    def from_tag(self) -> str | None:
        """The tag of From, or None."""
        return self.from_.tag

    @property
    def to_tag(self) -> str | None:
        """The tag of To, or None."""
        return self.to.tag

    def replace_via(self, via: Via) -> None:
        """Put `via` in place of the top one, as a server does that adds `received` and `rport` (§18.2.1, RFC 3581)."""
        self.headers.replace_first("Via", str(via))

    def remember(
        self,
        *,
        via_line: str,
        via: Via,
        from_line: str,
        from_: NameAddr,
        to_line: str,
        to: NameAddr,
        cseq_line: str,
        cseq: CSeq,
    ) -> None:
        """For the parser: what it has read of these headers already, and from which lines."""
        self._via_line, self._via = via_line, via
        self._from_line, self._from = from_line, from_
        self._to_line, self._to = to_line, to
        self._cseq_line, self._cseq = cseq_line, cseq

    def _print(self, start_line: str) -> bytes:
        length = str(len(self.body))
        lines = [start_line]
        measured = False
        for name, value in self.headers:
            if name == "Content-Length":
                if not measured:
                    lines.append(f"Content-Length: {length}")
                measured = True
            else:
                lines.append(f"{name}: {value}")
        if not measured:
            lines.append(f"Content-Length: {length}")
        lines.append("\r\n")
        head = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        return head + self.body if self.body else head

    def _content(self) -> tuple[object, ...]:
        # Content-Length says nothing that the body does not; a message without it equals one with it.
        return ([line for line in self.headers if line[0] != "Content-Length"], self.body)


class Request(_Common):
    """A request (§7.1)."""

    __slots__ = ("method", "uri")

    def __init__(self, method: str, uri: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri  # the Request-URI as written

    def encode(self) -> bytes:
        """The bytes for the wire, with the Content-Length of the body."""
        return self._print(f"{self.method} {_one_line(self.uri)} SIP/2.0")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        return (self.method, self.uri, self._content()) == (other.method, other.uri, other._content())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"


class Response(_Common):
    """A response (§7.2)."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    def encode(self) -> bytes:
        """The bytes for the wire, with the Content-Length of the body."""
        return self._print(f"SIP/2.0 {self.status} {_one_line(self.reason)}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Response):
            return NotImplemented
        return (self.status, self.reason, self._content()) == (other.status, other.reason, other._content())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"


Message: TypeAlias = Request | Response


def _sure(name: str, line: str | None, value: V | None) -> V:
    if value is None:
        # A parsed message has passed the parser's checks, so this one is ours.
        raise LocalProtocolError(f"a message of ours has no usable {name}: {line!r}")
    return value


def _one_line(text: str) -> str:
    if "\r" in text or "\n" in text:
        raise LocalProtocolError(f"not one line: {text!r}")
    return text
