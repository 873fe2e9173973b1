"""Where state survives: one promise, kept by a Redis and by plain dictionaries (survival.md §1, §2).

`Store` is what the composition root, the engine and the API's reader rely on; `memory` and `redis` keep it, and pass the
same tests. Refuses to know what is inside the bytes it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

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
from bridge.engine.registrations import ForgetEvents, ReadBindings, StoredStream, WriteRegistration
from bridge.sip.registrar import AddressOfRecord

REMEMBERED_S: Final = 86_400.0  # how long an Idempotency-Key is known
UNSTORED_MS: Final = 60_000  # within which a call that has a place on a trunk is stored, or never will be
PLACES_AT_ONCE: Final = 100  # looked at, where a trunk is full
PLACE_KEPT_MS: Final = 8 * 86_400_000  # longer than any call


@dataclass(frozen=True, slots=True)
class Member:
    """A node as it last announced itself, and may be no more."""

    node_id: str
    incarnation: str
    renewed_ms: int  # the store's UTC then; 0: it has departed
    lease_ms: int
    facts: bytes  # JSON: everything others should know of it

    @property
    def owner(self) -> str:
        """As it stands in what the node owns."""
        return f"{self.node_id}:{self.incarnation}"

    @property
    def has_departed(self) -> bool:
        """It has said itself that it lives no more."""
        return self.renewed_ms == 0

    def is_alive(self, store_ms: int) -> bool:
        """Whether its lease had not lapsed by then."""
        return store_ms - self.renewed_ms <= self.lease_ms


@dataclass(frozen=True, slots=True)
class Lease:
    """What the store said to an announcement. It counts from when the announcement was sent."""

    owner: str  # who announced: "node_id:incarnation"
    store_ms: int  # the store's UTC then
    replaced_by: str | None  # the newer incarnation of our name: what was ours is its, and we have to go
    quiet_until_ms: int = 0  # until then a lapsed lease says nothing: the store was away, and everybody's lapsed
    members: tuple[Member, ...] = ()  # every name heard within a day, ours too

    def dead(self) -> tuple[Member, ...]:
        """Whose calls others have to carry on: nobody in quiet time."""
        if self.store_ms < self.quiet_until_ms:
            return ()
        return tuple(each for each in self.members if not each.is_alive(self.store_ms))


@dataclass(frozen=True, slots=True)
class Due:
    """What the store said about expiries."""

    aors: tuple[AddressOfRecord, ...]  # with bindings that have expired, the longest first
    registered: int  # addresses of record with bindings, those included


Kind: TypeAlias = Literal["user", "trunk"]  # what is made by REST, and kept until it is taken away by REST


@dataclass(frozen=True, slots=True)
class Changes:
    """Records of one kind made, changed or taken away since a revision."""

    revision: int  # to ask with next time
    records: Mapping[str, bytes | None]  # by name; None: there is none any more


class Caps(NamedTuple):
    """What may go by one trunk, over all nodes. 0: as much as may be."""

    calls: int = 0  # at once
    per_second: int = 0  # begun


class ConversationRecord(NamedTuple):
    """A conversation as a reader sees it."""

    head: bytes
    calls: tuple[CallId, ...]
    merged_into: ConversationId | None = None  # which took its last living call


class Whereabouts(NamedTuple):
    """Who carries a call."""

    conversation: ConversationId
    owner: str  # "node_id:incarnation", as it was last written


class Store(Protocol):
    """What is written on the hot path is queued and answered by inputs, never from within the call that wrote it.

    `Committed` or `CommitRefused` comes for each commit, in the order of `commit` for each conversation; writes that found
    the store away are tried again, in order, until it answers. `StoreAway` and `StoreBack` alternate. The coroutines raise
    StoreUnavailable where the store does not answer in time, and may be called again with the same arguments.
    """

    async def open(self) -> None:
        """Connect. Raises StartError, naming the remedy."""
        ...

    async def close(self) -> None:
        """Write what is queued, for at most two seconds, then let go."""
        ...

    def commit(self, commit: Commit) -> None:
        """One fenced write: `Committed`, or `CommitRefused`, comes back."""
        ...

    def acknowledge(self, acks: Sequence[Ack]) -> None:
        """Deliveries settled. They ride with the next commit, or leave within 5 ms; nothing comes back."""
        ...

    def postpone(self, postponed: Postponed) -> None:
        """A delivery that is due again later; nothing comes back."""
        ...

    def release(self, release: Release) -> None:
        """Drop the live record and keep the final ones; within 50 ms, nothing comes back."""
        ...

    def read_bindings(self, wanted: ReadBindings) -> None:
        """What an address of record is bound to: `BindingsRead` comes back, also while the store is away."""
        ...

    def write_registration(self, write: WriteRegistration) -> None:
        """One registration, compared and set: `RegistrationWritten`, or `RegistrationRefused`, comes back."""
        ...

    def forget_events(self, settled: ForgetEvents) -> None:
        """Events of a registration that every endpoint has; within 50 ms, nothing comes back."""
        ...

    async def announce(self, owner: str, facts: bytes, lease_s: float) -> Lease:
        """Renew our lease, with everything others should know of us (JSON), and hear of everybody."""
        ...

    async def owned(self, node_id: str) -> list[ConversationId]:
        """What this node has not released, by an index that may be stale."""
        ...

    async def claim(
        self, owner: str, nonce: str, node_id: str, conversations: Sequence[ConversationId]
    ) -> list[StoredConversation | Unreadable]:
        """Take over those of these conversations that are this node's, if it is dead (or bears our own name), each one
        epoch higher, ended calls with undelivered events included. Asked again with the same nonce it brings the same.
        What we could take and cannot read stays whose it was."""
        ...

    async def claim_predecessors(self, owner: str, nonce: str) -> list[StoredConversation | Unreadable]:
        """Take over what other incarnations of our node_id own, each one epoch higher, ended calls with undelivered
        events included. Asked again with the same nonce it brings everything again, so ask before creating anything."""
        ...

    async def final_record(self, call: CallId) -> bytes | None:
        """The final record of an ended call; None while it is alive, and after the retention."""
        ...

    async def stored_call(self, call: CallId) -> StoredCall | None:
        """A call as it was last written; None when it has ended or is not known."""
        ...

    async def whereabouts(self, call: CallId) -> Whereabouts | None:
        """Who carries a call; None when it has ended or is not known."""
        ...

    async def events(self, call: CallId) -> list[tuple[int, bytes]] | None:
        """(sequence, body) ascending, delivered or not, until the retention is over; None for a call not known."""
        ...

    async def list_calls(self, *, before: tuple[int, str] | None, limit: int) -> list[tuple[int, CallId, bytes | None]]:
        """(created in UTC ms, call, final record or None while alive), newest first, below `before`."""
        ...

    async def conversation(self, conversation: ConversationId) -> ConversationRecord | None:
        """As it was last written, until the retention after its release is over."""
        ...

    async def remembered(self, key: str) -> Remembered | None:
        """What came of the first request with this Idempotency-Key, for `REMEMBERED_S`; None for one that is not known."""
        ...

    async def registration(self, aor: AddressOfRecord) -> bytes | None:
        """The bindings of an address of record, expired ones included; None where there are none."""
        ...

    async def list_registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> list[tuple[AddressOfRecord, bytes]]:
        """Addresses of record that have bindings, and those, in the order of their bytes, from the one behind `after`."""
        ...

    async def due_registrations(self, now_ms: int, limit: int) -> Due:
        """Whose bindings have expired, at most `limit` of them."""
        ...

    async def hand_over(self, given: HandOver) -> bool:
        """False: it was not ours, or not at that epoch and version. Asked again it says the same."""
        ...

    async def depart(self, owner: str) -> None:
        """Say that we live no more: what is left of ours is free for others at once."""
        ...

    async def claim_streams(self, owner: str, node_id: str) -> list[StoredStream]:
        """Take over the events of registrations that this node has not delivered, if it is dead (or bears our name)."""
        ...

    async def put_record(self, kind: Kind, name: str, record: bytes) -> bool:
        """Keep this user or trunk. True where there was one of that name before."""
        ...

    async def delete_record(self, kind: Kind, name: str) -> bool:
        """True where there was one."""
        ...

    async def record(self, kind: Kind, name: str) -> bytes | None:
        """What was kept under that name."""
        ...

    async def changed_records(self, kind: Kind, since: int) -> Changes:
        """What has changed since this revision; all there are, for one that the store has not reached (yet, or any more)."""
        ...

    async def take_place(self, trunk: str, call: CallId, caps: Caps) -> bool:
        """A place for this call on a trunk, whose caps all nodes share; False: there is none. Asked again it says the same."""
        ...

    async def leave_place(self, trunk: str, call: CallId) -> None:
        """Give it back. One that is never given back is found out once its call is over."""
        ...

    async def secret(self, name: str, proposal: str) -> str:
        """The secret of this name: `proposal` if it is the first, else what was stored."""
        ...

    async def facts(self) -> dict[str, str]:
        """What `doctor` looks at: software, version, durability settings."""
        ...
