"""One connection of a stream transport: its bytes become messages, and it must not hold us up.

Framing is `wire`'s; here is what a connection may cost: how long it may be silent or take over a message, how much
may wait to be sent, how many messages it may have at a turn. Keep-alives (RFC 5626 §4.4.1) are answered here, and
sent on connections that we have made, over WebSocket on those of peers too. Knows one peer; who else is connected is `stream`'s affair.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.net.identity import tls_failure
from bridge.net.wire import Ending, Parting, Wire
from bridge.sip.flow import Flow
from bridge.sip.framing import BrokenStream
from bridge.sip.parser import KeepAlive

_AT_ONCE: Final = frozenset({"slow_reader", "slow_message", "no_pong", "refused", "untrusted"})
# Whoever closes with something unread resets the connection, and the peer would not see our answer.
_ANSWERED: Final = frozenset({"broken", "not_upgraded", "violated"})
_TURN: Final = 16  # messages of one connection, before others have their turn: about 2 ms


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What connections may cost. Times are in seconds."""

    connections: int = 10_000  # of one listener, those that are being made included
    per_source: int = 1_000  # that one address (of IPv6: one network of 64 bits) has made; more is a proxy with several
    idle_s: float = 3600.0  # without a word; a phone that keeps its connection alive says CRLF every two minutes
    message_s: float = 15.0  # from a message's first byte to its last, and from being connected to the first message
    connect_s: float = 5.0
    handshake_s: float = 5.0  # of TLS, on top of that
    handshakes: int = 1000  # of TLS, begun by peers and not ended; who comes then waits: one costs 1 ms, and has 5 s
    handshakes_per_source: int = 100  # of those, that one address may have
    unsent_bytes: int = 262_144  # four of the largest messages
    ping_s: tuple[float, float] = (95.0, 120.0)  # RFC 5626 §4.4.1: somewhere between, each time anew
    pong_s: float = 10.0
    close_s: float = 1.0  # what is queued has so long to leave


class StreamCounts:
    """What has passed one listener."""

    __slots__ = ("accepted", "bytes_received", "bytes_sent", "ended", "made", "not_sent", "received", "sent")

    def __init__(self) -> None:
        self.accepted = 0  # connections that peers have made
        self.made = 0  # and we
        self.ended: Counter[Ending] = Counter()
        self.received = 0  # messages
        self.bytes_received = 0
        self.sent = 0
        self.bytes_sent = 0
        self.not_sent = 0  # messages that no connection has taken


class Keeper(Protocol):
    """Who has all connections of a listener."""

    limits: StreamLimits
    counts: StreamCounts

    def opened(self, connection: Connection) -> bool:
        """It is there. False: nobody wants it any more, close it."""
        ...

    def give(self, given: Packet | StreamBroken | FlowLost) -> None: ...
    def released(self, connection: Connection, ending: Ending, why: str) -> None:
        """It takes no more sends. `why`: as of `FlowLost`."""
        ...

    def closed(self, connection: Connection) -> None:
        """It holds nothing any more."""
        ...


