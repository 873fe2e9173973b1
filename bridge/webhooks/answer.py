"""The answer to a POST, read from its bytes: HTTP/1.1 without I/O (RFC 9112), only what a webhook needs of it.

Status, the four headers that matter, the body as framed, up to a limit. Linear and bounded: whatever comes, it is never
an exception, and never more than the limits in memory. Refuses to know connections, redirects, cookies and compression.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

HEAD_MAX = 16_384  # bytes of a status line and its headers, and of all trailers
BODY_MAX = 65_536  # contract §3.5
_CHUNK_LINE_MAX = 256  # bytes of a chunk's size and extensions
_DIGITS = frozenset(b"0123456789")
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class _Reading(Enum):
    HEAD = "head"
    LENGTH = "length"  # a body whose length was told
    TO_THE_END = "to the end"  # a body that the connection's end ends
    CHUNK_SIZE = "chunk size"
    CHUNK = "chunk"
    TRAILERS = "trailers"
    DONE = "done"


class Answer:
    """One answer, fed as it comes; what it says is in the attributes."""

    __slots__ = (
        "_buffer",
        "_left",
        "_pieces",
        "_reading",
        "_size",
        "content_type",
        "error",
        "keep_alive",
        "location",
        "problem",
        "retry_after",
        "silent",
        "status",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        self.content_type: str | None = None
        self.retry_after: str | None = None
        self.location: str | None = None
        self.silent = True  # not one byte has come
        self.keep_alive = False  # the connection may carry another request, as far as this answer is concerned
        self.error: Literal["protocol", "too_large", "closed"] | None = None
        self.problem = ""  # in words, where `error` is set
        self._reading = _Reading.HEAD
        self._buffer = b""  # not understood yet
        self._left = 0  # bytes to the end of the body or chunk; in the trailers, bytes of them so far
        self._pieces: list[bytes] = []  # of the body
        self._size = 0  # of the pieces, and of the chunk that is coming

    @property
    def body(self) -> bytes:
        """The body as far as it has come, transfer coding undone."""
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> bool:
        """Read on. True: complete, or broken beyond reading (`error`)."""
        self.silent = False
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while self._reading is _Reading.HEAD:
            head, blank, rest = data.partition(b"\r\n\r\n")
            if not b"HTTP/1.".startswith(data[:7]):
                return self._broken("protocol", "no status line of HTTP/1.1")
            if len(head) > HEAD_MAX:
                return self._broken("protocol", f"headers of more than {HEAD_MAX} bytes")
            if not blank:
                self._buffer = data
                return False
            self._head(head)
            data = rest
        match self._reading:
            case _Reading.DONE:
                if data:
                    self.keep_alive = False  # more than was announced: nobody knows what
                return True
            case _Reading.LENGTH:
                return self._piece(data)
            case _Reading.TO_THE_END:
                if self._fits(len(data)):
                    self._pieces.append(data)
                return self.error is not None
            case _:
                return self._chunks(data)

    def end(self) -> None:
        """The connection ended: right for a body without a length, otherwise `error` says `closed`."""
        self.keep_alive = False
        if self._reading is _Reading.TO_THE_END:
            self._reading = _Reading.DONE
        elif self._reading is not _Reading.DONE:
            self._broken("closed", "before the answer" if self._reading is _Reading.HEAD else "in the middle of it")

    def _broken(self, error: Literal["protocol", "too_large", "closed"], problem: str) -> Literal[True]:
        self.error = error
        self.problem = problem
        self.keep_alive = False
        self._reading = _Reading.DONE
        return True

    def _head(self, head: bytes) -> None:
        """Status line and headers; an interim answer leaves us where we were."""
        lines = head.split(b"\r\n")
        first = lines[0]
        code = first[9:12]
        if first[8:9] != b" " or len(code) != 3 or not _DIGITS.issuperset(code) or first[12:13] not in {b"", b" "}:
            self._broken("protocol", "no status line of HTTP/1.1")
            return
        lengths: set[bytes] = set()
        coding = connection = b""
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name[0] <= 32 or name[-1] <= 32:  # RFC 9112 §5.1 and §5.2
                self._broken("protocol", "a header line without a name")
                return
            match name.lower():
                case b"content-length":
                    lengths.update(length.strip() for length in value.split(b","))
                case b"content-type":
                    self.content_type = value.strip().decode("latin-1")
                case b"connection":
                    connection = b"%b,%b" % (connection, value)
                case b"transfer-encoding":
                    coding = b"%b,%b" % (coding, value)
                case b"retry-after":
                    self.retry_after = value.strip().decode("latin-1")
                case b"location":
                    self.location = value.strip().decode("latin-1")
        status = int(code)
        if status < 100 or status == 101:
            self._broken("protocol", f"{status} without having been asked")
        elif status >= 200:
            self.status = status
            options = {option.strip() for option in connection.lower().split(b",")} if connection else ()
            self.keep_alive = b"close" not in options and (first[7:8] != b"0" or b"keep-alive" in options)
            self._framing(status, coding, lengths)

    def _framing(self, status: int, coding: bytes, lengths: set[bytes]) -> None:
        """Where the body ends: RFC 9112 §6.3."""
        if status in {204, 304}:
            self._reading = _Reading.DONE
        elif coding:
            if lengths:
                self.keep_alive = False  # one of the two is a lie (§6.1): nothing more from there
            chunked = coding.rpartition(b",")[2].strip().lower() == b"chunked"
            self._reading = _Reading.CHUNK_SIZE if chunked else _Reading.TO_THE_END
        elif not lengths:
            self._reading = _Reading.TO_THE_END
        else:
            length = lengths.pop()
            if lengths or not length or len(length) > 18 or not _DIGITS.issuperset(length):
                self._broken("protocol", "a Content-Length that is no number")
                return
            self._left = int(length)
            self._reading = _Reading.LENGTH if self._left else _Reading.DONE
            self._fits(self._left)

    def _fits(self, size: int) -> bool:
        """Count so many bytes of body. False: too many of them."""
        self._size += size
        return self._size <= BODY_MAX or not self._broken("too_large", f"more than {BODY_MAX} bytes")

    def _piece(self, data: bytes) -> bool:
        """A piece of a body whose length was told. True: the last one."""
        left = self._left - len(data)
        if left < 0:
            self.keep_alive = False  # more than was announced
            data = data[:left]
        self._pieces.append(data)
        self._left = left
        if left > 0:
            return False
        self._reading = _Reading.DONE
        return True

    def _chunks(self, data: bytes) -> bool:
        """Chunks and trailers (RFC 9112 §7.1). True: the last chunk and its trailers have come, or it is broken."""
        position = 0
        while self._reading is not _Reading.DONE:
            if self._reading is _Reading.CHUNK:
                piece = data[position : position + self._left]
                self._pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left or len(data) - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    return self._broken("protocol", "a chunk longer than its size")
                position += 2
                self._reading = _Reading.CHUNK_SIZE
                continue
            trailing = self._reading is _Reading.TRAILERS
            line_max = HEAD_MAX - self._left if trailing else _CHUNK_LINE_MAX
            end = data.find(b"\r\n", position, position + line_max)
            if end < 0:
                if len(data) - position >= line_max:
                    return self._broken("protocol", "a chunk's size or a trailer too long")
                break
            line, position = data[position:end], end + 2
            if trailing:
                self._left += len(line) + 2
                if not line:
                    self._reading = _Reading.DONE
                continue
            size = line.partition(b";")[0].strip()
            if not size or len(size) > 8 or not _HEX_DIGITS.issuperset(size):
                return self._broken("protocol", "a chunk without a size")
            self._left = int(size, 16)
            if not self._fits(self._left):
                return True
            self._reading = _Reading.CHUNK if self._left else _Reading.TRAILERS
        if self._reading is not _Reading.DONE:
            self._buffer = data[position:]
            return False
        if position < len(data):
            self.keep_alive = False
        return True
