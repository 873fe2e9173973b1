"""The store inside one process: the same promises as `redis`, until the process ends. The store of the simulation, so it
can be told to fail as real ones do (survival.md §2): slow, away, applied but the reply lost; and its `Keyspace`, which
the nodes of a simulation share, can be emptied and rolled back.

Results come back through `later`, the running loop's unless a virtual clock's is given; no coroutine here ever suspends.
Refuses to know what the records hold.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

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
from bridge.engine.inputs import CommitRefused, Committed, Input, StoreAway, StoreBack
from bridge.engine.registrations import (
    BindingsRead,
    ForgetEvents,
    ReadBindings,
    StoredStream,
    WriteRegistration,
    read_bindings,
)
from bridge.errors import StoreUnavailable
from bridge.sip.registrar import AddressOfRecord
from bridge.store import Caps, Changes, ConversationRecord, Due, Kind, Lease, Whereabouts
from bridge.store.keyspace import Keyspace

Later: TypeAlias = Callable[[float, Callable[[], None]], object]  # (seconds from now, what to call then)
Write: TypeAlias = Commit | tuple[Ack, ...] | Postponed | Release | WriteRegistration | ForgetEvents

RECONNECT_S = 0.05


class MemoryStore:
    """One node's way to a keyspace. Writes are answered one by one, in order, `latency_s` after they were asked for."""

    def __init__(
        self,
        *,
        give: Callable[[Input], None],
        clock: Clock,
        keyspace: Keyspace | None = None,
        later: Later | None = None,
        retention_s: float = 86_400.0,
        away_after_s: float = 1.0,
        reads: Sequence[int] = (),
    ) -> None:
        self.latency_s = 0.0  # of a write; may be changed at any time
        self.keyspace = keyspace if keyspace is not None else Keyspace(clock)
        self._give = give
        self._later = later if later is not None else _later_in_loop
        self._retention_s = retention_s
        self._away_after_s = away_after_s
        self._queue: deque[Write] = deque()
        self._asked = 0  # writes so far
        self._answered = 0  # and how many of them are done
        self._link = 0  # counts connections: what was under way on an earlier one is not answered
        self._cut = False  # nothing passes
        self._linked = True
        self._away = False  # as last told
        self._owed: int | None = None  # answers until we say "back"; None: nothing has been heard yet
        self._replies_to_lose = 0
        self._generation = 0
        self._reads = reads  # the versions that we claim; empty: all

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """Write what is queued, unless the store is away."""
        while self._queue and self._linked:
            self._answer(self._link)

    # How it fails.

    def go_away(self) -> None:
        """The connection breaks, and nobody answers until `come_back`."""
        self._cut = True
        self._break_link()

    def come_back(self) -> None:
        """Somebody listens again: what was not answered is sent again, in order."""
        self._cut = False
        self._relink(self._link)

    def lose_replies(self, count: int = 1) -> None:
        """The next `count` commits are applied, and the connection breaks before the answer."""
        self._replies_to_lose += count

    # Writes.

    def commit(self, commit: Commit) -> None:
        """One fenced write: `Committed`, or `CommitRefused`, comes back."""
        self._ask(commit)

    def acknowledge(self, acks: Sequence[Ack]) -> None:
        """Deliveries settled; nothing comes back."""
        self._ask(tuple(acks))

    def postpone(self, postponed: Postponed) -> None:
        """A delivery that is due again later; nothing comes back."""
        self._ask(postponed)

    def release(self, release: Release) -> None:
        """Drop the live record and keep the final ones; nothing comes back."""
        self._ask(release)

    def write_registration(self, write: WriteRegistration) -> None:
        """One registration: `RegistrationWritten`, or `RegistrationRefused`, comes back."""
        self._ask(write)

    def forget_events(self, settled: ForgetEvents) -> None:
        """Events of a registration that every endpoint has; nothing comes back."""
        self._ask(settled)

    def read_bindings(self, wanted: ReadBindings) -> None:
        """`BindingsRead` comes back; without bindings where the store is away by then."""
        self._later(self.latency_s if self._linked else 0.0, partial(self._read, wanted))

    def _read(self, wanted: ReadBindings) -> None:
        found = None
        if self._linked and not self._away:
            found = read_bindings(self.keyspace.registration(AddressOfRecord(wanted.aor)) or b"")
        self._give(BindingsRead(wanted.reader, wanted.aor, found))

    def _ask(self, write: Write) -> None:
        self._queue.append(write)
        self._asked += 1
        if self._linked:
            self._later(self.latency_s, partial(self._answer, self._link))
            if self.latency_s > self._away_after_s:
                self._later(self._away_after_s, partial(self._miss, self._link, self._asked))

    def _answer(self, link: int) -> None:
        if link != self._link or not self._queue:
            return
        answer = self._apply(self._queue[0])
        if answer is not None and self._replies_to_lose:
            self._replies_to_lose -= 1
            self._break_link()
            self._later(RECONNECT_S, partial(self._relink, self._link))
            return
        self._queue.popleft()
        self._answered += 1
        if self._away:
            self._owed = len(self._queue) if self._owed is None else self._owed - 1
            if self._owed <= 0:
                self._tell_back()
        if answer is not None:
            self._give(answer)

    def _apply(self, write: Write) -> Input | None:
        """What the write is answered, if it is."""
        if isinstance(write, Commit):
            answer = self.keyspace.commit(write, self._retention_s)
            if isinstance(answer, Remembered):
                return CommitRefused(write.ticket, "claimed", answer)
            return Committed(write.ticket) if answer == "applied" else CommitRefused(write.ticket, answer)
        if isinstance(write, WriteRegistration):
            return self.keyspace.register(write)
        if isinstance(write, Postponed):
            self.keyspace.postpone(write)
        elif isinstance(write, Release):
            self.keyspace.release(write, self._retention_s)
        elif isinstance(write, ForgetEvents):
            self.keyspace.forget_events(write)
        else:
            for ack in write:
                self.keyspace.acknowledge(ack)
        return None

    # The link.

    def _break_link(self) -> None:
        self._link += 1
        self._linked = False
        self._tell_away()

    def _relink(self, link: int) -> None:
        if link != self._link or self._cut or self._linked:
            return
        self._linked = True
        self._owed = len(self._queue)
        for _ in self._queue:
            self._later(self.latency_s, partial(self._answer, self._link))
        if not self._owed:
            self._tell_back()

    def _miss(self, link: int, asked: int) -> None:
        """`away_after_s` after a write was asked for: has it been answered?"""
        if link == self._link and self._answered < asked:
            self._tell_away()

    def _tell_away(self) -> None:
        self._owed = None
        if not self._away:
            self._away = True
            self._later(0.0, partial(self._give, StoreAway()))

    def _tell_back(self) -> None:
        self._away = False
        self._later(0.0, partial(self._give, StoreBack()))

    # What awaits, elsewhere.

    def _reachable(self) -> Keyspace:
        if not self._linked:
            raise StoreUnavailable("the store in memory was told to be away")
        return self.keyspace

    async def announce(self, owner: str, facts: bytes, lease_s: float) -> Lease:
        """Renew our lease, with everything others should know of us (JSON), and hear of everybody."""
        lease, self._generation = self._reachable().announce(owner, self._generation, facts, lease_s)
        return lease

    async def owned(self, node_id: str) -> list[ConversationId]:
        """What this node has not released, by an index that may be stale."""
        return self._reachable().owned(node_id)

    async def claim(
        self, owner: str, nonce: str, node_id: str, conversations: Sequence[ConversationId]
    ) -> list[StoredConversation | Unreadable]:
        """Take over those of these conversations that are this node's, if it is dead or bears our own name."""
        return self._reachable().claim(owner, nonce, node_id, conversations, self._reads)

    async def claim_predecessors(self, owner: str, nonce: str) -> list[StoredConversation | Unreadable]:
        """Take over what other incarnations of our node_id own, each one epoch higher."""
        return self._reachable().claim_predecessors(owner, nonce, self._reads)

    async def final_record(self, call: CallId) -> bytes | None:
        """The final record of an ended call; None while it is alive, and after the retention."""
        return self._reachable().final_record(call)

    async def stored_call(self, call: CallId) -> StoredCall | None:
        """A call as it was last written; None when it has ended or is not known."""
        return self._reachable().stored_call(call)

    async def whereabouts(self, call: CallId) -> Whereabouts | None:
        """Who carries a call; None when it has ended or is not known."""
        return self._reachable().whereabouts(call)

    async def events(self, call: CallId) -> list[tuple[int, bytes]] | None:
        """(sequence, body) ascending, delivered or not, until the retention is over; None for a call not known."""
        return self._reachable().events(call)

    async def list_calls(self, *, before: tuple[int, str] | None, limit: int) -> list[tuple[int, CallId, bytes | None]]:
        """(created in UTC ms, call, final record or None while alive), newest first, below `before`."""
        return self._reachable().list_calls(before, limit)

    async def conversation(self, conversation: ConversationId) -> ConversationRecord | None:
        """As it was last written, until the retention after its release is over."""
        return self._reachable().conversation(conversation)

    async def remembered(self, key: str) -> Remembered | None:
        """What came of the first request with this Idempotency-Key; None for one that is not known."""
        return self._reachable().remembered(key)

    async def registration(self, aor: AddressOfRecord) -> bytes | None:
        """The bindings of an address of record, expired ones included; None where there are none."""
        return self._reachable().registration(aor)

    async def list_registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> list[tuple[AddressOfRecord, bytes]]:
        """Addresses of record that have bindings, and those, in the order of their bytes, from the one behind `after`."""
        return self._reachable().list_registrations(after, limit)

    async def due_registrations(self, now_ms: int, limit: int) -> Due:
        """Whose bindings have expired, at most `limit` of them."""
        return self._reachable().due_registrations(now_ms, limit)

    async def hand_over(self, given: HandOver) -> bool:
        """Give a conversation of ours to another node. False: it was not ours, or not at that epoch and version."""
        return self._reachable().hand_over(given)

    async def depart(self, owner: str) -> None:
        """Say that we live no more: what is left of ours is free for others at once."""
        self._reachable().depart(owner)

    async def claim_streams(self, owner: str, node_id: str) -> list[StoredStream]:
        """Take over the events of registrations that this node has not delivered, if it is dead or bears our name."""
        return self._reachable().claim_streams(owner, node_id)

    async def put_record(self, kind: Kind, name: str, record: bytes) -> bool:
        """Keep this user or trunk. True where there was one of that name before."""
        return self._reachable().put_record(kind, name, record)

    async def delete_record(self, kind: Kind, name: str) -> bool:
        """True where there was one."""
        return self._reachable().put_record(kind, name, None)

    async def record(self, kind: Kind, name: str) -> bytes | None:
        """What was kept under that name."""
        return self._reachable().record(kind, name)

    async def changed_records(self, kind: Kind, since: int) -> Changes:
        """What has changed since this revision."""
        return self._reachable().changed_records(kind, since)

    async def take_place(self, trunk: str, call: CallId, caps: Caps) -> bool:
        """A place for this call on a trunk; False: there is none. Asked again it says the same."""
        return self._reachable().take_place(trunk, call, caps)

    async def leave_place(self, trunk: str, call: CallId) -> None:
        """Give it back."""
        self._reachable().leave_place(trunk, call)

    async def secret(self, name: str, proposal: str) -> str:
        """The secret of this name: `proposal` if it is the first, else what was stored."""
        return self._reachable().secret(name, proposal)

    async def facts(self) -> dict[str, str]:
        """What `doctor` looks at: nothing here outlives the process."""
        return {
            "software": "memory",
            "version": "1",
            "maxmemory-policy": "noeviction",
            "appendonly": "no",
            "replicas": "0",
        }


def _later_in_loop(delay_s: float, call: Callable[[], None]) -> object:
    loop = asyncio.get_running_loop()
    return loop.call_later(delay_s, call) if delay_s > 0 else loop.call_soon(call)
