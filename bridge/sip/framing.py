"""A byte stream to whole messages: §18.3, the CRLFs of §7.5, the keep-alives of RFC 5626 §3.5.1 and §4.4.1.

Fed with whatever has come, it cuts out one message after the other by their Content-Length, without looking at any byte
twice. What cannot be cut is a value and the last one: nobody knows where the next message would begin. It refuses to
know what a message says (`parser`), connections and time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from bridge.sip.parser import MAX_MESSAGE_BYTES, KeepAlive

_LENGTH: Final = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_SIZE_DIGITS: Final = len(str(MAX_MESSAGE_BYTES))
_CRLF: Final = KeepAlive(b"")  # a pong, or the first half of a ping
_PING: Final = KeepAlive(b"\r\n")
_LINE_ENDS: Final = b"\r\n"
# What a start line can begin with: a letter of a method (§25.1, token), or of "SIP/2.0". A TLS hello does not.
_STARTS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~")


@dataclass(frozen=True, slots=True)
class BrokenStream:
    """Where a message ends cannot be told: answer it, if it is a request that can be answered, and close the connection.

    `data` is what came of it, its header fields at most; `status` and `reason` are the answer.
    """

    data: bytes
    reason: str
    status: int = 400


Frame: TypeAlias = bytes | KeepAlive | BrokenStream


class Framing:
    """The receiving half of one connection. Holds less than one message, and what was fed last."""

    __slots__ = ("_at", "_begun", "_broken", "_buffer", "_end", "_half_ping", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # where the next message begins
        self._begun = False  # its first byte is there
        self._scanned = 0  # up to here there is no end of its header fields
        self._end = 0  # where it ends, once its Content-Length is known; else 0
        self._half_ping = False  # the last thing taken was the first CRLF of what may become a ping
        self._broken = False

    @property
    def is_incomplete(self) -> bool:
        """Whether bytes wait for others. Meaningful when `take` has returned None."""
        return len(self._buffer) > self._at and not self._broken

    def feed(self, data: bytes) -> None:
        """What has come. Whoever takes everything between two feedings bounds the memory to `data` and one message."""
        if self._broken:
            return
        buffer, at = self._buffer, self._at
        if at:
            del buffer[:at]
            self._at = 0
            self._scanned = max(0, self._scanned - at)
            self._end = max(0, self._end - at)
        buffer += data

    def take(self) -> Frame | None:
        """The next whole message, as it stands; a CRLF between messages, each second one a ping; or None: feed more."""
        if self._broken:
            return None
        if not self._begun:
            keep_alive = self._skip_line_ends()
            if keep_alive is not None:
                return keep_alive
            if self._at == len(self._buffer) or self._buffer[self._at] in _LINE_ENDS:
                return None
            self._begun, self._half_ping, self._scanned = True, False, self._at
            if self._buffer[self._at] not in _STARTS:
                return self._break(self._at + MAX_MESSAGE_BYTES, "Not SIP")
        if not self._end:
            broken = self._find_end()
            if broken is not None:
                return broken
        if not self._end or len(self._buffer) < self._end:
            return None
        message = bytes(self._buffer[self._at : self._end])
        self._at, self._end, self._begun = self._end, 0, False
        return message

    def _skip_line_ends(self) -> KeepAlive | None:
        """Step over one CRLF, and over lone CRs and LFs before it, which some senders put behind a body."""
        buffer = self._buffer
        while self._at < len(buffer) and buffer[self._at] in _LINE_ENDS:
            if buffer[self._at : self._at + 2] == b"\r\n":
                self._at += 2
                self._half_ping = not self._half_ping
                return _CRLF if self._half_ping else _PING
            if buffer[self._at] == _LINE_ENDS[0] and self._at + 1 == len(buffer):
                break  # the LF may be under way
            self._at += 1
        return None

    def _find_end(self) -> BrokenStream | None:
        """Look for the end of the header fields where nobody has looked yet, and read where the message ends."""
        buffer, at = self._buffer, self._at
        most = at + MAX_MESSAGE_BYTES
        found = buffer.find(b"\r\n\r\n", self._scanned, most)
        if found < 0:
            self._scanned = max(at, len(buffer) - 3)
            return self._break(most, "Message Too Large", 513) if len(buffer) >= most else None
        head = found + 4
        size = _content_length(bytes(buffer[at : found + 2]))
        if isinstance(size, str):
            return self._break(head, size)
        if head + size > most:
            return self._break(head, "Message Too Large", 513)
        self._end = head + size
        return None

    def _break(self, end: int, reason: str, status: int = 400) -> BrokenStream:
        data = bytes(self._buffer[self._at : end])
        self._broken = True
        self._buffer = bytearray()
        self._at = 0
        return BrokenStream(data, reason, status)


def _content_length(head: bytes) -> int | str:
    """The size of the body (§20.14); text: why it cannot be told. It must be said on a stream, also where it is 0.

    `head`: the start line and the header lines, each with its CRLF. A number beyond all bounds is cut to one that is.
    """
    lines = head.count(b"\r\n")
    if head.count(b"\r") != lines or head.count(b"\n") != lines:
        return "Stray CR or LF"  # who takes these for line ends sees another Content-Length than we do
    if b"\r\n " in head or b"\r\n\t" in head:
        head = head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")  # §7.3.1
    found = {value.rstrip(b" \t") for value in _LENGTH.findall(head)}
    if len(found) != 1:
        return "Several Content-Length" if found else "Missing Content-Length"
    value = found.pop()
    if not value.isdigit():
        return "Malformed Content-Length"
    digits = value.lstrip(b"0")
    return int(digits[: _SIZE_DIGITS + 1] or b"0")
