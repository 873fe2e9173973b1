"""Everything a node can ask of the world. Adapters carry these out; the engine only says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from bridge.calls.facts import ActionId, CallId, ConversationId
from bridge.engine.commit import Ack, Commit, Postponed, Release, Remembered
from bridge.engine.registrations import Deregistered, ForgetEvents, ReadBindings, WriteRegistration
from bridge.outbox.effects import Delivery
from bridge.rtp.rules import Rule
from bridge.sip.flow import Flow, Send
from bridge.sip.locating import Wanted


class Deliver(NamedTuple):
    """POST this now; `Delivered` comes back, whatever happens."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Deliveries settled. No answer comes back; losing one costs one duplicate."""

    acks: tuple[Ack, ...]


@dataclass(frozen=True, slots=True)
class Postpone:
    """A delivery failed and waits: remember it in the store."""

    postponed: Postponed


class OpenPorts(NamedTuple):
    """An RTP and an RTCP port for this session; `PortsOpened` or `NoPortLeft` comes back. Asking twice opens once."""

    session: str
    call: CallId
    beside: str | None = None  # an open session that it will be joined with: one worker for both, where there is room


class SetRule(NamedTuple):
    """What the worker shall do with the packets of this session from now on."""

    session: str
    rule: Rule


class ClosePorts(NamedTuple):
    """Give the ports back; `PortsClosed` comes back."""

    session: str


@dataclass(frozen=True, slots=True)
class HeldPorts:
    """What a session of a predecessor had."""

    port: int  # of RTP, as the far end knows it from our SDP
    rule: Rule | None  # None: nothing has been agreed on yet


@dataclass(frozen=True, slots=True)
class AdoptPorts:
    """All sessions that are ours after a claim. The media workers keep these and close every other.

    One that no worker has any more is opened again on its port; where that cannot be, it comes back as `MediaLost`.
    """

    sessions: Mapping[str, HeldPorts]


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look up where a name leads (RFC 3263 §4); `Resolved` comes back, whatever happens."""

    reader: int
    wanted: Wanted
    spoken: frozenset[tuple[str, int]]  # the transports of our listeners, each with its version of IP


@dataclass(frozen=True, slots=True)
class CommandAccepted:
    """The answer to a `Command`: it will be done, and events tell its outcome."""

    request: int
    action_ids: tuple[ActionId, ...]


@dataclass(frozen=True, slots=True)
class Yielded:
    """The answer to a `Yield`: the conversation is forgotten here, and is as the store has it."""

    request: int
    conversation: ConversationId
    epoch: int
    nonce: str
    version: int
    calls: tuple[CallId, ...]
    snapshot: int  # the version that whoever carries it on must read


@dataclass(frozen=True, slots=True)
class YieldRefused:
    """The answer to a `Yield`: nothing has changed."""

    request: int
    # It is not here; something about it is under way, which passes; one of its calls is not answered yet.
    why: Literal["gone", "busy", "ringing"]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A call that is not here shall be joined with one of ours: have its conversation handed over to us. `Fetched` or
    `NotFetched` comes back, whatever happens; neither, where our own call goes to the other one's node instead."""

    call: CallId  # ours, whose list waits for that
    action_id: ActionId  # of the join
    other: CallId


class PassOn(NamedTuple):
    """A SIP message for a call that is not here. It goes to the node that has it, or comes back as `Returned`."""

    call: CallId  # UNNAMED: a new call, for any node that takes one
    hint: str  # at the node that its tag was made by; empty: it does not say
    data: bytes  # as it came
    flow: Flow  # by which it came


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The answer to a `Command`: nothing has changed."""

    request: int
    code: Literal["not_found", "wrong_state", "ended", "store_away"]
    detail: str


@dataclass(frozen=True, slots=True)
class Originated:
    """The answer to an `Originate`: call and first event are in the store; events tell what comes of it."""

    request: int
    call: CallId
    body: bytes  # the Call as it was stored, as JSON: the same bytes that its claim remembers


@dataclass(frozen=True, slots=True)
class OriginateRefused:
    """The answer to an `Originate`: nobody is called."""

    request: int
    # `not_found`: no such conversation, or not any more; `merged`: a join has taken its calls over.
    code: Literal["no_such_application", "overload", "draining", "store_away", "not_found", "merged", "key_reused"]
    detail: str
    remembered: Remembered | None = None  # of `key_reused`; whether it was the same request, its fingerprint tells


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something was ignored, on purpose."""

    reason: str  # a closed list of snake_case words: the label of `bridge_dropped_total`
    flow: Flow | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TakePlace:
    """A call begins to go by a trunk that has caps: is there a place for it? `PlaceTaken` comes back."""

    reader: int  # the asker's number, echoed in the answer
    call: CallId
    trunk: str
    max_calls: int  # at once; 0: any number
    calls_per_second: int  # begun; 0: any number


@dataclass(frozen=True, slots=True)
class LeavePlace:
    """The call goes by this trunk no more. No answer comes back; losing one costs a look once the trunk is full."""

    trunk: str
    call: CallId


class Noted(NamedTuple):
    """A fact for the log and the metrics. The engine has no logger."""

    level: Literal["debug", "info", "warning", "error"]
    event: str  # "call_created", "decision_failed", ...
    call: CallId | None = None
    facts: Sequence[tuple[str, object]] = ()


Effect: TypeAlias = (
    Send
    | PassOn
    | Commit
    | Release
    | Deliver
    | Acknowledge
    | Postpone
    | OpenPorts
    | SetRule
    | ClosePorts
    | AdoptPorts
    | Resolve
    | TakePlace
    | LeavePlace
    | CommandAccepted
    | CommandRefused
    | Originated
    | OriginateRefused
    | Yielded
    | YieldRefused
    | Fetch
    | ReadBindings
    | WriteRegistration
    | ForgetEvents
    | Deregistered
    | Dropped
    | Noted
)
