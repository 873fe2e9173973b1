"""What the engine writes to the store, as plain values.

A `Commit` is one fenced, idempotent write of one conversation: it applies only if the store's version is the one before
and nobody owns the conversation at a higher `(epoch, nonce)`; the same write twice is applied once. The store adapters
turn it into one script; none of them looks inside the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bridge.calls.facts import CallId, ConversationId

UNNAMED = CallId("")


class CallWrite(NamedTuple):
    """One call of the conversation. `fixed` is written once, `variable` whenever it changed."""

    call: CallId
    created_ms: int  # UTC; the call's place in the list of all calls
    fixed: bytes | None = None  # JSON; None: already stored
    variable: bytes | None = None  # JSON, about 600 bytes; None: unchanged


class EventWrite(NamedTuple):
    """One event, rendered once. Its stream is the call."""

    call: CallId
    sequence: int  # from 1, without a gap
    body: bytes  # the webhook's body


class Ack(NamedTuple):
    """Everything up to `sequence` of this call is settled (delivered, or dead) at this endpoint."""

    call: str  # or another stream: "aor:…"
    endpoint: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """The head of (call, endpoint) failed and is due again: survives us in the store's `due` index."""

    call: str  # or another stream: "aor:…"
    endpoint: str
    sequence: int
    attempts: int  # made so far
    due_ms: int  # UTC


class Ending(NamedTuple):
    """A call is over: its final record, which is its tombstone too, kept for `retention_s`."""

    call: CallId
    record: bytes  # the Call resource as JSON, `ended` filled


@dataclass(frozen=True, slots=True)
class Claim:
    """An Idempotency-Key, claimed in the same step as what it was sent with: the far end is called once."""

    key: str  # as sent, after the name of the API key it was sent with
    fingerprint: str  # of the request: the same key with another one is refused
    # Filled in by whoever commits: the new call, and the body of the 201, which the same request gets again.
    call: CallId = UNNAMED
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What came of the first request with an Idempotency-Key."""

    fingerprint: str
    call: CallId
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Take:
    """Calls that leave another conversation of ours for the one that a commit writes, in the same step.

    Fenced like a commit of that other conversation, as whose next version it counts. When none of its calls is left, what
    remains of it says where they went.
    """

    conversation: ConversationId  # which they leave
    epoch: int
    nonce: str
    version: int  # of that conversation, after this
    head: bytes  # its own, after this
    calls: tuple[CallId, ...]  # the commit brings their `fixed` and `variable`


class Commit(NamedTuple):
    """One write of one conversation. `version` counts its writes from 1; version 1 creates."""

    ticket: int
    conversation: ConversationId
    epoch: int  # of our ownership, from 1
    nonce: str  # breaks a tie of epochs; drawn at each claim
    version: int  # after this write
    owner: str  # "node_id:incarnation"
    head: bytes  # JSON of the conversation itself
    calls: tuple[CallWrite, ...] = ()
    events: tuple[EventWrite, ...] = ()
    acks: tuple[Ack, ...] = ()
    endings: tuple[Ending, ...] = ()
    whole: bool = False  # the full record, applied whatever version the store has: the answer to Stale
    claim: Claim | None = None
    takes: tuple[Take, ...] = ()  # none with `whole`, which takes its calls from whatever of ours the store has them in


class Release(NamedTuple):
    """Every call of this conversation has ended and every delivery is settled: drop the live record, keep the final ones."""

    conversation: ConversationId
    calls: tuple[CallId, ...]
    owner: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """A conversation of ours becomes another node's, as it was last written. It is that node's to claim then."""

    conversation: ConversationId
    owner: str  # "node_id:incarnation"
    epoch: int
    version: int  # as last written: with another one the store refuses
    heir: str
    nonce: str  # that the heir's claims bear


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One call as a claim brings it back."""

    call: CallId
    fixed: bytes
    variable: bytes
    events: tuple[tuple[int, bytes], ...]  # (sequence, body), ascending
    cursors: tuple[tuple[str, int], ...]  # (endpoint, settled up to)
    postponed: tuple[Postponed, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation as a claim brings it back, already ours at `(epoch, nonce)`."""

    conversation: ConversationId
    epoch: int
    nonce: str
    version: int
    head: bytes
    calls: tuple[StoredCall, ...]
    handed_by: str = ""  # the node id of who has written it over and whose heir has not taken it up; empty: nobody


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A conversation that a claim has left where it is: who asked does not read this version."""

    conversation: ConversationId
    snapshot: int
