"""One Redis connection for what is hot: hiredis over an asyncio Protocol of our own (survival.md §2, "Cost").

Commands are bytes packed beforehand; they leave as one write per loop turn and are answered in order, so a reply finds
its command at the head of a queue and needs no future. What is not answered when a connection breaks is sent again, in
order, on the next one: whoever sends must therefore send only what may be applied twice. Redis's own passing troubles
(out of memory, loading, read-only, a forgotten script, ...) are treated alike: the command stays at the head, and the
next connection begins with it. Where the server is, is asked before each connection, and whether it is still the primary
of the same history is asked over each. Refuses to know what commands mean, what replies hold, and URLs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import hiredis
import structlog

from bridge.errors import StartError
from bridge.store.scripts import pack
from bridge.store.server import Address, Discovery, RefusedError, Reply, facts_of, is_forbidden, is_unauthorized, passes

Tag: TypeAlias = object  # what the sender wants back with the answer; None is ours

log = structlog.get_logger("bridge.store")

IN_FLIGHT_MAX = 1024  # commands written and not answered: bounds what a transport buffers after an outage
WATCH_S = 0.25  # how often silence is looked for
IDLE_S = 1.0  # how often the far end is asked who it is, and so whether it is still there
LOST_AFTER_S = 3.0  # a connection that owes an answer for this long is given up, and a new one made
FIRST_PAUSE_S = 0.05  # between connections: this, doubled each time ...
LONGEST_PAUSE_S = 1.0  # ... up to this
LONGEST_PAUSE_MOVING_S = 0.25  # ... or this, where another server may take its place at any moment

_WHO = pack("INFO", "replication")


class _Wire(asyncio.Protocol):
    """One connection, from its greeting to its end."""

    def __init__(self, owner: Connection, greeting: Sequence[bytes], address: Address) -> None:
        loop = asyncio.get_running_loop()
        self.address = address
        self.history = ""  # the replication id of what the far end holds; empty where it does not tell
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()  # why
        self.paused = False
        self._owner = owner
        self._greeting = b"".join((*greeting, _WHO))
        self._to_greet = len(greeting) + 1
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        try:
            while self._transport is not None and (reply := reader.gets()) is not False:
                if self._to_greet:
                    self._greet(reply)
                else:
                    self._owner.take(self, reply)
        except hiredis.ProtocolError as error:
            self.end(f"it does not speak Redis's protocol: {error}")
        if self._transport is not None and not self._to_greet:
            self._owner.has_answered()

    def _greet(self, reply: Reply) -> None:
        last = self._to_greet == 1
        # Who may not ask who it is has to believe whoever gave the address.
        if isinstance(reply, hiredis.ReplyError) and not (last and is_forbidden(str(reply))):
            self.end(str(reply))
            return
        if last:
            self.identify(reply)
            if self._transport is None:
                return
        self._to_greet -= 1
        if last:
            self.greeted.set_result(None)

    def identify(self, reply: Reply) -> bool:
        """The far end has said who it is. A replica is no good; True where its history is not the one it had before."""
        facts = facts_of(reply)
        if facts.get("role", "master") != "master":
            place = f"{facts.get('master_host')}:{facts.get('master_port')}"
            self.end(f"{self.address} is a replica of {place}: give the primary")
            return False
        before, self.history = self.history, facts.get("master_replid", "")
        return bool(before) and self.history != before

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._owner.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.end(str(error) if error else "the server closed the connection")

    def end(self, why: str) -> None:
        """Break the connection off, if that has not happened yet, and tell the owner."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self.ended.set_result(why)
            self._owner.detach(self, why)


