"""SIP messages as the phones of W6 read and write them: by splitting, for every host is an IPv4 address here and every far end is
the bridge, which writes full header names and folds no lines. Shares no code with it, so that the two cannot be wrong together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_URI = re.compile(r"sip:(?:([^@;>]*)@)?([\d.]+)(?::(\d+))?")
_MEDIA = re.compile(r"^c=IN IP4 ([\d.]+)\r?$.*?^m=audio (\d+) |^m=audio (\d+) .*?^c=IN IP4 ([\d.]+)", re.M | re.S)

Address = tuple[str, int]


class MessageError(ValueError):
    """What should be there is not."""


@dataclass(frozen=True, slots=True)
class Message:
    """A SIP message taken apart, as far as we need it."""

    start: str
    headers: dict[str, list[str]]
    body: str

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start[8:11]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def sequence(self) -> int:
        return int(self.headers["cseq"][0].split()[0])

    @property
    def method(self) -> str:
        return self.headers["cseq"][0].split()[1]

    def first(self, name: str) -> str:
        return self.headers.get(name, [""])[0]


def read_message(data: bytes) -> Message:
    """Header names in lower case, folded lines unknown."""
    head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return Message(start, headers, body)


def address_of(uri: str) -> Address:
    """Where a SIP URI is: every host here is an address."""
    found = _URI.search(uri)
    if found is None:
        raise MessageError(f"no address in {uri!r}")
    return found[2], int(found[3] or 5060)


def media_of(body: str) -> Address | None:
    """Where an SDP wants its audio; None without one."""
    found = _MEDIA.search(body)
    if found is None:
        return None
    return (found[1], int(found[2])) if found[1] else (found[4], int(found[3]))


def user_of(uri: str) -> str:
    """Who is called; empty for nobody."""
    found = _URI.search(uri)
    return (found[1] or "") if found else ""


def contact_of(message: Message) -> str:
    """The URI of its Contact."""
    contact = message.first("contact")
    return contact.partition("<")[2].partition(">")[0] or contact


def write_message(lines: Sequence[str], body: str = "") -> bytes:
    """Start line and headers, and an SDP where there is one."""
    typed = ["Content-Type: application/sdp"] if body else []
    return ("\r\n".join([*lines, *typed, f"Content-Length: {len(body)}"]) + "\r\n\r\n" + body).encode()
