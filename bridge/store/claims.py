"""Who lives, and what the dead have left, in a Redis: leases, claims, the streams of registrations (survival.md §1, §4).

Through redis-py, like all that is not hot. Refuses to know what is inside the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from bridge.calls.facts import ConversationId
from bridge.engine.commit import HandOver, StoredConversation, Unreadable
from bridge.engine.registrations import StoredStream
from bridge.sip.registrar import AddressOfRecord
from bridge.store import Lease, Member
from bridge.store.asking import RedisAsking
from bridge.store.records import conversation_of, stream
from bridge.store.scripts import ANNOUNCE, CLAIM, DEPART, INHERIT, YIELD

CLAIMS_AT_ONCE = 64

log = structlog.get_logger("bridge.store")


class RedisClaims(RedisAsking):
    """Leases and claims."""

    _generation: int  # of our announcements; 0 before the first
    _reads: str  # the versions that we claim, each between commas; empty: all
    _unreplicated: Callable[[str], None]  # told what no replica has acknowledged in time

    async def announce(self, owner: str, facts: bytes, lease_s: float) -> Lease:
        """Renew our lease, with everything others should know of us (JSON), and hear of everybody."""
        node_id, _, incarnation = owner.rpartition(":")
        key = f"{self._prefix}:node:{node_id}"
        arguments = (self._prefix, node_id, incarnation, self._generation, int(lease_s * 1000), facts)
        now, generation, holder, quiet, *rows = await self._ask("EVAL", ANNOUNCE.text, 1, key, *arguments)
        if holder.decode() != incarnation:
            return Lease(owner, now, f"{node_id}:{holder.decode()}")
        self._generation = generation
        return Lease(owner, now, None, quiet, tuple([_member(row) for row in rows]))

    async def owned(self, node_id: str) -> list[ConversationId]:
        """What this node has not released, by an index that may be stale."""
        names: list[bytes] = await self._ask("HKEYS", f"{self._prefix}:owned:{node_id}")
        return [ConversationId(name.decode()) for name in names]

    async def claim(
        self, owner: str, nonce: str, node_id: str, conversations: Sequence[ConversationId]
    ) -> list[StoredConversation | Unreadable]:
        """Take over those of these conversations that are this node's, if it is dead or bears our own name."""
        own_id, _, incarnation = owner.rpartition(":")
        claimed: list[StoredConversation | Unreadable] = []
        for start in range(0, len(conversations), CLAIMS_AT_ONCE):
            commands: list[tuple[object, ...]] = [("SCRIPT LOAD", CLAIM.text)]
            batch = conversations[start : start + CLAIMS_AT_ONCE]
            for name in batch:
                key = f"{self._prefix}:conv:{name}"
                asked = (self._prefix, name, own_id, incarnation, nonce, node_id, self._reads)
                commands.append(("EVALSHA", CLAIM.digest, 1, key, *asked))
            answers = (await self._take(commands))[1:]
            claimed += [_claimed(name, answer) for name, answer in zip(batch, answers, strict=True) if answer]
        return claimed

    async def claim_predecessors(self, owner: str, nonce: str) -> list[StoredConversation | Unreadable]:
        """Take over what other incarnations of our node_id own, each one epoch higher."""
        node_id = owner.rpartition(":")[0]
        return await self.claim(owner, nonce, node_id, await self.owned(node_id))

    async def hand_over(self, given: HandOver) -> bool:
        """Give a conversation of ours to another node. False: it was not ours, or not at that epoch and version."""
        node_id, _, incarnation = given.owner.rpartition(":")
        heir_id, _, heir_incarnation = given.heir.rpartition(":")
        ours = (given.conversation, node_id, incarnation, given.epoch, given.version)
        key = f"{self._prefix}:conv:{given.conversation}"
        command = ("EVAL", YIELD.text, 1, key, self._prefix, *ours, heir_id, heir_incarnation, given.nonce)
        return bool((await self._take([command]))[0])

    async def _take(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """Take over, and have a replica know of it, so that a failover does not let somebody else do the same. Where none
        says so it is done all the same: callers wait, and should the claim be lost, the higher (epoch, nonce) wins."""
        answers, known = await self._ask_and_wait(commands)
        if not known:
            log.error("store_claim_unreplicated", detail="no replica acknowledges: a failover now would lose the claim")
            self._unreplicated("claim")
        return answers

    async def depart(self, owner: str) -> None:
        """Say that we live no more: what is left of ours is free for others at once."""
        node_id, _, incarnation = owner.rpartition(":")
        await self._ask("EVAL", DEPART.text, 1, f"{self._prefix}:node:{node_id}", incarnation)

    async def claim_streams(self, owner: str, node_id: str) -> list[StoredStream]:
        """Take over the events of registrations that this node has not delivered, if it is dead or bears our name."""
        own_id, _, incarnation = owner.rpartition(":")
        index: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:streams:{node_id}")
        names = [name.decode() for name in index]
        claimed = []
        for start in range(0, len(names), CLAIMS_AT_ONCE):
            commands: list[tuple[object, ...]] = [("SCRIPT LOAD", INHERIT.text)]
            batch = names[start : start + CLAIMS_AT_ONCE]
            for name in batch:
                key = f"{self._prefix}:reg:{name}"
                commands.append(("EVALSHA", INHERIT.digest, 1, key, self._prefix, name, own_id, incarnation, node_id))
            answers = (await self._take(commands))[1:]
            claimed += [stream(AddressOfRecord(name), out) for name, out in zip(batch, answers, strict=True) if out]
        return claimed


def _claimed(name: ConversationId, answer: Any) -> StoredConversation | Unreadable:
    """What claim.lua says of one that could be taken."""
    return Unreadable(name, answer) if isinstance(answer, int) else conversation_of(name, *answer)


def _member(row: Sequence[Any]) -> Member:
    """A row of announce.lua."""
    node_id, incarnation, renewed, lease, facts = row
    return Member(node_id.decode(), incarnation.decode(), renewed, lease, facts)
