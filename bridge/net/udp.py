"""SIP over UDP (§18): one socket, each datagram one `Packet`, each `Send` one datagram.

Counts what passes. What the network does to a datagram on its way out (unreachable, buffer full) is counted and nothing
else: SIP's own timers know how to go on.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import cast

from bridge.engine.inputs import Packet
from bridge.errors import LocalProtocolError, StartError
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
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
            )
            family, _, _, _, address = found[0]
            bound = _bound_socket(family, address)
        except OSError as error:
            raise StartError(_remedy(self.name, self._host, self._port, error)) from error
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


def _bound_socket(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.settimeout(0.0)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            bound.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER)
        if family == socket.AF_INET6:
            # IPv4 has a listener of its own: `::ffff:192.0.2.1` in a Via would help nobody.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _remedy(name: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        what = f"the port is taken (`ss -lunp sport = :{port}` shows by whom): stop that, or listen on another port"
    elif error.errno == errno.EACCES:
        what = f"ports below 1024 are for root: take one above, or grant CAP_NET_BIND_SERVICE (asked for {port})"
    elif error.errno == errno.EADDRNOTAVAIL:
        what = f"no interface of this host has the address {host} (`ip address` lists them)"
    elif isinstance(error, socket.gaierror):
        what = f"{host} is no address of this host: {error.strerror}"
    else:
        what = str(error.strerror)
    return f"cannot listen on {name}: {what}; the key is sip.listen"
