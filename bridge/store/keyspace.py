"""What one Redis would hold, in dictionaries, and what the scripts do to it: the twin of `scripts/*.lua`.

Each method is one script or one read, applied at once. A keyspace can also do what befalls real ones: restart empty, and
fall back to how it was a while ago. Refuses to know connections, queues and what is inside the records.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from bridge.ambient import Clock
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import (
    Ack,
    Commit,
    HandOver,
    Postponed,
    Release,
    Remembered,
    StoredCall,
    StoredConversation,
    Unreadable,
)
from bridge.sip.registrar import AddressOfRecord
from bridge.store import REMEMBERED_S, ConversationRecord, Kind, Lease, Member, Whereabouts
from bridge.store.configured import ConfiguredKeys
from bridge.store.registered import Out, Registration, RegistrationKeys
from bridge.store.tables import Table

FORGET_S = 86_400.0  # a name unheard for so long is forgotten
IDLE_S = 30 * 86_400.0  # for how long an address of record is remembered that nobody is bound to

_VERSION = re.compile(rb'"v":(\d+)')  # of a head, as claim.lua finds it

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Answer: TypeAlias = Literal["applied", "lost", "stale", "exists"]


@dataclass(frozen=True, slots=True)
class _Record:
    """One conversation: the fence, and what it guards."""

    epoch: int
    nonce: str
    version: int
    owner: str
    head: bytes
    fixed: Mapping[CallId, bytes]
    variable: Mapping[CallId, bytes]
    released: tuple[CallId, ...] | None = None  # the calls it had; only the fence and the head are left
    merged_into: ConversationId | None = None  # where its last living call went
    handed: tuple[int, str] = (0, "")  # at which version it was written over, and by which node


@dataclass(frozen=True, slots=True)
class _Move:
    """Calls that leave a conversation; its head and version where they change with that."""

    conversation: ConversationId
    calls: tuple[CallId, ...]
    head: bytes | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    """One name as it was last announced."""

    incarnation: str
    generation: int
    renewed_ms: int  # 0: it has departed
    heard_ms: int
    lease_ms: int
    facts: bytes


class Keyspace(RegistrationKeys, ConfiguredKeys):
    """All keys of one prefix. `history_s` is how far `roll_back` can reach, in seconds; 0 keeps no history."""

    def __init__(self, clock: Clock, *, history_s: float = 0.0) -> None:
        self._clock = clock
        self._history_s = history_s
        self._history: deque[tuple[float, Callable[[], None]]] = deque()
        self._conversations: Table[ConversationId, _Record] = Table(clock, self._remember)
        self._calls: Table[CallId, ConversationId | bytes] = Table(clock, self._remember)  # bytes: the final record
        self._created: Table[CallId, int] = Table(clock, self._remember)
        self._out: Table[str, Out] = Table(clock, self._remember)
        self._owned: Table[tuple[str, ConversationId], str] = Table(clock, self._remember)  # node id → incarnation
        self._nodes: Table[str, _Node] = Table(clock, self._remember)
        self._quiet: Table[str, int] = Table(clock, self._remember)  # until when (UTC ms)
        self._secrets: Table[str, str] = Table(clock, self._remember)
        self._registrations: Table[AddressOfRecord, Registration] = Table(clock, self._remember)
        self._streams: Table[tuple[str, AddressOfRecord], str] = Table(clock, self._remember)  # → incarnation
        self._records: Table[tuple[Kind, str], tuple[int, bytes | None]] = Table(
            clock, self._remember
        )  # revision, record
        self._places: Table[tuple[str, CallId], int] = Table(clock, self._remember)  # when it was taken (UTC ms)
        self._begun: Table[str, tuple[int, int]] = Table(clock, self._remember)  # by trunk: which second, how many
        self._claims: Table[str, Remembered] = Table(clock, self._remember)

    # What befalls it.

    def empty(self) -> None:
        """It has restarted without its data."""
        calls = (self._conversations, self._calls, self._created, self._out, self._owned)
        for table in (
            *calls,
            self._nodes,
            self._quiet,
            self._secrets,
            self._registrations,
            self._streams,
            self._records,
            self._places,
            self._begun,
            self._claims,
        ):
            table.clear()

    def roll_back(self, seconds: float) -> None:
        """It has failed over to a replica that was this far behind."""
        since = self._clock.now() - seconds
        while self._history and self._history[-1][0] > since:
            self._history.pop()[1]()

    def _remember(self, undo: Callable[[], None]) -> None:
        if self._history_s <= 0:
            return
        now = self._clock.now()
        self._history.append((now, undo))
        while self._history[0][0] < now - self._history_s:
            self._history.popleft()

    # The scripts.

    def commit(self, commit: Commit, retention_s: float) -> Answer | Remembered:
        """commit.lua. `Remembered`: its key has been claimed for another call."""
        stored = self._conversations.get(commit.conversation)
        moves: list[_Move] = []
        answer = self._fence(commit, stored) or self._taken(commit, stored, moves) or self._claimed(commit)
        if answer is not None:
            for ack in commit.acks:
                self.acknowledge(ack)
            return answer
        moved = {call for move in moves for call in move.calls}
        for event in commit.events:
            out = self._out.get(event.call) or Out()
            self._out.put(event.call, replace(out, events={**out.events, event.sequence: event.body}))
        for ack in commit.acks:
            self.acknowledge(ack)
        node_id, _, incarnation = commit.owner.rpartition(":")
        if commit.whole and stored is not None:
            self._owned.drop((stored.owner.rpartition(":")[0], commit.conversation))
        if commit.whole or commit.version == 1:
            self._owned.put((node_id, commit.conversation), incarnation)
        kept = None if commit.whole else stored
        fixed, variable = (dict(kept.fixed), dict(kept.variable)) if kept is not None else ({}, {})
        for call in commit.calls:
            if call.fixed is not None:
                fixed[call.call] = call.fixed
                if call.call in moved or self._calls.get(call.call) is None:
                    self._calls.put(call.call, commit.conversation)
                self._created.put(call.call, call.created_ms)
            if call.variable is not None:
                variable[call.call] = call.variable
        for ending in commit.endings:
            self._calls.put(ending.call, ending.record, keep_s=retention_s)
        for move in moves:
            self._move(move, commit.conversation, retention_s)
        fence = (commit.epoch, commit.nonce, commit.version, commit.owner)
        merged_into = kept.merged_into if kept is not None else None
        record = _Record(*fence, commit.head, fixed, variable, merged_into=merged_into)
        self._conversations.put(commit.conversation, record)
        return "applied"

    def _fence(self, commit: Commit, stored: _Record | None) -> Answer | None:
        """What is answered without writing; None: write."""
        creates = commit.version == 1 and not commit.whole
        if stored is not None and (stored.epoch, stored.nonce) == (commit.epoch, commit.nonce):
            if stored.version >= commit.version:
                return "applied"
            if stored.released is not None:
                return "lost"
            if not commit.whole and stored.version != commit.version - 1:
                return "stale"
        elif stored is not None:
            if creates and stored.epoch == commit.epoch:
                return "exists"
            if stored.released is not None or (stored.epoch, stored.nonce) > (commit.epoch, commit.nonce):
                return "lost"
            if not commit.whole:
                return "stale"
        elif not creates and not commit.whole:
            mentioned = [call.call for call in commit.calls] + [ending.call for ending in commit.endings]
            ended = any(isinstance(self._calls.get(call), bytes) for call in mentioned)
            return "lost" if ended else "stale"
        return None

    def _taken(self, commit: Commit, stored: _Record | None, moves: list[_Move]) -> Answer | None:
        """Whether everything it brings may be had: `moves` is filled with what has to leave where it was.

        Nobody else's call is taken, and nothing that has ended is resurrected.
        """
        answer = None if commit.whole else self._taken_as_known(commit, moves)
        if answer is not None:
            return answer
        endings = {ending.call for ending in commit.endings}
        taken = {call: move.conversation for move in moves for call in move.calls}
        for call in commit.calls:
            held = self._calls.get(call.call)
            if call.fixed is None or held is None or held in (commit.conversation, taken.get(call.call)):
                continue
            own = False
            if isinstance(held, bytes):
                own = commit.whole and ((stored is not None and stored.owner == commit.owner) or call.call in endings)
            elif commit.whole:
                # An older store has it where it was before it moved.
                known = self._conversations.get(held)
                own = known is not None and known.owner == commit.owner
                moves.append(_Move(held, (call.call,)))
            if not own:
                return "lost" if commit.whole else "exists"
        return None

    def _taken_as_known(self, commit: Commit, moves: list[_Move]) -> Answer | None:
        """What is taken has to be ours as we know it."""
        versions: dict[ConversationId, int] = {}
        for take in commit.takes:
            known = self._conversations.get(take.conversation)
            if known is None:
                return "stale"
            theirs, ours = (known.epoch, known.nonce), (take.epoch, take.nonce)
            if known.owner != commit.owner and theirs >= ours:
                return "lost"
            missing = take.version - versions.get(take.conversation, known.version)
            if theirs != ours or missing > 1:
                return "stale"
            versions[take.conversation] = take.version
            changed = missing == 1
            moves.append(
                _Move(take.conversation, take.calls, take.head if changed else None, take.version if changed else None)
            )
        return None

    def _claimed(self, commit: Commit) -> Remembered | None:
        """Claim its key; what is known of that where another call has it."""
        claim = commit.claim
        if claim is None:
            return None
        known = self._claims.get(claim.key)
        if known is None:
            made = Remembered(claim.fingerprint, claim.call, 201, claim.answer)
            self._claims.put(claim.key, made, keep_s=REMEMBERED_S)
            return None
        # A call that is told anew lives, whoever has the key now.
        return None if known.call == claim.call or commit.whole else known

    def _move(self, move: _Move, into: ConversationId, retention_s: float) -> None:
        """Calls leave their conversation; where nothing that lives is left it is said where that went."""
        known = self._conversations.get(move.conversation)
        if known is None:
            return
        fixed = {call: data for call, data in known.fixed.items() if call not in move.calls}
        variable = {call: data for call, data in known.variable.items() if call not in move.calls}
        record = replace(known, fixed=fixed, variable=variable)
        if all(isinstance(self._calls.get(call), bytes) for call in fixed):
            record = replace(record, merged_into=into)
        if move.head is not None and move.version is not None:
            record = replace(record, head=move.head, version=move.version)
        if fixed:
            self._conversations.put(move.conversation, record)
            return
        self._conversations.put(move.conversation, replace(record, released=known.released or ()), keep_s=retention_s)
        self._owned.drop((known.owner.rpartition(":")[0], move.conversation))

    def acknowledge(self, ack: Ack) -> None:
        """cursor.lua."""
        out = self._out.get(ack.call)
        if out is None or out.cursors.get(ack.endpoint, -1) >= ack.sequence:
            return
        postponed = dict(out.postponed)
        if ack.endpoint in postponed and postponed[ack.endpoint].sequence <= ack.sequence:
            del postponed[ack.endpoint]
        cursors = {**out.cursors, ack.endpoint: ack.sequence}
        self._out.put(ack.call, replace(out, cursors=cursors, postponed=postponed))

    def postpone(self, postponed: Postponed) -> None:
        """postpone.lua."""
        out = self._out.get(postponed.call)
        if out is None or out.cursors.get(postponed.endpoint, -1) >= postponed.sequence:
            return
        stored = out.postponed.get(postponed.endpoint)
        newest = (postponed.sequence, postponed.attempts)
        if stored is None or newest > (stored.sequence, stored.attempts):
            self._out.put(postponed.call, replace(out, postponed={**out.postponed, postponed.endpoint: postponed}))

    def release(self, release: Release, retention_s: float) -> None:
        """release.lua."""
        stored = self._conversations.get(release.conversation)
        if stored is not None and stored.owner != release.owner:
            return
        for call in release.calls:
            self._calls.expire(call, retention_s)
            self._created.expire(call, retention_s)
            self._out.expire(call, retention_s)
        if stored is not None:
            bare = replace(stored, fixed={}, variable={}, released=release.calls)
            self._conversations.put(release.conversation, bare, keep_s=retention_s)
        self._owned.drop((release.owner.rpartition(":")[0], release.conversation))

    def announce(self, owner: str, generation: int, facts: bytes, lease_s: float) -> tuple[Lease, int]:
        """announce.lua: the lease, and the generation to announce with from now on."""
        node_id, _, incarnation = owner.rpartition(":")
        now, lease_ms = int(self._clock.now() * 1000), int(lease_s * 1000)
        stored = self._nodes.get(node_id)
        if stored is not None and stored.incarnation == incarnation:
            generation = stored.generation
        elif generation == 0:
            generation = max(now, stored.generation + 1 if stored is not None else 0)
        elif stored is not None and stored.generation >= generation:
            return Lease(owner, now, f"{node_id}:{stored.incarnation}"), generation
        latest = max((node.heard_ms for _, node in self._nodes.items()), default=now)
        if now - latest > lease_ms / 2:
            self._quiet.put("quiet", now + 2 * lease_ms, keep_s=2 * lease_s)
        self._nodes.put(node_id, _Node(incarnation, generation, now, now, lease_ms, facts), keep_s=FORGET_S)
        members = tuple(
            Member(name, node.incarnation, node.renewed_ms, node.lease_ms, node.facts)
            for name, node in sorted(self._nodes.items(), key=lambda item: item[1].heard_ms)
        )
        return Lease(owner, now, None, self._quiet.get("quiet") or 0, members), generation

    def _may_take(self, node_id: str, by: str) -> bool:
        """dead.lua."""
        if node_id == by:
            return True
        if self._quiet.get("quiet") is not None:
            return False
        node = self._nodes.get(node_id)
        return node is None or int(self._clock.now() * 1000) - node.renewed_ms > node.lease_ms

    def owned(self, node_id: str) -> list[ConversationId]:
        return [conversation for (node, conversation), _ in self._owned.items() if node == node_id]

    def claim_predecessors(
        self, owner: str, nonce: str, reads: Sequence[int] = ()
    ) -> list[StoredConversation | Unreadable]:
        node_id = owner.rpartition(":")[0]
        return self.claim(owner, nonce, node_id, self.owned(node_id), reads)

    def claim(
        self,
        owner: str,
        nonce: str,
        node_id: str,
        conversations: Sequence[ConversationId],
        reads: Sequence[int] = (),
    ) -> list[StoredConversation | Unreadable]:
        """claim.lua, for each of these."""
        own_id, _, incarnation = owner.rpartition(":")
        claimed: list[StoredConversation | Unreadable] = []
        for conversation in conversations:
            stored = self._conversations.get(conversation)
            again = stored is not None and (stored.owner, stored.nonce) == (owner, nonce) and stored.released is None
            if stored is None or not again:
                gone = stored is None or stored.released is not None
                if stored is None or gone or stored.owner.rpartition(":")[0] != node_id:
                    self._owned.drop((node_id, conversation))
                    continue
                if stored.owner == owner or not self._may_take(node_id, own_id):
                    continue
                written = _VERSION.search(stored.head)
                if reads and written is not None and int(written[1]) not in reads:
                    claimed.append(Unreadable(conversation, int(written[1])))
                    continue
                stored = replace(stored, epoch=stored.epoch + 1, nonce=nonce, owner=owner)
                self._conversations.put(conversation, stored)
                self._owned.drop((node_id, conversation))
                self._owned.put((own_id, conversation), incarnation)
            calls = tuple(self._stored_call(call, stored) for call in sorted(stored.fixed))
            version, giver = stored.handed
            claimed.append(
                StoredConversation(
                    conversation,
                    stored.epoch,
                    nonce,
                    stored.version,
                    stored.head,
                    calls,
                    giver if version == stored.version else "",
                )
            )
        return claimed

    def hand_over(self, given: HandOver) -> bool:
        """yield.lua."""
        stored = self._conversations.get(given.conversation)
        if stored is not None and (stored.owner, stored.nonce) == (given.heir, given.nonce):
            return True
        if stored is None or stored.released is not None:
            return False
        if (stored.owner, stored.epoch, stored.version) != (given.owner, given.epoch, given.version):
            return False
        heir_id, _, incarnation = given.heir.rpartition(":")
        heir = self._nodes.get(heir_id)
        if heir is not None and heir.incarnation != incarnation:
            return False
        giver = given.owner.rpartition(":")[0]
        moved = replace(
            stored, owner=given.heir, epoch=given.epoch + 1, nonce=given.nonce, handed=(stored.version, giver)
        )
        self._conversations.put(given.conversation, moved)
        self._owned.drop((giver, given.conversation))
        self._owned.put((heir_id, given.conversation), incarnation)
        return True

    def depart(self, owner: str) -> None:
        """depart.lua."""
        node_id, _, incarnation = owner.rpartition(":")
        node = self._nodes.get(node_id)
        if node is not None and node.incarnation == incarnation:
            self._nodes.put(node_id, replace(node, renewed_ms=0), keep_s=FORGET_S)

    # The reads.

    def final_record(self, call: CallId) -> bytes | None:
        held = self._calls.get(call)
        return held if isinstance(held, bytes) else None

    def stored_call(self, call: CallId) -> StoredCall | None:
        held = self._calls.get(call)
        if held is None or isinstance(held, bytes):
            return None
        stored = self._conversations.get(held)
        return None if stored is None or call not in stored.fixed else self._stored_call(call, stored)

    def whereabouts(self, call: CallId) -> Whereabouts | None:
        held = self._calls.get(call)
        stored = None if held is None or isinstance(held, bytes) else self._conversations.get(held)
        if stored is None or isinstance(held, bytes) or held is None or call not in stored.fixed:
            return None
        return Whereabouts(held, stored.owner)

    def events(self, call: CallId) -> list[tuple[int, bytes]] | None:
        out = self._out.get(call)
        return None if out is None else sorted(out.events.items())

    def list_calls(self, before: tuple[int, str] | None, limit: int) -> list[tuple[int, CallId, bytes | None]]:
        known = [(created_ms, call) for call, created_ms in self._created.items() if self._calls.get(call) is not None]
        below = sorted((entry for entry in known if before is None or entry < before), reverse=True)
        return [(created_ms, call, self.final_record(call)) for created_ms, call in below[:limit]]

    def conversation(self, conversation: ConversationId) -> ConversationRecord | None:
        stored = self._conversations.get(conversation)
        if stored is None:
            return None
        return ConversationRecord(stored.head, tuple(sorted(stored.released or stored.fixed)), stored.merged_into)

    def remembered(self, key: str) -> Remembered | None:
        return self._claims.get(key)

    def secret(self, name: str, proposal: str) -> str:
        stored = self._secrets.get(name)
        if stored is None:
            self._secrets.put(name, proposal)
            return proposal
        return stored

    def _stored_call(self, call: CallId, stored: _Record) -> StoredCall:
        out = self._out.get(call) or Out()
        return StoredCall(
            call,
            stored.fixed[call],
            stored.variable.get(call, b""),
            tuple(sorted(out.events.items())),
            tuple(sorted(out.cursors.items())),
            tuple(out.postponed.values()),
        )
