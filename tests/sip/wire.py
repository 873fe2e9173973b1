"""Messages as they stand on the wire, for tests: a plain one, changed where the test looks."""

from __future__ import annotations

from collections.abc import Mapping

PLAIN = {
    "Via": "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-one",
    "Max-Forwards": "70",
    "From": "Alice <sip:alice@example.com>;tag=a-tag",
    "To": "<sip:bob@example.com>",
    "Call-ID": "call-1@192.0.2.10",
    "CSeq": "1 INVITE",
    "Contact": "<sip:alice@192.0.2.10:5060>",
}

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"


def wire(start_line: str, changes: Mapping[str, str | None] | None = None, body: bytes = b"") -> bytes:
    """`start_line`, the plain header lines with `changes` (None leaves one out), and the body as it is."""
    lines: dict[str, str | None] = {**PLAIN, **(changes or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{start_line}\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body


def invite(changes: Mapping[str, str | None] | None = None, body: bytes = b"") -> bytes:
    return wire("INVITE sip:bob@example.com SIP/2.0", changes, body)


def ringing(changes: Mapping[str, str | None] | None = None, body: bytes = b"") -> bytes:
    return wire("SIP/2.0 180 Ringing", {"Max-Forwards": None} | dict(changes or {}), body)