class Connection:
    """A queue of commands that outlives the connections through which it leaves.

    `answered(tag, reply)` is called from the loop, once per command and in the order of sending. `away` and `back` say
    whether the server answers: away when a connection is lost, or nothing has been answered for `away_after_s`; back
    when everything that waited until then has been answered. `replaced` says that the server's history has become another
    one without that. `greeting` makes of an address what is sent first on each connection; an error among its replies ends
    it. Whoever fills the queue bounds it, by `queued_bytes`.
    """

    def __init__(
        self,
        discovery: Discovery,
        greeting: Callable[[Address], Sequence[bytes]],
        *,
        answered: Callable[[Tag, Reply], None],
        away: Callable[[], None],
        back: Callable[[], None],
        replaced: Callable[[], None],
        away_after_s: float = 1.0,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self.queued_bytes = 0  # of the commands that wait for an answer
        self._discovery = discovery
        self._greeting = greeting
        self._answered = answered
        self._say_away = away
        self._say_back = back
        self._say_replaced = replaced
        self._away_after_s = away_after_s
        self._observe = observe  # seconds from a command's leaving to its answer
        self._unwritten: deque[tuple[bytes, Tag]] = deque()
        self._unanswered: deque[tuple[bytes, Tag, float]] = deque()
        self._wire: _Wire | None = None
        self._away = False
        self._owed: int | None = None  # answers to come before we say "back"; None: nothing has been heard yet
        self._heard = 0.0  # when the server last answered, or when it began to owe an answer
        self._looked = 0.0
        self._asked = 0.0  # when we last asked the server who it is
        self._why = ""  # the last connection's end, or why there was none
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None  # until the task begins anew
        self._connected: asyncio.Future[None] | None = None  # the first time, for `open`
        self._emptied: asyncio.Future[None] | None = None  # for `close`

    def __len__(self) -> int:
        """How many commands wait for an answer."""
        return len(self._unwritten) + len(self._unanswered)

    async def open(self, patience_s: float) -> None:
        """Connect. Raises StartError when the server refuses us, or is not reached within `patience_s` seconds."""
        self._loop = loop = asyncio.get_running_loop()
        self._connected = loop.create_future()
        self._begin()
        try:
            async with asyncio.timeout(patience_s):
                await self._connected
        except (TimeoutError, StartError) as error:
            await self.close(0.0)
            if isinstance(error, StartError):
                raise
            text = f"no store at {self._discovery} ({self._why or 'no answer'}): is it running, and is store.url right?"
            raise StartError(text) from None
        self._looked = loop.time()
        self._watch = loop.call_later(WATCH_S, self._look)

    async def close(self, patience_s: float) -> None:
        """Wait up to `patience_s` seconds until everything is answered, then let go."""
        if len(self) and self._task is not None:
            self._emptied = self._loop.create_future()
            try:
                async with asyncio.timeout(patience_s):
                    await self._emptied
            except TimeoutError:
                log.warning("store_writes_left_unanswered", store=str(self._discovery), writes=len(self))
        for timer in (self._watch, self._again):
            if timer is not None:
                timer.cancel()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end("closed by us")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def send(self, packed: bytes, tag: Tag) -> None:
        """Queue one command. It leaves with the next `flush`, or when the server is back."""
        self._unwritten.append((packed, tag))
        self.queued_bytes += len(packed)

    def flush(self) -> None:
        """Write what is queued, in one piece."""
        wire, unwritten, unanswered = self._wire, self._unwritten, self._unanswered
        if wire is None or wire.paused or not unwritten:
            return
        now = self._loop.time()
        if not unanswered:
            self._heard = now
        pieces = []
        for _ in range(min(len(unwritten), IN_FLIGHT_MAX - len(unanswered))):
            packed, tag = unwritten.popleft()
            unanswered.append((packed, tag, now))
            pieces.append(packed)
        wire.write(b"".join(pieces))

    # What a wire says.

    def take(self, wire: _Wire, reply: Reply) -> None:
        """The answer to the oldest command."""
        if isinstance(reply, hiredis.ReplyError) and passes(reply) and not self._is_not_told(str(reply)):
            self._discovery.heed(str(reply))
            wire.end(str(reply))
            return
        packed, tag, left_at = self._unanswered.popleft()
        if self._away:
            self._count_down()
        if tag is None:
            if wire.identify(reply):
                self._loop.call_soon(self._say_replaced)
            return
        self.queued_bytes -= len(packed)
        if self._observe is not None:
            self._observe(self._loop.time() - left_at)
        self._answered(tag, reply)

    def _is_not_told(self, error: str) -> bool:
        """Whether we have asked who it is, and may not: it answers all the same."""
        return self._unanswered[0][1] is None and is_forbidden(error)

    def has_answered(self) -> None:
        """All that has come in at once is taken."""
        self._heard = self._loop.time()
        if self._unwritten:
            self.flush()
        if self._emptied is not None and not self._emptied.done() and not len(self):
            self._emptied.set_result(None)

    def detach(self, wire: _Wire, why: str) -> None:
        """This wire is no more."""
        if wire is not self._wire:
            return  # it did not survive its greeting, or `close` let go of it
        self._wire = None
        again = [(packed, tag) for packed, tag, _ in self._unanswered if tag is not None]
        self._unanswered.clear()
        self._unwritten.extendleft(reversed(again))
        self._go_away(why)

    # Away and back.

    def _go_away(self, why: str) -> None:
        self._owed = None
        if not self._away:
            self._away = True
            log.warning("store_away", store=str(self._discovery), why=why, waiting=len(self))
            self._loop.call_soon(self._say_away)

    def _count_down(self) -> None:
        """Something was answered while we are away: we are back when all that waits at the first such moment is."""
        self._owed = len(self) if self._owed is None else self._owed - 1
        if self._owed <= 0:
            self._come_back()

    def _come_back(self) -> None:
        self._away = False
        log.info("store_back", store=str(self._discovery))
        self._loop.call_soon(self._say_back)

    def _look(self) -> None:
        """Is somebody there?"""
        now = self._loop.time()
        self._watch = self._loop.call_later(WATCH_S, self._look)
        slept = now - self._looked > WATCH_S + self._away_after_s
        self._looked = now
        if slept:  # it was us who did not listen
            self._heard = now
        wire, silent_s = self._wire, now - self._heard
        if wire is None:
            return
        if self._unanswered and silent_s >= LOST_AFTER_S:
            wire.end(f"no answer for {LOST_AFTER_S:.0f} s")
        elif self._unanswered and silent_s >= self._away_after_s:
            self._go_away(f"no answer for {silent_s:.1f} s")
        elif now - self._asked >= IDLE_S and not wire.paused and len(self._unanswered) < IN_FLIGHT_MAX:
            self._asked = now
            if not self._unanswered:
                self._heard = now
            self._unanswered.append((_WHO, None, now))
            wire.write(_WHO)

    # Connecting.

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._stay_connected(), name="store connection")
        self._task.add_done_callback(self._failed)

    def _failed(self, task: asyncio.Task[None]) -> None:
        """It never ends by itself: what has ended it is told, and it begins anew. Without it the store would be away for
        ever."""
        if task.cancelled() or task is not self._task:
            return
        log.error("fault", about="store connection", exc_info=task.exception())
        self._why = "a fault of ours, of which the log tells"
        if self._wire is not None:
            self._wire.end(self._why)
        self._again = self._loop.call_later(LONGEST_PAUSE_S, self._begin)

    async def _stay_connected(self) -> None:
        longest = LONGEST_PAUSE_S if self._discovery.watch_s is None else LONGEST_PAUSE_MOVING_S
        pause = 0.0
        while True:
            began = self._loop.time()
            wire = await self._dial()
            if wire is not None:
                self._attach(wire)
                self._why = await self._end_of(wire)
            if self._loop.time() - began > LONGEST_PAUSE_S + LOST_AFTER_S:
                pause = 0.0  # it had lasted
            pause = min(max(2 * pause, FIRST_PAUSE_S), longest)
            await asyncio.sleep(pause)

    async def _end_of(self, wire: _Wire) -> str:
        """Why it has ended, or was ended, because another server is the primary now."""
        while not wire.ended.done():
            await asyncio.wait((wire.ended,), timeout=self._discovery.watch_s)
            if wire.ended.done():
                break
            moved = asyncio.ensure_future(self._discovery.has_moved(wire.address))
            await asyncio.wait((wire.ended, moved), return_when=asyncio.FIRST_COMPLETED)
            if not moved.done():
                moved.cancel()  # it has ended meanwhile, and need not wait for those who are slow to say so
            elif moved.result() and not wire.ended.done():
                wire.end(f"{wire.address} is not the primary any more")
        return wire.ended.result()

    async def _dial(self) -> _Wire | None:
        """A greeted wire, or None, and `_why` says why."""
        wire = None
        try:
            async with asyncio.timeout(LOST_AFTER_S):
                address = await self._discovery.find()
                wire = _Wire(self, self._greeting(address), address)
                await self._connect(wire)
                await asyncio.wait((wire.greeted, wire.ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._why = "no answer"
            if wire is not None:
                wire.end(f"no answer for {LOST_AFTER_S:.0f} s")
        except OSError as error:
            self._why = str(error)
            if isinstance(error, RefusedError):
                self._refuse_to_start(self._why, hopeless=True)
        except asyncio.CancelledError:
            if wire is not None:
                wire.end("closed by us")
            raise
        if wire is None or not wire.ended.done():
            return wire if wire is not None and wire.greeted.done() else None
        self._why = wire.ended.result()
        self._refuse_to_start(
            self._why, hopeless=is_unauthorized(self._why) or not passes(hiredis.ReplyError(self._why))
        )
        return None

    async def _connect(self, wire: _Wire) -> None:
        address = wire.address
        if address.path is not None:
            await self._loop.create_unix_connection(lambda: wire, address.path)
        else:
            await self._loop.create_connection(lambda: wire, address.host, address.port, ssl=address.tls)

    def _refuse_to_start(self, why: str, *, hopeless: bool) -> None:
        """Of what will not pass by waiting, whoever opens us shall know at once."""
        if hopeless and self._connected is not None and not self._connected.done():
            self._connected.set_exception(StartError(f"the store at {self._discovery} refuses us: {why}"))

    def _attach(self, wire: _Wire) -> None:
        self._wire = wire
        self._heard = self._asked = self._loop.time()
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        if self._away:
            self._owed = len(self)
            if not self._owed:
                self._come_back()
        self.flush()
