"""Who reads which socket: one epoll, and for each descriptor what to call when it is readable."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import TypeAlias

# With a buffer that is anybody's and is overwritten, and the time.
Read: TypeAlias = Callable[[memoryview, float], None]

PACKET_BYTES = 65536  # what the buffer holds


class Readers:
    """Sockets that are watched. Whoever runs the loop asks `epoll` itself, and looks into `by_descriptor`."""

    __slots__ = ("by_descriptor", "epoll")

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.by_descriptor: dict[int, Read] = {}

    def watch(self, watched: socket.socket, read: Read) -> None:
        """Call `read` whenever there is something."""
        self.by_descriptor[watched.fileno()] = read
        self.epoll.register(watched, select.EPOLLIN)

    def unwatch(self, watched: socket.socket) -> None:
        """Not any more. To be said before the socket is closed."""
        del self.by_descriptor[watched.fileno()]
        self.epoll.unregister(watched)

    def close(self) -> None:
        """Give the epoll back."""
        self.by_descriptor.clear()
        self.epoll.close()
