"""One end of the connection between signalling and a media worker: messages over a non-blocking SOCK_SEQPACKET socket.

Both ends use it. It waits for nothing: what the kernel does not take stays in a bounded queue until the socket is
writable again. Whoever owns it watches the socket, by epoll or by asyncio.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping

from bridge.media.protocol import MAX_MESSAGE, Message, decode, encode

MAX_QUEUED = 20_000  # messages; an end that leaves so many unread is gone, and will ask for a list when it is back
RECEIVED_AT_ONCE = 64


class Link:
    """A connected socket that speaks in messages. `closed` is set once the other end is gone, for whatever reason."""

    __slots__ = ("_buffer", "_queue", "_unwatch", "_watch", "closed", "socket")

    def __init__(self, connected: socket.socket, *, watch: Callable[[], object], unwatch: Callable[[], object]) -> None:
        """`watch` is called when `flush` wants to hear that the socket is writable, `unwatch` when no more."""
        self.socket = connected
        self.closed = False
        self._watch = watch
        self._unwatch = unwatch
        self._queue: deque[bytes] = deque()
        self._buffer = memoryview(bytearray(MAX_MESSAGE))

    def send(self, message: Mapping[str, object]) -> None:
        """Say something. Nothing comes of it once the other end is gone: `receive` is what tells."""
        if self.closed:
            return
        data = encode(message)
        if self._queue:
            self._enqueue(data)
            return
        try:
            self.socket.send(data)
        except BlockingIOError:
            self._enqueue(data)
            self._watch()
        except OSError:
            self._give_up()

    def flush(self) -> None:
        """The socket is writable: send what waits."""
        queue = self._queue
        try:
            while queue:
                self.socket.send(queue[0])
                queue.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._give_up()
        self._unwatch()

    def receive(self) -> list[Message | None]:
        """What has come, oldest first, a limited number of messages; None stands for one that could not be read."""
        messages: list[Message | None] = []
        try:
            for _ in range(RECEIVED_AT_ONCE):
                length = self.socket.recv_into(self._buffer)
                if length == 0:
                    self.closed = True
                    break
                messages.append(decode(self._buffer[:length]))
        except BlockingIOError:
            pass  # everything is read
        except OSError:
            self.closed = True
        return messages

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self._queue.clear()
        self.socket.close()

    def _enqueue(self, data: bytes) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._give_up()
            return
        self._queue.append(data)

    def _give_up(self) -> None:
        """After this `receive` finds the end of the connection, once it has read what came before."""
        self.closed = True
        self._queue.clear()
        with contextlib.suppress(OSError):  # it may be disconnected already, which is what we want
            self.socket.shutdown(socket.SHUT_RDWR)


def listen(path: str) -> socket.socket:
    """A non-blocking SOCK_SEQPACKET socket that listens at `path`; only our own user may connect. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a worker that was killed: the supervisor runs one worker for one path
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(8)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