class Connection(asyncio.Protocol):
    """One connection of the peer's, or one that we have `dialed`."""

    __slots__ = (
        "_asks",
        "_began_at",
        "_ended",
        "_is_parting",
        "_keeper",
        "_loop",
        "_paused",
        "_ping_at",
        "_pinged",
        "_pong_by",
        "_ponged",
        "_timer",
        "_transport",
        "_used_at",
        "_wakes_at",
        "_wire",
        "dialed",
        "flow",
    )

    def __init__(self, keeper: Keeper, flow: Flow, wire: Wire, *, dialed: bool) -> None:
        self.flow = flow
        self.dialed = dialed
        self._asks = dialed or wire.asks_peers  # for signs of life
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._ended = False
        self._is_parting = False  # its last word was sent, and what the peer says to that is waited for
        self._paused = False  # it has had its turn, and what it has sent waits for the next
        self._began_at: float | None = None  # since when we wait for the rest of a message, or for the first one
        self._used_at = 0.0  # the peer's last word; where we made the connection, the last message either way
        self._ping_at = 0.0  # when the next ping leaves, where we ask
        self._pinged = self._ponged = False  # a ping of ours has no answer yet; one has had
        self._pong_by: float | None = None  # an answer is due
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    def write(self, data: bytes) -> None:
        """Send one message. A peer that does not read what it is sent loses its connection."""
        counts, transport = self._keeper.counts, self._transport
        if transport is None or self._ended or not self._wire.is_ready or not self._has_room(transport, len(data)):
            counts.not_sent += 1
            return
        counts.sent += 1
        counts.bytes_sent += len(data)
        if self.dialed:
            self._used_at = self._loop.time()
        transport.write(self._wire.message(data))

    def end(self, ending: Ending) -> None:
        """Close it: after what is queued has left, but not for those who would not let it leave."""
        transport = self._transport
        if self._ended or transport is None:
            return
        self._release(ending)
        if ending in _AT_ONCE:
            transport.abort()
            return
        last_word = self._wire.parting(ending)
        if last_word:  # which is answered, and who has not read that answer would reset the connection
            self._is_parting = True
            transport.write(last_word)
        elif ending in _ANSWERED and transport.can_write_eof():
            # TLS goes on reading by itself until the peer has said goodbye too.
            transport.write_eof()
            if self._paused:
                transport.resume_reading()
        else:
            transport.close()
        self._timer = self._loop.call_later(self._keeper.limits.close_s, transport.abort)

    def _release(self, ending: Ending, why: str = "") -> None:
        self._ended = True
        self._stop_timer()
        self._keeper.released(self, ending, why)

    def peer_certificate(self) -> Mapping[str, Any] | None:
        """What the far end has proven itself with over TLS, as `ssl` tells it; None: with nothing that was verified."""
        return None if self._transport is None else self._transport.get_extra_info("peercert")

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        now = self._used_at = self._loop.time()
        if self._asks:
            self._ping_at = now + random.uniform(*self._keeper.limits.ping_s)
        if not self.dialed:
            self._began_at = now
        if self._keeper.opened(self):
            self._set_timer()
        else:
            self.end("refused")

    def data_received(self, data: bytes) -> None:
        if self._ended:
            if self._is_parting:
                self._await_parting(data)
            return
        self._keeper.counts.bytes_received += len(data)
        self._pong_by = None
        if not self.dialed:
            self._used_at = self._loop.time()
        self._wire.feed(data)
        self._take()

    def _await_parting(self, data: bytes) -> None:
        """Nothing counts any more but that the peer has heard our last word."""
        self._wire.feed(data)
        while (taken := self._wire.take()) is not None:
            if isinstance(taken, Parting) and self._transport is not None:
                self._transport.close()

    def eof_received(self) -> None:
        self.end("closed")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if not self._ended:
            self._release("closed" if exc is None else "reset", tls_failure(exc))
        self._transport = None
        self._keeper.closed(self)

    # What has come

    def _take(self) -> None:
        """Pass on what is whole, and what one turn does not allow in the next."""
        transport = self._transport
        if transport is None or self._ended:
            return
        has_more, pongs = self._pass_on()
        if pongs and self._has_room(transport, len(pongs)):
            transport.write(pongs)
        if self._ended:
            return
        if has_more:
            if not self._paused:
                self._paused = True
                transport.pause_reading()
            self._loop.call_soon(self._take)
            return
        if self._wire.is_incomplete and self._began_at is None:
            self._began_at = self._loop.time()
            self._set_timer()
        if self._paused:
            self._paused = False
            transport.resume_reading()

    def _pass_on(self) -> tuple[bool, bytes]:
        """One turn. Whether something may be left for the next, and the pongs that are due."""
        keeper, take = self._keeper, self._wire.take
        messages, pongs = 0, b""
        for _ in range(self._wire.turn):
            match take():
                case bytes(data):
                    messages += 1
                    keeper.counts.received += 1
                    if self.dialed:
                        self._used_at = self._loop.time()
                    keeper.give(Packet(data, self.flow))
                case KeepAlive(answer):
                    pongs += answer
                    self._ponged, self._pinged = self._ponged or self._pinged, False
                case BrokenStream(data, reason, status):
                    keeper.give(StreamBroken(data, self.flow, reason, status))
                    self.end("broken")
                case Parting(answer, ending):
                    if answer and self._transport is not None:
                        self._transport.write(pongs + answer)
                        pongs = b""
                    self.end(ending)
                case None:
                    return False, pongs
            if not self._wire.is_within:
                self._began_at = None
            if self._ended or messages == _TURN:
                break
        return True, pongs

    def _has_room(self, transport: asyncio.Transport, size: int) -> bool:
        if transport.get_write_buffer_size() + size <= self._keeper.limits.unsent_bytes:
            return True
        self.end("slow_reader")
        return False

    # Its one timer, which looks again when it is early

    def _set_timer(self) -> None:
        if self._ended:
            return
        due = self._used_at + self._keeper.limits.idle_s
        if self._began_at is not None:
            due = min(due, self._began_at + self._keeper.limits.message_s)
        if self._asks:
            due = min(due, self._ping_at, self._ping_at if self._pong_by is None else self._pong_by)
        if self._timer is not None:
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._wakes_at = due
        self._timer = self._loop.call_at(due, self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        now, limits = self._loop.time(), self._keeper.limits
        if self._began_at is not None and now >= self._began_at + limits.message_s:
            self.end("slow_message")
        elif self._pong_by is not None and now >= self._pong_by:
            self.end("no_pong")
        elif now >= self._used_at + limits.idle_s:
            self.end("idle")
        else:
            if self._asks and now >= self._ping_at:
                self._ping(now)
            self._set_timer()

    def _ping(self, now: float) -> None:
        limits, transport = self._keeper.limits, self._transport
        self._ping_at = now + random.uniform(*limits.ping_s)
        if transport is not None and self._wire.is_ready and self._has_room(transport, 4):
            self._pinged = True
            if self._ponged and self._pong_by is None:
                self._pong_by = now + limits.pong_s
            transport.write(self._wire.ping())
