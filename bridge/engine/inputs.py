"""Everything that can reach a node. Adapters make these; nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from bridge.calls.actions import Action, Fork, OnRedirect, Target
from bridge.calls.facts import ActionId, CallId, ConversationId, Quality
from bridge.calls.referral import TransferDecision
from bridge.engine.commit import Claim, Remembered, StoredConversation
from bridge.engine.registrations import (
    BindingsRead,
    Deregister,
    RegistrationDecision,
    RegistrationRefused,
    RegistrationsDue,
    RegistrationWritten,
    StreamsClaimed,
    UsersChanged,
)
from bridge.engine.trunks import TrunksChanged
from bridge.outbox.schedule import Outcome
from bridge.sip.flow import Flow
from bridge.sip.locating import Hop


class Packet(NamedTuple):
    """Bytes from a SIP transport: one datagram, or one framed message."""

    data: bytes
    flow: Flow


class Returned(NamedTuple):
    """A message that was passed on, and whose call nobody has: it is answered here."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowLost:
    """A connection is closed or reset, or could not be made: what was sent last by this flow may not have arrived.

    Said once for each connection that ends and for each attempt that fails, however much was waiting for it.
    """

    flow: Flow
    why: str = ""  # where more is known than that, as a reason phrase: "Certificate Not Valid For example.com"


@dataclass(frozen=True, slots=True)
class StreamBroken:
    """What came by a connection cannot be cut into messages any more: it is closed, once it has been answered (§18.3)."""

    data: bytes  # the message that it broke at, its header fields at most
    flow: Flow
    reason: str  # the answer's reason phrase
    status: int


class Committed(NamedTuple):
    """The store has acknowledged this commit."""

    ticket: int


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The store has not applied this commit.

    `lost`: somebody else owns the conversation at a higher epoch; let go silently. `stale`: the store is older than we
    are; write the whole record again at a higher epoch. `exists`: another node has created this call already. `claimed`:
    its Idempotency-Key has been claimed by another request; neither that call nor this version exists.
    """

    ticket: int
    why: Literal["lost", "stale", "exists", "claimed"]
    remembered: Remembered | None = None  # what came of that other request; of `claimed` only


@dataclass(frozen=True, slots=True)
class StoreAway:
    """The store does not answer. Commits stay queued and are tried again in order."""


@dataclass(frozen=True, slots=True)
class StoreBack:
    """The store answers again."""


@dataclass(frozen=True, slots=True)
class StoreReplaced:
    """The store has become another one without having been away: what was written last may be gone."""


@dataclass(frozen=True, slots=True)
class Leased:
    """The store has heard that we live. Without the next of these in time we may not act of our own accord."""

    until: float  # seconds UTC
    snapshot: int | None = None  # the newest version of stored calls that everybody who lives reads; None: as before


@dataclass(frozen=True, slots=True)
class Former:
    """A node that carried calls before us, and its media with them."""

    node_id: str
    silent_since: float  # seconds UTC: its last sign of life
    holds: str = ""  # its flows still: "node_id:incarnation", where it lives and has handed the calls over


@dataclass(frozen=True, slots=True)
class Claimed:
    """Conversations of a dead predecessor are ours now, or those of a dead node."""

    conversations: tuple[StoredConversation, ...]
    former: Former | None = None  # None: an earlier incarnation of our own name, whose media workers play on


class PortsOpened(NamedTuple):
    """A media worker holds an RTP and an RTCP port for this session."""

    session: str
    address: str  # what SDP shall advertise
    port: int  # the RTP port; RTCP is the next


@dataclass(frozen=True, slots=True)
class NoPortLeft:
    """No worker can open ports for this session now."""

    session: str


class PortsClosed(NamedTuple):
    """The ports are given back. `quality` is None where the worker died with the figures."""

    session: str
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class MediaTimedOut:
    """An open, expected stream has brought no packet for `media.timeout_s`."""

    session: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """A worker died and took these sessions' ports with it."""

    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DtmfHeard:
    """The far end of this session has pressed a key, and let go of it (RFC 4733)."""

    session: str
    digit: str  # 0-9 * # A-D
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a name leads, in the order in which that is to be tried; nothing where it is unknown."""

    reader: int
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """Whether a trunk had a place for a call."""

    reader: int
    call: CallId
    trunk: str
    taken: bool | None  # None: the store does not answer


@dataclass(frozen=True, slots=True)
class InvalidReply:
    """A decision's reply is not of the documented shape."""

    detail: str  # a sentence for a person, with what was received
    field: str | None = None  # "actions.0.code"


class Delivered(NamedTuple):
    """One webhook attempt is over. `reply` is set for decisions that were answered with a 2xx."""

    delivery: int
    outcome: Outcome
    reply: Sequence[Action | RegistrationDecision | TransferDecision] | InvalidReply | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A REST request wants actions run on a call. Answered by exactly one `CommandAccepted` or `CommandRefused`."""

    request: int  # the asker's number, echoed in the answer
    call: CallId
    actions: tuple[Action, ...]
    listed: bool  # True: a list that replaces the running one; False: one action, refused if wrong for the state


@dataclass(frozen=True, slots=True)
class Originate:
    """A REST request wants a party called. Answered by exactly one `Originated` or `OriginateRefused`.

    `Originated` comes once the call and its first event are in the store, so seldom before `give` returns.
    """

    request: int  # the asker's number, echoed in the answer
    call: CallId  # the new call's, drawn by the asker
    application: str
    to: tuple[Target, ...]  # its attempts, at least one
    from_: str | None  # a URI, or a display name and a URI in angle brackets; None: the application's own
    timeout_s: float  # how long each target may ring
    max_duration_s: float | None  # the longest the answered call may last; None: as long as any
    fork: Fork
    on_redirect: OnRedirect
    client_state: str | None
    tags: tuple[str, ...]
    conversation: ConversationId | None  # to be born into; None: one of its own
    actions: tuple[Action, ...]  # run once it is answered
    claim: Claim | None  # its Idempotency-Key


@dataclass(frozen=True, slots=True)
class Yield:
    """Another node shall carry this conversation on. Answered by exactly one `Yielded` or `YieldRefused`."""

    request: int  # the asker's number, echoed in the answer
    conversation: ConversationId
    # Of a call that shall be joined with one of these. Where both wait for the other, that of the smaller name stays.
    wanted_by: ConversationId | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The other call of a join has been brought here."""

    call: CallId  # whose list waits for it
    action_id: ActionId


@dataclass(frozen=True, slots=True)
class NotFetched:
    """The other call of a join cannot be brought here."""

    call: CallId
    action_id: ActionId
    code: str  # as in `action.failed`
    detail: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new."""


@dataclass(frozen=True, slots=True)
class HangUpAll:
    """End every call that is left: nobody is there to carry it on."""


@dataclass(frozen=True, slots=True)
class Woken:
    """The deadline has come."""


Input: TypeAlias = (
    Packet
    | Returned
    | FlowLost
    | StreamBroken
    | Committed
    | CommitRefused
    | StoreAway
    | StoreBack
    | StoreReplaced
    | Leased
    | Claimed
    | PortsOpened
    | NoPortLeft
    | PortsClosed
    | MediaTimedOut
    | MediaLost
    | DtmfHeard
    | Delivered
    | Command
    | Originate
    | Resolved
    | PlaceTaken
    | TrunksChanged
    | BindingsRead
    | RegistrationWritten
    | RegistrationRefused
    | RegistrationsDue
    | StreamsClaimed
    | UsersChanged
    | Deregister
    | Yield
    | Fetched
    | NotFetched
    | Drain
    | HangUpAll
    | Woken
)
