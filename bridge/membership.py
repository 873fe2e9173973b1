"""Keeps this node's lease, and sees to what nodes leave behind that have lost theirs (survival §1, §4.1, §4.2).

Stands beside the pump, because it joins the store and the engine. Each survivor claims the conversations that fall to it
by rendezvous hashing, so that nobody has to agree on anything; what the others have not claimed a lease later is free for
all. The store's scripts are the judge: they give nothing away of a node that lives, and nothing in quiet time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from zlib import crc32

import structlog

from bridge import __version__
from bridge.ambient import Clock
from bridge.announcing import announcement, shared_version
from bridge.calls.facts import ConversationId
from bridge.calls.snapshot import READS
from bridge.engine.commit import StoredConversation, Unreadable
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
EMPTY_AGAIN_S = 30.0  # a store may fall back, and somebody may write something over to a node that has just died

log = structlog.get_logger("bridge.membership")


@dataclass(slots=True)
class _Legacy:
    """What is left of a dead node, as far as we know."""

    noticed_at: float  # by our loop's clock
    look_at: float = 0.0  # not before


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
    reads: tuple[int, ...] = READS  # versions of stored calls, ascending
    measured: Callable[[], Mapping[str, object]] = dict  # more of that, as it is at the moment
    _latest: Lease | None = None
    _missing: frozenset[ConversationId] = frozenset()  # ours by the store, and not here when we looked last
    _tried: set[ConversationId] = field(default_factory=set)
    _looked_at: float = 0.0  # for those; by our loop's clock
    _legacies: dict[str, _Legacy] = field(default_factory=dict)  # by owner, of those that are dead now
    # Asked for, and the answer is lost: they may be ours already, and nobody else will ask for them.
    _owed: dict[ConversationId, tuple[str, Former]] = field(default_factory=dict)
    _streams_owed: bool = False
    _unreadable: dict[ConversationId, str] = field(default_factory=dict)  # and whose they were
    _nothing_shared: bool = False  # somebody lives who reads nothing that we can write
    _speaking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _left: bool = False

    def __post_init__(self) -> None:
        self.facts["starting"] = True

    @property
    def node_id(self) -> str:
        return self.owner.rpartition(":")[0]

    async def announce(self) -> Lease:
        """Say that we live. Raises StoreUnavailable."""
        async with self._speaking:
            if self._left:
                raise StoreUnavailable("this node has said that it lives no more")
            asked_at = self.clock.now()
            lease = await self.store.announce(self.owner, self.facts_now(), LEASE_S)
        if lease.replaced_by is not None:
            self.metrics.lease_lost.inc()
            log.error("replaced", by=lease.replaced_by, detail="another process bears this node_id: this one lets go")
            self.replaced(lease.replaced_by)
        else:
            self.pump.give(Leased(asked_at + VALID_PART * LEASE_S, self._write_for(lease)))
            self._latest = lease
            self.heard(lease)
        return lease

    def facts_now(self) -> bytes:
        """What others should know of us (`announcing`)."""
        own = {"versions": self.reads, "release": __version__, "nonce": self.nonce}
        return json.dumps({**own, **self.facts, **self.measured()}).encode()

    @property
    def latest(self) -> Lease | None:
        """Everybody, as of our last renewal."""
        return self._latest

    def _write_for(self, lease: Lease) -> int:
        """The version of stored calls that everybody who lives reads. In quiet time whoever was there last still is."""
        quiet = lease.store_ms < lease.quiet_until_ms
        living = [announcement(each.facts) for each in lease.members if quiet or each.is_alive(lease.store_ms)]
        shared = shared_version(self.reads, living)
        if (shared is None) != self._nothing_shared:
            self._nothing_shared = shared is None
            if shared is None:
                detail = "a node lives that reads none of the versions that this release writes: it cannot carry on our calls"
                log.error("no_shared_version", ours=self.reads, detail=detail)
        return self.reads[0] if shared is None else shared

    async def take(self, conversation: ConversationId, former: Former) -> int:
        """Carry on what another node has handed over to us. How many conversations that were. Raises StoreUnavailable."""
        return await self._claim(self.node_id, [conversation], former)

    async def leave(self) -> None:
        """Say that we live no more, and nothing after that. Without the store's word our lease just lapses."""
        async with self._speaking:
            self._left = True
            with suppress(StoreUnavailable):
                await self.store.depart(self.owner)

    async def claim(self, place: Whereabouts) -> bool:
        """Take one conversation over from a node that is dead, because somebody asks for it. True where it is ours now.
        Raises StoreUnavailable."""
        node_id = place.owner.rpartition(":")[0]
        dead = next((each for each in self._latest.dead() if each.node_id == node_id), None) if self._latest else None
        return dead is not None and await self._claim(dead.node_id, [place.conversation], self._former(dead)) > 0

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
            claimed = self._readable(conversations, self.owner)
            self.metrics.takeovers.inc(len(claimed))
            self.pump.give(Claimed(tuple(claimed)))
            self.pump.give(StreamsClaimed(tuple(streams)))
            return

    async def open(self) -> None:
        """Say that we listen: what others hand over to us before that would be taken for what our own name has left."""
        self.facts.pop("starting", None)
        with suppress(StoreUnavailable):
            await self.announce()  # else it is said with the next renewal

    async def keep(self) -> None:
        """Renew the lease for ever, and take over what the dead have left."""
        loop = asyncio.get_running_loop()
        renewed, held = loop.time(), True
        while True:
            await asyncio.sleep(RENEW_S)
            asked = loop.time()
            try:
                lease = await self.announce()
            except StoreUnavailable:
                if self._left:
                    continue
                log.warning("lease_not_renewed")
                if held and loop.time() - renewed > LEASE_S:
                    held = False
                    self.metrics.lease_lost.inc()
                continue
            renewed, held = asked, True
            try:
                await self._see_to(lease)
            except StoreUnavailable:
                log.warning("claim_waits_for_store")

    async def _see_to(self, lease: Lease) -> None:
        """What the dead have left. Who lives again may die again, and leave something else."""
        dead = lease.dead()
        names = {member.owner for member in dead}
        for owner in self._legacies.keys() - names:
            del self._legacies[owner]
        for conversation in [each for each, owner in self._unreadable.items() if owner not in (*names, self.owner)]:
            del self._unreadable[conversation]
        for conversation, (node_id, former) in list(self._owed.items()):
            await self._claim(node_id, [conversation], former)
        if self._streams_owed:
            self.pump.give(StreamsClaimed(tuple(await self.store.claim_streams(self.owner, self.node_id))))
            self._streams_owed = False
        for member in dead:
            await self._inherit(member, lease)
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= ADOPT_EVERY_S and "draining" not in self.facts:  # what we hand over is ours no more
            self._looked_at = now
            await self._adopt()

    async def _adopt(self) -> None:
        """Take up what has been written over to us and never told: a node that drained could not reach us, or our answer
        to it was lost. What is missing twice in a row is not just on its way."""
        carried = self.pump.node.conversation
        missing = frozenset(each for each in await self.store.owned(self.node_id) if carried(each) is None)
        wanted, self._missing = sorted((missing & self._missing) - self._tried), missing
        self._tried = (self._tried | set(wanted)) & missing  # once: one that cannot be read stays where it is
        for start in range(0, len(wanted), CLAIMED_AT_ONCE):
            batch = wanted[start : start + CLAIMED_AT_ONCE]
            # Whose they were is not known any more, nor since when nobody has carried them.
            adopted = await self._claim(self.node_id, batch, Former(self.node_id, self.clock.now() - ADOPT_EVERY_S))
            if adopted:
                log.warning("adopted", conversations=adopted)

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
        if now < legacy.look_at:
            return
        heirs = _heirs(dead, lease)
        free_for_all = now - legacy.noticed_at > LEASE_S
        names = [each for each in await self.store.owned(dead.node_id) if each not in self._unreadable]
        ours = [name for name in names if free_for_all or heir_of(name, heirs) == self.node_id]
        for start in range(0, len(ours), CLAIMED_AT_ONCE):
            await self._claim(dead.node_id, ours[start : start + CLAIMED_AT_ONCE], self._former(dead))
        if free_for_all or heir_of(dead.node_id, heirs) == self.node_id:
            await self._claim_streams(dead.node_id)
        if free_for_all and not names:
            legacy.look_at = now + EMPTY_AGAIN_S

    def _former(self, dead: Member) -> Former:
        heard_ms = self._latest.store_ms if self._latest is not None else dead.renewed_ms
        silent_s = 0.0 if dead.has_departed else (heard_ms - dead.renewed_ms) / 1000
        return Former(dead.node_id, self.clock.now() - silent_s)

    async def _claim(self, node_id: str, conversations: Sequence[ConversationId], former: Former) -> int:
        try:
            answers = await self.store.claim(self.owner, self.nonce, node_id, conversations)
        except StoreUnavailable:
            self._owed |= dict.fromkeys(conversations, (node_id, former))
            raise
        for conversation in conversations:
            self._owed.pop(conversation, None)
        dead = (
            next((each.owner for each in self._latest.members if each.node_id == node_id), "") if self._latest else ""
        )
        claimed = self._readable(answers, dead)
        if claimed:
            self.metrics.takeovers.inc(len(claimed))
            self.pump.give(Claimed(tuple(claimed), former))
        return len(claimed)

    def _readable(self, answers: Sequence[StoredConversation | Unreadable], owner: str) -> list[StoredConversation]:
        """Those that we can carry on. The others stay for a node that can; each is told of and counted once."""
        found = [each for each in answers if isinstance(each, Unreadable) and each.conversation not in self._unreadable]
        if found:
            self._unreadable |= dict.fromkeys([each.conversation for each in found], owner)
            self.metrics.unreadable.inc(len(found))
            detail = "written by a newer release: left for a node that reads it"
            versions = sorted({each.snapshot for each in found})
            log.warning("snapshots_left", node=owner, conversations=len(found), versions=versions, detail=detail)
        return [each for each in answers if isinstance(each, StoredConversation)]

    async def _claim_streams(self, node_id: str) -> None:
        try:
            streams = await self.store.claim_streams(self.owner, node_id)
        except StoreUnavailable:
            self._streams_owed = True  # an index of our own has them then
            raise
        self.pump.give(StreamsClaimed(tuple(streams)))


def _heirs(dead: Member, lease: Lease) -> list[str]:
    """Who takes what a node has left: of those who live, whoever reads all that it can have written, and of those, whoever
    has neither to come yet nor to go itself. The same at each node, for all have heard the same."""
    needed = max(announcement(dead.facts).versions)
    living = [(each.node_id, announcement(each.facts)) for each in lease.members if each.is_alive(lease.store_ms)]
    able = [(node, said) for node, said in living if needed in said.versions] or living
    return [node for node, said in able if not (said.draining or said.starting)] or [node for node, _ in able]


def heir_of(name: str, living: Iterable[str]) -> str | None:
    """Who of the living takes this: the highest of as many draws as there are nodes, the same at each of them."""
    return max(living, key=lambda node: (crc32(f"{node} {name}".encode()), node), default=None)
