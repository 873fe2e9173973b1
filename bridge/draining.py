"""A drain: nothing new here, and every call goes to another node while this one still plays (survival §4).

One conversation after the other is handed over to the node that it falls to. What is not at rest is asked again until it is.

There are two of them. One that was asked for goes on for as long as the process lives, and ends no call: what nobody takes
stays until it ends by itself. A stop goes on from there, within a time; whoever stops us sees to what is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress

import structlog

from bridge.announcing import age
from bridge.calls.facts import ConversationId
from bridge.engine.inputs import Drain
from bridge.errors import StoreUnavailable
from bridge.handing import HandingOver
from bridge.membership import RENEW_S, Membership, heir_of
from bridge.pump import Pump
from bridge.switchboard import Neighbour, Switchboard

AT_ONCE = 8  # conversations under way: each wants two ports and a re-INVITE there
AGAIN_S = 0.2  # until what was busy is asked again
ALONE_S = 5.0  # until nobody comes any more: another node may just be starting, or the store may be away
HEARD_S = 2.0 * RENEW_S  # until what a node says of its load has come to us: it renews its lease, and then we ours
PARTING_S = 2.0  # after the last conversation has moved: until then somebody may still send its media here

log = structlog.get_logger("bridge.draining")


class Draining:
    """Empties this node: for good once `begin` was called, and then, or without that, to the end by `run`."""

    def __init__(
        self,
        *,
        pump: Pump,
        membership: Membership,
        switchboard: Switchboard | None,
        handing: HandingOver | None,
        began: Callable[[], None],
        supervised: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`switchboard`, `handing`: None where there is no way to other nodes; `began`: nothing new shall come here from now on;
        `supervised` is told when the drain that goes on for ever does not."""
        self._pump = pump
        self._membership = membership
        self._switchboard = switchboard
        self._handing = handing
        self._began = began
        self._supervised = supervised
        self._moved = 0
        self._room = Room()
        self._standing: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def begin(self) -> bytes:
        """Take nothing new from now on, and hand over what is here, for as long as it takes. What we say of ourselves then.
        Asked again it changes nothing."""
        if self._standing is None:
            log.info("draining", conversations=self._pump.node.held)
            self._standing = asyncio.create_task(self._stand_by(), name="draining")
            self._standing.add_done_callback(self._supervised)
        await self._cordon()
        return self._membership.facts_now()

    async def run(self, limit_s: float) -> int:
        """Empty it for a stop: until nothing is left, or nobody has been there to take it for `ALONE_S`, or the time is
        over. How many conversations have moved."""
        await self._cordon()
        self._stopping.set()
        try:
            async with asyncio.timeout(limit_s):
                if self._standing is not None:
                    await self._standing  # whatever it has let go of is on its way
                if self._switchboard is not None:
                    await self._empty()
        except TimeoutError:
            log.warning("drain_out_of_time", left=self._pump.node.live)
        return self._moved

    async def part(self) -> None:
        """Stay until the far ends of what has moved have been told where to send: some still send here, and are relayed."""
        if self._handing is not None:
            await asyncio.sleep(max(0.0, self._handing.given_at + PARTING_S - asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """End what goes on."""
        while self._standing is not None and not self._standing.done():
            self._standing.cancel()  # one that waits for the store may take it for a timeout
            await asyncio.wait([self._standing], timeout=AGAIN_S)

    async def _cordon(self) -> None:
        """Nobody sends us anything new. That others hear of it a second later does no harm: it is passed on; and by then we have
        heard to whom."""
        self._began()
        if "draining" not in self._membership.facts:
            self._membership.facts["draining"] = True
            with suppress(StoreUnavailable):
                await self._membership.announce()
        self._pump.give(Drain())

    async def _stand_by(self) -> None:
        while not self._stopping.is_set():
            moved = self._moved
            if self._switchboard is not None:
                await self._move_all([each.id for each in self._pump.node.conversations()])
            if self._moved == moved:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), AGAIN_S)

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        alone_since: float | None = None
        while names := [each.id for each in self._pump.node.conversations()]:
            if any(self._able(name) for name in names):
                alone_since = None
            elif alone_since is None:
                alone_since = loop.time()
            elif loop.time() - alone_since > ALONE_S:
                return
            moved = self._moved
            await self._move_all(names)
            if self._moved == moved:
                await asyncio.sleep(AGAIN_S)

    async def _move_all(self, names: list[ConversationId]) -> None:
        for start in range(0, len(names), AT_ONCE):
            await asyncio.gather(*(self._move(name) for name in names[start : start + AT_ONCE]))

    async def _move(self, conversation: ConversationId) -> None:
        calls = self._calls(conversation)  # what has been let go of has none here
        if self._handing is None or self._heir(conversation, calls) is None:
            return
        with self._room.promise(calls) as promise:

            def choose(snapshot: int, besides: Container[str]) -> Neighbour | None:
                promise.made_to(None)  # our own promise takes no room from us
                heir = self._heir(conversation, calls, snapshot, besides)
                promise.made_to(heir)
                return heir

            given = await self._handing.give(conversation, choose)
            if given == "given":
                self._moved += 1
                promise.kept = True

    def _calls(self, conversation: ConversationId) -> int:
        held = self._pump.node.conversation(conversation)
        return 0 if held is None else len(held.legs)

    def _heir(
        self, conversation: ConversationId, calls: int, snapshot: int = 0, besides: Container[str] = ()
    ) -> Neighbour | None:
        """As the nodes are now: one may have died since the last conversation, or have no port left for this one."""
        able = self._able(conversation, snapshot)
        heirs = {each.owner: each for each in able if each.owner not in besides and self._room.has(each, calls)}
        name = heir_of(conversation, heirs)
        return None if name is None else heirs[name]

    def _able(self, conversation: ConversationId, snapshot: int = 0) -> list[Neighbour]:
        """Who can read what is written of it (`snapshot`; 0: as we carry it), of the newest release that there is: a rolling
        update moves each call once."""
        held = self._pump.node.conversation(conversation)
        needed = snapshot or (held.snapshot if held is not None else 0)
        everybody = self._switchboard.ready() if self._switchboard is not None else []
        able = [each for each in everybody if needed in (0, *each.versions)]
        newest = max((age(each.release) for each in able), default=())
        return [each for each in able if age(each.release) == newest]


