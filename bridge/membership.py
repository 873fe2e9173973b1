"""Keeps this node's lease, and sees to what nodes leave behind that have lost theirs (survival §1, §4.1, §4.2).

Stands beside the pump, because it joins the store and the engine. Each survivor claims the conversations that fall to it
by rendezvous hashing, so that nobody has to agree on anything; what the others have not claimed a lease later is free for
all. The store's scripts are the judge: they give nothing away of a node that lives, and nothing in quiet time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from zlib import crc32

import structlog

from bridge import __version__
from bridge.ambient import Clock
from bridge.calls.facts import ConversationId
from bridge.engine.inputs import Claimed, Former, Leased
from bridge.engine.registrations import StreamsClaimed
from bridge.errors import StoreUnavailable
from bridge.pump import Pump
from bridge.store import Lease, Member, Store, Whereabouts
from bridge.telemetry.metrics import Metrics

LEASE_S = 3.0
VALID_PART = 0.8  # of a lease, counted from when its renewal was sent: clocks and stores are not exact
RENEW_S = 1.0
RETRY_S = 0.5
ADOPT_EVERY_S = 10.0  # how often we look for what is ours by the store and not carried here
CLAIMED_AT_ONCE = 32  # conversations for each input: what else the node has to do comes in between
SNAPSHOT_VERSIONS = (1,)

log = structlog.get_logger("bridge.membership")


@dataclass(slots=True)
class _Legacy:
    """What is left of a dead node, as far as we know."""

    noticed_at: float  # by our loop's clock
    emptied: bool = False


@dataclass(slots=True)
class Membership:
    """One node among others. `nonce` marks its claims; `replaced` is told who bears our name now, if another does."""

    owner: str  # "node_id:incarnation"
    nonce: str
    pump: Pump
    store: Store
    clock: Clock
    metrics: Metrics
    replaced: Callable[[str], None]
    facts: dict[str, object]  # what others should know of us
    heard: Callable[[Lease], None]  # told of everybody, each time
    _latest: Lease | None = None
    _missing: frozenset[ConversationId] = frozenset()  # ours by the store, and not here when we looked last
    _legacies: dict[str, _Legacy] = field(default_factory=dict)  # by owner

    @property
    def node_id(self) -> str:
        return self.owner.rpartition(":")[0]

    async def announce(self) -> Lease:
        """Say that we live. Raises StoreUnavailable."""
        facts = {"versions": SNAPSHOT_VERSIONS, "release": __version__, "nonce": self.nonce, **self.facts}
        asked_at = self.clock.now()
        lease = await self.store.announce(self.owner, json.dumps(facts).encode(), LEASE_S)
        if lease.replaced_by is not None:
            self.metrics.lease_lost.inc()
            log.error("replaced", by=lease.replaced_by, detail="another process bears this node_id: this one lets go")
            self.replaced(lease.replaced_by)
        else:
            self.pump.give(Leased(asked_at + VALID_PART * LEASE_S))
            self._latest = lease
            self.heard(lease)
        return lease

    async def take(self, conversation: ConversationId, former: Former) -> int:
        """Carry on what another node has handed over to us. How many conversations that were. Raises StoreUnavailable."""
        claimed = await self.store.claim(self.owner, self.nonce, self.node_id, [conversation])
        self.metrics.takeovers.inc(len(claimed))
        self.pump.give(Claimed(tuple(claimed), former))
        return len(claimed)

    async def leave(self) -> None:
        """Say that we live no more. Without the store's word our lease just lapses."""
        with suppress(StoreUnavailable):
            await self.store.depart(self.owner)

    async def claim(self, place: Whereabouts) -> bool:
        """Take one conversation over from a node that is dead, because somebody asks for it. True where it is ours now.
        Raises StoreUnavailable."""
        node_id = place.owner.rpartition(":")[0]
        dead = next((each for each in self._latest.dead() if each.node_id == node_id), None) if self._latest else None
        return dead is not None and await self._claim(dead, [place.conversation]) > 0

    async def succeed(self) -> None:
        """Carry on what earlier incarnations of our name have left. New calls have to wait for that."""
        while True:
            try:
                conversations = await self.store.claim_predecessors(self.owner, self.nonce)
                streams = await self.store.claim_streams(self.owner, self.node_id)
            except StoreUnavailable:
                log.warning("claim_waits_for_store")
                await asyncio.sleep(RETRY_S)
                continue
            self.metrics.takeovers.inc(len(conversations))
            self.pump.give(Claimed(tuple(conversations)))
            self.pump.give(StreamsClaimed(tuple(streams)))
            return

    async def keep(self) -> None:
        """Renew the lease for ever, and take over what the dead have left."""
        loop = asyncio.get_running_loop()
        renewed, held = loop.time(), True
        looked = renewed
        while True:
            await asyncio.sleep(RENEW_S)
            asked = loop.time()
            try:
                lease = await self.announce()
                renewed, held = asked, True
                for member in lease.dead():
                    await self._inherit(member, lease)
                if asked - looked >= ADOPT_EVERY_S:
                    looked = asked
                    await self._adopt()
            except StoreUnavailable:
                log.warning("lease_not_renewed")
                if held and loop.time() - renewed > LEASE_S:
                    held = False
                    self.metrics.lease_lost.inc()

    async def _adopt(self) -> None:
        """Take up what has been written over to us and never told: a node that drained could not reach us, or our answer
        to it was lost. What is missing twice in a row is not just on its way."""
        carried = self.pump.node.conversation
        missing = frozenset(each for each in await self.store.owned(self.node_id) if carried(each) is None)
        wanted, self._missing = sorted(missing & self._missing), missing
        for start in range(0, len(wanted), CLAIMED_AT_ONCE):
            batch = wanted[start : start + CLAIMED_AT_ONCE]
            claimed = await self.store.claim(self.owner, self.nonce, self.node_id, batch)
            if claimed:
                log.warning("adopted", conversations=len(claimed))
                self.metrics.takeovers.inc(len(claimed))
                self.pump.give(Claimed(tuple(claimed), Former(self.node_id, self.clock.now() - ADOPT_EVERY_S)))

    async def _inherit(self, dead: Member, lease: Lease) -> None:
        """Our part of what this node had; all of it, once the others have had their time."""
        now = asyncio.get_running_loop().time()
        legacy = self._legacies.get(dead.owner)
        if legacy is None:
            legacy = self._legacies[dead.owner] = _Legacy(now)
            if dead.has_departed:
                log.info("node_departed", node=dead.owner)
            else:
                log.warning("node_dead", node=dead.owner, silent_ms=lease.store_ms - dead.renewed_ms)
        if legacy.emptied:
            return
        living = [each.node_id for each in lease.members if each.is_alive(lease.store_ms)]
        free_for_all = now - legacy.noticed_at > LEASE_S
        names = await self.store.owned(dead.node_id)
        ours = [name for name in names if free_for_all or heir_of(name, living) == self.node_id]
        for start in range(0, len(ours), CLAIMED_AT_ONCE):
            await self._claim(dead, ours[start : start + CLAIMED_AT_ONCE])
        if free_for_all or heir_of(dead.node_id, living) == self.node_id:
            self.pump.give(StreamsClaimed(tuple(await self.store.claim_streams(self.owner, dead.node_id))))
        legacy.emptied = free_for_all and not names

    async def _claim(self, dead: Member, conversations: Sequence[ConversationId]) -> int:
        claimed = await self.store.claim(self.owner, self.nonce, dead.node_id, conversations)
        if claimed and self._latest is not None:
            silent_s = 0.0 if dead.has_departed else (self._latest.store_ms - dead.renewed_ms) / 1000
            self.metrics.takeovers.inc(len(claimed))
            self.pump.give(Claimed(tuple(claimed), Former(dead.node_id, self.clock.now() - silent_s)))
        return len(claimed)


def heir_of(name: str, living: Iterable[str]) -> str | None:
    """Who of the living takes this: the highest of as many draws as there are nodes, the same at each of them."""
    return max(living, key=lambda node: (crc32(f"{node} {name}".encode()), node), default=None)
