"""The other media workers of this node, for two sessions that hear each other and live in different ones.

A packet that has come here and leaves there goes over a Unix SOCK_SEQPACKET connection, one for each direction: a byte
that says RTP or RTCP, the length of the session's name, the name, the packet. Nothing is answered, and what the kernel
does not take is lost, as on any way of a datagram (docs/adr/0006). Signalling tells the path; only our own user connects.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from functools import partial

from bridge.media.link import listen
from bridge.media.readers import Readers
from bridge.media.session import Session

SUFFIX = ".relay"  # behind the path that signalling connects to
NAME_BYTES = 255  # of a session, at most
RECEIVED_AT_ONCE = 256  # as many as one turn of the loop reads from ports: what comes in must go out at the same pace
RETRY_S = 0.1  # a neighbour that has died is back soon; between two attempts packets are lost without asking
QUEUE_BYTES = 4 * 1024 * 1024  # asked for; net.core.wmem_max grants less, some hundred packets at least

_MEDIA, _REPORTS = 0, 1


class Outside:
    """The exit of a session that lives in a neighbouring worker."""

    __slots__ = ("_media_head", "_neighbour", "_reports_head")

    def __init__(self, neighbour: Neighbour, name: bytes) -> None:
        self._neighbour = neighbour
        self._media_head = bytes((_MEDIA, len(name))) + name
        self._reports_head = bytes((_REPORTS, len(name))) + name

    def send_media(self, packet: memoryview, now: float) -> int:
        """See `Exit`. What the neighbour does with it, it counts itself."""
        return self._neighbour.send(self._media_head, packet, now)

    def send_reports(self, packet: memoryview, now: float) -> None:
        """See `Exit`."""
        self._neighbour.send(self._reports_head, packet, now)


class Neighbour:
    """Our connection to one other worker, made when there is something to say and again when it broke."""

    __slots__ = ("_connection", "_path", "_retry_at")

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._retry_at = 0.0

    def send(self, head: bytes, packet: memoryview, now: float) -> int:
        """How many packets were handed over: 1 or 0."""
        connection = self._connection or self._connect(now)
        if connection is None:
            return 0
        try:
            connection.sendmsg((head, packet))
        except BlockingIOError:
            return 0  # it does not keep up
        except OSError:
            self.close()
            return 0
        return 1

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self, now: float) -> socket.socket | None:
        if now < self._retry_at:
            return None
        self._retry_at = now + RETRY_S
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return None
        self._connection = connection
        return connection


class Entrance:
    """Where the neighbours hand us packets that leave from sessions here."""

    __slots__ = ("_connections", "_listener", "_readers", "_sessions", "path")

    def __init__(self, path: str, *, readers: Readers, sessions: Mapping[str, Session]) -> None:
        """Listens at once. Raises OSError where the path cannot be had."""
        self.path = path
        self._readers = readers
        self._sessions = sessions
        self._connections: set[socket.socket] = set()
        self._listener = listen(path)
        readers.watch(self._listener, self._accept)

    def close(self) -> None:
        """Give everything back."""
        for connection in list(self._connections):
            self._hang_up(connection)
        self._readers.unwatch(self._listener)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _accept(self, buffer: memoryview, now: float) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it has hung up before we came
        connection.settimeout(0)
        self._connections.add(connection)
        self._readers.watch(connection, partial(self._receive, connection))

    def _receive(self, connection: socket.socket, buffer: memoryview, now: float) -> None:
        try:
            for _ in range(RECEIVED_AT_ONCE):
                length = connection.recv_into(buffer)
                if length == 0:
                    self._hang_up(connection)
                    return
                self._pass_on(buffer[:length], now)
        except BlockingIOError:
            return  # everything is read
        except OSError:
            self._hang_up(connection)

    def _pass_on(self, handed: memoryview, now: float) -> None:
        start = 2 + handed[1] if len(handed) > 1 else len(handed)
        if start >= len(handed):
            return  # no packet: it is none of ours who says so
        session = self._sessions.get(str(handed[2:start], "utf-8", "replace"))
        if session is None:
            return  # it was closed, and the neighbour has not heard of it yet
        if handed[0] == _MEDIA:
            session.send_media(handed[start:], now)
        elif handed[0] == _REPORTS:
            session.send_reports(handed[start:], now)

    def _hang_up(self, connection: socket.socket) -> None:
        self._readers.unwatch(connection)
        self._connections.discard(connection)
        connection.close()