class Room:
    """How many more calls our heirs can take: what they said with their last renewal, less what is on its way to them, and
    what has gone there too lately to be in that. A call that finds no port ends, so it stays here instead."""

    def __init__(self) -> None:
        self._promised: Counter[str] = Counter()  # calls on their way, by owner
        self._taken: deque[tuple[float, str, int]] = deque()  # when (by our loop's clock), by whom, how many calls

    def has(self, heir: Neighbour, calls: int) -> bool:
        """Whether there is room for so many; there is with one that does not say."""
        if heir.load is None:
            return True
        long_ago = asyncio.get_running_loop().time() - HEARD_S
        while self._taken and self._taken[0][0] < long_ago:
            self._taken.popleft()
        lately = sum(count for _, owner, count in self._taken if owner == heir.owner)
        return heir.load.calls + lately + self._promised[heir.owner] + calls <= heir.load.capacity

    @contextmanager
    def promise(self, calls: int) -> Iterator[Promise]:
        """To whoever it is made to meanwhile: room for so many calls on their way."""
        made = Promise(self._promised, calls)
        try:
            yield made
        finally:
            kept_by = made.heir if made.kept else None
            made.made_to(None)
            if kept_by is not None:
                self._taken.append((asyncio.get_running_loop().time(), kept_by.owner, calls))


class Promise:
    """The room that one conversation wants. `kept`: its calls are there."""

    def __init__(self, promised: Counter[str], calls: int) -> None:
        self.heir: Neighbour | None = None
        self.kept = False
        self._promised = promised
        self._calls = calls

    def made_to(self, heir: Neighbour | None) -> None:
        """To this one, and to nobody else any more."""
        if self.heir is not None:
            self._promised[self.heir.owner] -= self._calls
        self.heir = heir
        if heir is not None:
            self._promised[heir.owner] += self._calls
