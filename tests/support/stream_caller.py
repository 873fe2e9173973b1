"""The caller of `caller`, over TCP or TLS: it connects from any port, listens where its Via and Contact say, and may drop and come back."""

from __future__ import annotations

import asyncio
import re

from bridge.net.certificates import Loaded
from tests.support.caller import Caller
from tests.support.phone import Address, read_message

_LENGTH = re.compile(rb"^(?:Content-Length|l)[ \t]*:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)


class StreamCaller(Caller):
    """Sends by the last connection that was made, by itself or to it. Reads what comes by any."""

    via = "TCP"

    def __init__(self, target: Address, *, tls: Loaded | None = None, sips: bool = False) -> None:
        """`tls`: it is spoken, in both directions; `sips`: its URIs say so."""
        super().__init__(target)
        if tls is not None:
            self.via = "TLS"
        if sips:
            self.scheme = "sips"
        self._tls = tls
        self.called_back = 0  # connections that the bridge has made
        self.local_ports: list[int] = []  # that it has connected from
        self._server: asyncio.Server | None = None
        self._connections: list[_Connection] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        secured = None if self._tls is None else self._tls.server
        self._server = await loop.create_server(lambda: _Connection(self, dialed=False), "127.0.0.1", 0, ssl=secured)
        self.port = self._server.sockets[0].getsockname()[1]
        await loop.create_datagram_endpoint(lambda: self.rtp, ("127.0.0.1", 0))
        await self.connect()

    async def connect(self) -> None:
        """A new connection; those before it stay."""
        secured = None if self._tls is None else self._tls.client
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self, dialed=True),
            *self.target,
            ssl=secured,
            server_hostname=None if secured is None else "",  # its name is not asked for
        )

    def disconnect(self, *, abruptly: bool = False) -> None:
        """Close all connections; those calls go on."""
        for each in self._connections:
            if abruptly:
                each.transport.abort()
            else:
                each.transport.close()
        self._connections.clear()

    def close(self) -> None:
        self.disconnect()
        if self._server is not None:
            self._server.close()
        super().close()

    def send_to(self, data: bytes | str, to: Address) -> None:
        """`to` is where a datagram would go; here it is the other end of the connection."""
        assert self._connections, "it has no connection"
        self._connections[-1].transport.write(data if isinstance(data, bytes) else data.encode())


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, caller: StreamCaller, *, dialed: bool) -> None:
        self._caller = caller
        self._dialed = dialed
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._caller._connections.append(self)
        if self._dialed:
            self._caller.local_ports.append(transport.get_extra_info("sockname")[1])
        else:
            self._caller.called_back += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._caller._connections:
            self._caller._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        self._buffer = (self._buffer + data).lstrip(b"\r\n")
        while (end := self._buffer.find(b"\r\n\r\n") + 4) >= 4:
            length = _LENGTH.search(self._buffer[:end])
            assert length is not None, f"no Content-Length in {self._buffer[:end]!r}"
            end += int(length.group(1))
            if len(self._buffer) < end:
                return
            message, self._buffer = read_message(self._buffer[:end]), self._buffer[end:].lstrip(b"\r\n")
            self._caller.take(message, self._caller.target)
