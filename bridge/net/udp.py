"""SIP over UDP (§18): one socket, each datagram one `Packet`, each `Send` one datagram.

Counts what passes. What the network does to a datagram on its way out (unreachable, buffer full) is counted and nothing
else: SIP's own timers know how to go on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from bridge.engine.inputs import Packet
from bridge.errors import LocalProtocolError
from bridge.net.binding import bound_socket
from bridge.sip.flow import Flow, Send

# A second of 1,000 calls/s, should the process be held up so long; the kernel may grant less (net.core.rmem_max).
SOCKET_BUFFER = 4 * 1024 * 1024


class UdpCounts:
    """What has passed one listener."""

    __slots__ = ("bytes_received", "bytes_sent", "not_sent", "received", "sent", "unreachable")

    def __init__(self) -> None:
        self.received = 0
        self.bytes_received = 0
        self.sent = 0
        self.bytes_sent = 0
        self.not_sent = 0  # given up because the socket could not take them
        self.unreachable = 0  # what the network reported of datagrams sent before


class UdpListener(asyncio.DatagramProtocol):
    """One UDP socket. `give` is called on the loop with each datagram; it must not block.

    `bind` before `open` where something has to be sent, or known, before the first datagram is read: until then the kernel
    keeps what comes.
    """

    __slots__ = ("_bound", "_full", "_give", "_host", "_port", "_transport", "address", "counts", "ended", "name")

    def __init__(self, name: str, host: str, port: int, give: Callable[[Packet], None]) -> None:
        self.name = name  # as its flows call it: "udp:0.0.0.0:5060"
        self.address = (host, port)  # once open: as bound
        self.counts = UdpCounts()
        self.ended: asyncio.Future[None] | None = None  # done when the socket is closed; its exception: by what
        self._host = host
        self._port = port
        self._give = give
        self._bound: socket.socket | None = None  # ours until the transport has it
        self._transport: asyncio.DatagramTransport | None = None
        self._full = False

    async def bind(self) -> None:
        """From here on it can send. StartError names what is in the way and the remedy."""
        bound = await bound_socket(self.name, self._host, self._port, socket.SOCK_DGRAM, _enlarge)
        self.address = bound.getsockname()[:2]
        self._bound = bound

    async def open(self) -> None:
        """Begin to read, and bind first where that has not happened. StartError as `bind`."""
        if self._bound is None:
            await self.bind()
        loop = asyncio.get_running_loop()
        self.ended = loop.create_future()
        await loop.create_datagram_endpoint(lambda: self, sock=self._bound)
        self._bound = None

    async def close(self) -> None:
        """Send what is queued, close, and wait for it. Closing what never was open does nothing."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        if self._transport is not None and self.ended is not None:
            self._transport.close()
            await asyncio.wait([self.ended])

    def send(self, send: Send) -> None:
        """One datagram to the flow's peer."""
        transport = self._transport
        if transport is None:
            self._send_early(send)
            return
        if self._full:
            self.counts.not_sent += 1
            return
        flow, data = send
        transport.sendto(data, (flow.host, flow.port))
        counts = self.counts
        counts.sent += 1
        counts.bytes_sent += len(data)

    def _send_early(self, send: Send) -> None:
        if self._bound is None:
            raise LocalProtocolError(f"{self.name} is not open")
        flow, data = send
        try:
            self._bound.sendto(data, (flow.host, flow.port))
        except OSError:  # full, or nobody there: as below
            self.counts.not_sent += 1
            return
        self.counts.sent += 1
        self.counts.bytes_sent += len(data)

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        counts = self.counts
        counts.received += 1
        counts.bytes_received += len(data)
        self._give(Packet(data, Flow("udp", self.name, addr[0], addr[1])))

    def error_received(self, exc: Exception) -> None:
        self.counts.unreachable += 1

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.ended is not None and not self.ended.done():
            if exc is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(exc)


def _enlarge(made: socket.socket) -> None:
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER)
