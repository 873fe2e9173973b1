"""One connection between two nodes: proven, then frames both ways, and what it may cost.

All that one turn of the event loop has to send leaves as one write. A link that is not proven in time, takes too long over
a frame, sends what is no frame or is not heard of any more is closed. Which of two nodes has connected makes no
difference here, but that the one that has asks whether the other one is there, and closes the link when it is not used.
Knows one peer; who else there is, and whom to let in, is its keeper's affair.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, cast

from bridge.cluster.frames import PING, PONG, Broken, Cutting, Message, Ping, Seal, Unknown, decode, unproven_frame
from bridge.cluster.handshake import Handshake, Proven, Reason, Refused, Say
from bridge.cluster.waiting import Waiting

_TURN: Final = 32  # frames of one link, before others have their turn: a few ms
_WRITE_BYTES: Final = 256 * 1024  # in one write; more leaves only as the peer reads
SOCKET_BUFFER: Final = 256 * 1024  # in the kernel, where it would otherwise grow to 4 or 6 MB

Ending: TypeAlias = (
    Reason
    | Literal[
        "closed",  # by the peer
        "reset",  # by the peer, or by the network
        "unreachable",  # it could not be made
        "full",  # too many were waiting to be proven
        "slow",  # it was not proven in time, or a frame did not get complete
        "silent",  # nothing has come for too long
        "idle",  # nothing was sent for long
        "replaced",  # the peer has made another one
        "shutdown",
    ]
)
_AT_ONCE: Final = frozenset({"malformed", "unproven", "slow", "silent", "full", "unreachable"})


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """What other nodes, and those who are none, may cost. Times are in seconds."""

    connect_s: float = 2.0  # to connect and be proven, for a link of ours
    handshake_s: float = 2.0  # to be proven, for one that was made to us
    unproven: int = 64  # of these at once; one more, and the oldest is closed: a node needs only milliseconds
    frame_s: float = 5.0  # from a frame's first byte to its last
    look_s: float = 1.0  # how often is looked for silence, and a ping sent
    silent_s: float = 4.0
    idle_s: float = 60.0
    close_s: float = 1.0  # what has been sent has so long to leave
    queue_bytes: int = 8 * 1024 * 1024  # that wait for one node: 2 s of 1,000 calls per second
    queue_s: float = 2.0  # that they wait; SIP has repeated them by then
    first_pause_s: float = 0.05  # between two connections to one node: this, doubled each time ...
    longest_pause_s: float = 1.0  # ... up to this
    asks: int = 256  # of one node that are not answered yet


class ClusterCounts:
    """What has passed all links."""

    __slots__ = ("accepted", "ended", "made", "received", "sent", "writes")

    def __init__(self) -> None:
        self.made = 0  # links that we have made, and that are proven
        self.accepted = 0  # and others
        self.ended: Counter[Ending] = Counter()
        self.received = 0  # frames
        self.sent = 0
        self.writes = 0  # that took them


class Keeper(Protocol):
    """Who has this link."""

    limits: ClusterLimits
    counts: ClusterCounts

    def opened(self, link: Link) -> None:
        """It is connected, and nobody has proven anything."""
        ...

    def proven(self, link: Link) -> None:
        """It has an owner, and takes what waits."""
        ...

    def trusts(self, link: Link) -> bool:
        """Whether its owner is still one of us."""
        ...

    def take(self, link: Link, message: Message) -> None: ...
    def released(self, link: Link, ending: Ending, detail: str) -> None:
        """It takes nothing any more, and nothing comes of it."""
        ...

    def closed(self, link: Link) -> None:
        """It holds nothing any more."""
        ...


class Link(asyncio.Protocol):
    """A connection that we have `dialed`, or that was made to us. What `waiting` holds leaves by it once it is proven."""

    __slots__ = (
        "_aborting",
        "_began_at",
        "_cutting",
        "_ended",
        "_flushing",
        "_handshake",
        "_heard_at",
        "_keeper",
        "_loop",
        "_opened_at",
        "_paused",
        "_resting",
        "_seal",
        "_transport",
        "_used_at",
        "_waiting",
        "dialed",
        "owner",
        "remote",
    )

    def __init__(self, keeper: Keeper, handshake: Handshake, waiting: Waiting, *, dialed: bool) -> None:
        self.owner: str | None = None  # who is at the other end, once proven: "node_id:incarnation"
        self.remote = ""  # host:port of the other end
        self.dialed = dialed
        self._keeper = keeper
        self._handshake = handshake
        self._waiting = waiting
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._cutting = Cutting()
        self._seal: Seal | None = None  # once proven
        self._ended = False
        self._flushing = False  # it will, at the end of this turn
        self._paused = False  # the peer reads slower than we write
        self._resting = False  # it has had its turn, and what it has sent waits for the next
        self._opened_at = self._heard_at = self._used_at = 0.0
        self._began_at: float | None = None  # since when we wait for the rest of a frame
        self._aborting: asyncio.TimerHandle | None = None

    def send(self, payload: bytes) -> None:
        """By this link or not at all."""
        if not self._ended and self._waiting.put(payload, now=self._loop.time()):
            self.wake()

    def wake(self) -> None:
        """Something waits: it leaves with all else that this turn of the loop brings."""
        if not self._flushing and not self._paused and self._seal is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def end(self, ending: Ending, detail: str = "") -> None:
        """Close it; what was sent before may still leave, where the peer is worth it."""
        transport = self._transport
        if self._ended or transport is None:
            return
        if ending == "shutdown":
            self._flush()
        self._release(ending, detail)
        if ending in _AT_ONCE:
            transport.abort()
            return
        transport.close()
        self._aborting = self._loop.call_later(self._keeper.limits.close_s, transport.abort)

    def look(self, now: float, *, slept: bool) -> None:
        """Is the peer still there, and what we have of it complete? `slept`: it was us who did not listen."""
        limits = self._keeper.limits
        if self._ended or self._transport is None:
            return
        if slept:
            self._heard_at = now
            self._began_at = None if self._began_at is None else now
        if self._seal is None:
            if now >= self._opened_at + limits.handshake_s:
                self.end("slow", "it has not proven who it is")
        elif self._began_at is not None and now >= self._began_at + limits.frame_s:
            self.end("slow", "a frame did not get complete")
        elif now >= self._heard_at + limits.silent_s:
            self.end("silent", f"nothing has come for {now - self._heard_at:.1f} s")
        elif self.dialed and now >= self._used_at + limits.idle_s:
            self.end("idle")
        elif self.dialed:
            self._write_aside(PING)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast(asyncio.Transport, transport)
        made.set_write_buffer_limits(high=_WRITE_BYTES)
        made.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        peer = made.get_extra_info("peername")
        self.remote = f"{peer[0]}:{peer[1]}" if peer else "somebody who has gone"
        self._opened_at = self._heard_at = self._used_at = self._loop.time()
        self._keeper.opened(self)
        if not self._ended:
            self._prove(None)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._seal is not None and not self._keeper.trusts(self):
            self.end("not_leased", "its lease is over")
            return
        self._heard_at = self._loop.time()
        self._cutting.feed(data)
        if not self._resting:
            self._take()

    def eof_received(self) -> None:
        self.end("closed")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._aborting is not None:
            self._aborting.cancel()
        if not self._ended:
            self._release("closed" if exc is None else "reset", "" if exc is None else str(exc))
        self._transport = None
        self._keeper.closed(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._waiting:
            self.wake()

    # What has come

    def _take(self) -> None:
        """Pass on what is whole, and what one turn does not allow in the next."""
        self._resting = False
        cutting, counts = self._cutting, self._keeper.counts
        for _ in range(_TURN):
            payload = cutting.take()
            if payload is None:
                self._await_rest()
                return
            if isinstance(payload, Broken):
                self.end("malformed", payload.reason)
                return
            if self._seal is None:
                self._prove(payload)
            else:
                counts.received += 1
                self._read(payload)
            if self._ended:
                return
        self._rest()

    def _rest(self) -> None:
        """Nothing more is read until the next turn: the kernel keeps it, and the peer hears of it."""
        self._resting = True
        if self._transport is not None:
            self._transport.pause_reading()
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        transport = self._transport
        if self._ended or transport is None:
            return
        self._take()
        if not self._resting and not self._ended:
            transport.resume_reading()

    def _await_rest(self) -> None:
        if not self._cutting.is_incomplete:
            self._began_at = None
        elif self._began_at is None:
            self._began_at = self._loop.time()

    def _read(self, payload: bytes) -> None:
        self._began_at = None
        message = decode(payload)
        if isinstance(message, Broken):
            self.end("malformed", message.reason)
        elif isinstance(message, Ping):
            self._write_aside(PONG)
        elif not isinstance(message, Unknown):
            self._keeper.take(self, message)

    def _prove(self, payload: bytes | None) -> None:
        """One step of the handshake. None: the first one."""
        outcomes = self._handshake.begin() if payload is None else self._handshake.step(payload)
        for outcome in outcomes:
            match outcome:
                case Say(said):
                    if self._transport is not None:
                        self._transport.write(unproven_frame(said))
                case Refused(reason, detail):
                    self.end(reason, detail)
                case Proven(owner, _, sending, receiving):
                    self.owner = owner
                    self._seal = Seal(sending)
                    self._cutting.demand_proof(Seal(receiving))
                    self._keeper.proven(self)
                    if self._waiting:
                        self.wake()

    # What leaves

    def _flush(self) -> None:
        """Write what waits, as far as the peer reads it."""
        self._flushing = False
        waiting = self._waiting
        now = self._loop.time()
        while waiting and not self._paused and not self._ended and self._seal is not None:
            payloads = waiting.take(_WRITE_BYTES, now=now)
            if payloads:
                self._used_at = now
                self._write(payloads)

    def _write_aside(self, payload: bytes) -> None:
        """Before all that waits; not at all where the peer does not read."""
        if not self._paused:
            self._write((payload,))

    def _write(self, payloads: Sequence[bytes]) -> None:
        transport, seal = self._transport, self._seal
        if transport is None or seal is None:
            return
        counts = self._keeper.counts
        counts.sent += len(payloads)
        counts.writes += 1
        transport.write(seal.frames(payloads))

    def _release(self, ending: Ending, detail: str) -> None:
        self._ended = True
        self._keeper.counts.ended[ending] += 1
        self._keeper.released(self, ending, detail)
