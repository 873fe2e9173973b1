"""Connections to where webhooks go: looked up, dialed, carrying one exchange at a time, kept for the next one.

A plain asyncio protocol under `Answer`: measured, an exchange costs about a seventh of what it costs through aiohttp's
client session, and each answered call makes three. Refuses to know signatures, deliveries and outcomes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Protocol

from bridge.ambient import Clock
from bridge.webhooks.answer import Answer
from bridge.webhooks.target import Origin

# One second less than Node.js and uvicorn keep a connection: what we take from the pool is seldom closed under our hands.
IDLE_S = 4.0
_IDLE_MAX = 256  # kept per origin
_ADDRESSES_MAX = 8  # of one name that are tried
_PATIENCE_S = (
    1.0  # with an address while the name has others: about what RFC 8305 comes to when one family is a black hole
)
_LOOKUP_TTL_S = 10.0
_LOOKUPS_MAX = 1024

Address = tuple[str, int]


class Exchange(Protocol):
    """Who waits for the answer on a connection."""

    def answered(self, answer: Answer, connection: Connection) -> None:
        """The exchange is over: a whole answer, or `answer.error` says how it broke."""
        ...


class Connection(asyncio.Protocol):
    """One connection to an origin, which carries one exchange at a time."""

    __slots__ = ("_answer", "_connections", "_exchange", "_transport", "idle_since", "origin", "reused")

    def __init__(self, connections: Connections, origin: Origin) -> None:
        self.origin = origin
        self.reused = False  # it has carried an exchange before this one
        self.idle_since = 0.0
        self._connections = connections
        self._exchange: Exchange | None = None
        self._answer = Answer()
        self._transport: asyncio.Transport | None = None

    def begin(self, exchange: Exchange, request: bytes) -> None:
        """Write the request; the exchange is told of its end unless the connection is abandoned first."""
        self._exchange = exchange
        self._answer = Answer()
        if self._transport is not None:
            self._transport.write(request)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._exchange = None
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def answer(self) -> Answer:
        """The answer that is coming."""
        return self._answer

    @property
    def usable(self) -> bool:
        """True while the next request may be written."""
        return self._transport is not None and not self._transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by the way we connect
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # what comes unasked on an idle connection (a 408, say) answers nothing
            self.abort()
            return
        answer = self._answer
        if not answer.feed(data):
            return
        self._exchange = None
        transport = self._transport
        if answer.keep_alive and transport is not None and not transport.get_write_buffer_size():
            self.reused = True
            self._connections.keep(self)
        else:
            self.abort()
        exchange.answered(answer, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._answer.end()
            if exc is not None and self._answer.error is None:
                # Reset while a body without a length was coming: nobody knows whether it was all.
                self._answer.error, self._answer.problem = "closed", "in the middle of it"
            exchange.answered(self._answer, self)


class Connections:
    """The idle connections to every origin, and how new ones are made."""

    def __init__(self, *, clock: Clock, tls: ssl.SSLContext | None = None, idle_s: float = IDLE_S) -> None:
        """`tls`: whom to trust; by default the system's authorities."""
        self._clock = clock
        self._tls = tls
        self._idle_s = idle_s
        self._idle: dict[Origin, list[Connection]] = {}  # the one used last is last, and taken first
        self._open: set[Connection] = set()
        self._lookups: dict[Address, tuple[float, asyncio.Task[list[Address]]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._all_lost: asyncio.Future[None] | None = None

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection to this origin, the warmest first."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def keep(self, connection: Connection) -> None:
        """It may carry another exchange."""
        connection.idle_since = self._clock.now()
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = []
        if len(idle) >= _IDLE_MAX:
            connection.abort()
            return
        idle.append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._idle_s / 4, self._sweep)

    def opened(self, connection: Connection) -> None:
        """There is one more to close one day."""
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
        if not self._open and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)

    async def dial(self, origin: Origin) -> Connection:
        """A new connection, tried at each address of the name in turn. Raises OSError (TLS and look-up included)."""
        loop = asyncio.get_running_loop()
        tls = self._context() if origin.tls else None
        addresses = await self._lookup(origin)
        for host, port in addresses[:-1]:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    return await self._connect(loop, origin, host, port, tls)
            except OSError:  # asyncio's TimeoutError included: the next address may be better
                continue
        host, port = addresses[-1]
        return await self._connect(loop, origin, host, port, tls)

    async def close(self) -> None:
        """End every connection, and wait until the last is gone."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for _, lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*(lookup for _, lookup in self._lookups.values()), return_exceptions=True)
        self._lookups.clear()
        self._idle.clear()
        if self._open:
            self._all_lost = asyncio.get_running_loop().create_future()
            for connection in list(self._open):
                connection.abort()
            await self._all_lost

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, host: str, port: int, tls: ssl.SSLContext | None
    ) -> Connection:
        name = origin.host if tls else None
        _, connection = await loop.create_connection(
            lambda: Connection(self, origin), host, port, ssl=tls, server_hostname=name
        )
        return connection

    async def _lookup(self, origin: Origin) -> list[Address]:
        """The addresses of an origin. One look-up per name at a time: they run on few threads, which a name server that
        is slow for one name must not use up for all."""
        name = (origin.host, origin.port)
        now = self._clock.now()
        known = self._lookups.get(name)
        if known is None or (known[0] <= now and known[1].done()):
            if len(self._lookups) >= _LOOKUPS_MAX:
                self._lookups = {name: entry for name, entry in self._lookups.items() if not entry[1].done()}
            lookup = asyncio.get_running_loop().create_task(_resolve(*name))
            lookup.add_done_callback(_consume)
            self._lookups[name] = known = (now + _LOOKUP_TTL_S, lookup)
        try:
            return await asyncio.shield(known[1])
        except OSError:
            if self._lookups.get(name) is known:
                del self._lookups[name]  # the next attempt asks again
            raise

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        self._sweeping = None
        oldest = self._clock.now() - self._idle_s
        for origin, idle in list(self._idle.items()):
            fresh = [connection for connection in idle if connection.idle_since > oldest]
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
            for connection in idle[: len(idle) - len(fresh)]:  # kept in the order of time: the stale ones come first
                connection.abort()
        if self._idle:
            self._sweeping = asyncio.get_running_loop().call_later(self._idle_s / 4, self._sweep)


async def _resolve(host: str, port: int) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(str(address[0]), int(address[1])) for *_, address in found]
    return list(dict.fromkeys(addresses))[:_ADDRESSES_MAX]


def _consume(lookup: asyncio.Task[list[Address]]) -> None:
    """Whoever waited may have given up; that the look-up failed is then nobody's concern."""
    if not lookup.cancelled():
        lookup.exception()
