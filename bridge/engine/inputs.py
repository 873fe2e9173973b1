"""Everything that can reach a node. Adapters make these; nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bridge.calls.actions import Action
from bridge.calls.facts import CallId, Quality
from bridge.engine.commit import StoredConversation
from bridge.outbox.schedule import Outcome
from bridge.sip.flow import Flow


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes from a SIP transport: one datagram, or one framed message."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowLost:
    """A connection is closed or reset, or could not be made: what was sent last by this flow may not have arrived.

    Said once for each connection that ends and for each attempt that fails, however much was waiting for it.
    """

    flow: Flow


@dataclass(frozen=True, slots=True)
class StreamBroken:
    """What came by a connection cannot be cut into messages any more: it is closed, once it has been answered (§18.3)."""

    data: bytes  # the message that it broke at, its header fields at most
    flow: Flow
    reason: str  # the answer's reason phrase
    status: int


@dataclass(frozen=True, slots=True)
class Committed:
    """The store has acknowledged this commit."""

    ticket: int


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The store has not applied this commit.

    `lost`: somebody else owns the conversation at a higher epoch; let go silently. `stale`: the store is older than we
    are; write the whole record again at a higher epoch. `exists`: another node has created this call already.
    """

    ticket: int
    why: Literal["lost", "stale", "exists"]


@dataclass(frozen=True, slots=True)
class StoreAway:
    """The store does not answer. Commits stay queued and are tried again in order."""


@dataclass(frozen=True, slots=True)
class StoreBack:
    """The store answers again."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Conversations of a dead predecessor are ours now."""

    conversations: tuple[StoredConversation, ...]


@dataclass(frozen=True, slots=True)
class PortsOpened:
    """A media worker holds an RTP and an RTCP port for this session."""

    session: str
    address: str  # what SDP shall advertise
    port: int  # the RTP port; RTCP is the next


@dataclass(frozen=True, slots=True)
class NoPortLeft:
    """No worker can open ports for this session now."""

    session: str


@dataclass(frozen=True, slots=True)
class PortsClosed:
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
class InvalidReply:
    """A decision's reply is not of the documented shape."""

    detail: str  # a sentence for a person, with what was received
    field: str | None = None  # "actions.0.code"


@dataclass(frozen=True, slots=True)
class Delivered:
    """One webhook attempt is over. `reply` is set for decisions that were answered with a 2xx."""

    delivery: int
    outcome: Outcome
    reply: Sequence[Action] | InvalidReply | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A REST request wants actions run on a call. Answered by exactly one `CommandAccepted` or `CommandRefused`."""

    request: int  # the asker's number, echoed in the answer
    call: CallId
    actions: tuple[Action, ...]
    listed: bool  # True: a list that replaces the running one; False: one action, refused if wrong for the state


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
    | FlowLost
    | StreamBroken
    | Committed
    | CommitRefused
    | StoreAway
    | StoreBack
    | Claimed
    | PortsOpened
    | NoPortLeft
    | PortsClosed
    | MediaTimedOut
    | MediaLost
    | Delivered
    | Command
    | Drain
    | HangUpAll
    | Woken
)
