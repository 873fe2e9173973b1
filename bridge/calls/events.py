"""What has happened to a call, in the past tense. One vocabulary for three exits: webhook, event stream, timeline.

Each event names what it adds to the Call it tells of; `contract` renders both as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from bridge.calls.facts import Contact


@dataclass(frozen=True, slots=True)
class CallIncoming:
    """An INVITE wants a decision. Always the first event of an inbound call."""

    type: ClassVar[str] = "call.incoming"
    method: str  # "INVITE"
    uri: str  # the Request-URI as received
    headers: Mapping[str, tuple[str, ...]]  # selected headers, canonical names
    codecs: tuple[str, ...]  # offered, in the offer's order: "PCMU/8000"; empty with a delayed offer
    replaces_call_id: str | None = None  # the call whose place it takes once it is answered (RFC 3891)


@dataclass(frozen=True, slots=True)
class CallInitiated:
    """A party is being sought. Always the first event of an outbound call, stored before its first INVITE leaves."""

    type: ClassVar[str] = "call.initiated"
    targets: tuple[str, ...]  # the URIs asked for, in their order


@dataclass(frozen=True, slots=True)
class CallRinging:
    """The first of the attempts rings: 180, or another provisional response that says as much."""

    type: ClassVar[str] = "call.ringing"
    target: str


@dataclass(frozen=True, slots=True)
class CallEarlyMedia:
    """The far end sends media before its answer."""

    type: ClassVar[str] = "call.early_media"
    target: str


@dataclass(frozen=True, slots=True)
class CallAttemptFailed:
    """One target could not be had. Those given up because another one answered are not told of."""

    type: ClassVar[str] = "call.attempt_failed"
    target: str
    code: int  # the final response's; 408 where none came, 503 where the target cannot be reached (§8.1.3.1)
    reason: str  # its reason phrase
    contacts: tuple[Contact, ...] = ()  # that a 3xx has named


@dataclass(frozen=True, slots=True)
class CallJoined:
    """It hears another call from here on, and is heard."""

    type: ClassVar[str] = "call.joined"
    peer: str  # the other call's id


@dataclass(frozen=True, slots=True)
class CallLeft:
    """It does not hear the other call any more."""

    type: ClassVar[str] = "call.left"
    peer: str


@dataclass(frozen=True, slots=True)
class CallDtmf:
    """The far end has pressed a key."""

    type: ClassVar[str] = "call.dtmf"
    digit: str  # 0-9, *, #, A-D
    duration_ms: int
    method: Literal["rfc4733", "info"]  # an event in the audio stream, or a SIP INFO


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The 2xx was acknowledged: media flows, the call counts as answered from here."""

    type: ClassVar[str] = "call.answered"
    ring_s: float  # seconds from the INVITE to the ACK


@dataclass(frozen=True, slots=True)
class CallHeld:
    """The far end put us on hold (its offer turned our direction away from receiving)."""

    type: ClassVar[str] = "call.held"


@dataclass(frozen=True, slots=True)
class CallResumed:
    """The far end took us off hold."""

    type: ClassVar[str] = "call.resumed"


@dataclass(frozen=True, slots=True)
class CallUpdated:
    """The far end changed its media address or codecs without a hold or a resume."""

    type: ClassVar[str] = "call.updated"


@dataclass(frozen=True, slots=True)
class CallProxied:
    """The final response has passed us on its way to the caller, and we are out of it. `call.ended` follows."""

    type: ClassVar[str] = "call.proxied"
    code: int  # of that response
    reason: str  # its phrase
    target: str | None  # whose it is; None: ours, for nobody has said anything


@dataclass(frozen=True, slots=True)
class CallRedirected:
    """We have sent the caller elsewhere by a 3xx, and are out of it. `call.ended` follows."""

    type: ClassVar[str] = "call.redirected"
    code: int  # 300, 301, 302, 305 or 380
    contacts: tuple[Contact, ...]  # as the caller was told, in that order


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """The far end asks that whom it is joined with be connected with somebody else: its application decides."""

    type: ClassVar[str] = "transfer.requested"
    to: str  # the URI of Refer-To, without its headers
    referred_by: str | None  # the URI of Referred-By
    replaces_call_id: str | None  # attended: the call whose place the new one is to take, where it is ours
    peer: str  # the call that is to be connected


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """The far end has taken our REFER (202), or tells how far it has come with its target; or we have come so far with the
    one that it has named."""

    type: ClassVar[str] = "transfer.progress"
    to: str  # the URI of Refer-To
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferCompleted:
    """The far end talks to its target, or whom it has referred does. `call.ended` follows."""

    type: ClassVar[str] = "transfer.completed"
    to: str
    code: int  # the target's 2xx
    reason: str


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The far end would not, or could not, or its own wish came to nothing; the call goes on."""

    type: ClassVar[str] = "transfer.failed"
    to: str
    code: int  # the final response's, or the target's; 408 where none came
    reason: str


@dataclass(frozen=True, slots=True)
class CallRecovered:
    """Another node carries it on, and its far end knows."""

    type: ClassVar[str] = "call.recovered"
    former: str  # node id
    present: str
    gap_s: float  # from the former node's last sign of life to the far end's word


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last event of every call."""

    type: ClassVar[str] = "call.ended"
    duration_s: float  # from the INVITE to the end
    answered_s: float  # from the ACK to the end; 0.0 when never answered


@dataclass(frozen=True, slots=True)
class ActionCompleted:
    """An action that no other event tells of is done."""

    type: ClassVar[str] = "action.completed"
    action: str
    action_id: str


@dataclass(frozen=True, slots=True)
class ActionFailed:
    """An action could not be carried out, or the application's reply was not usable (then `action` is None)."""

    type: ClassVar[str] = "action.failed"
    action: str | None
    action_id: str | None
    code: str  # of the documented list: "wrong_state", "not_acceptable", "invalid_reply", "no_reply", ...
    detail: str  # a sentence for a person: what was wrong, and what was received
    field: str | None = None  # where in the reply: "actions.0.code"


@dataclass(frozen=True, slots=True)
class ActionCanceled:
    """An action was replaced by a newer list, or the call ended before its turn came."""

    type: ClassVar[str] = "action.canceled"
    action: str
    action_id: str


Event: TypeAlias = (
    CallIncoming
    | CallInitiated
    | CallRinging
    | CallEarlyMedia
    | CallAttemptFailed
    | CallAnswered
    | CallJoined
    | CallLeft
    | CallDtmf
    | CallHeld
    | CallResumed
    | CallUpdated
    | CallRedirected
    | CallProxied
    | TransferRequested
    | TransferProgress
    | TransferCompleted
    | TransferFailed
    | CallRecovered
    | CallEnded
    | ActionCompleted
    | ActionFailed
    | ActionCanceled
)

DECISIONS: frozenset[str] = frozenset({CallIncoming.type})  # types whose webhook waits for `{"actions": [...]}`
REFERRING = TransferRequested.type  # the same, for what the far end has asked for meanwhile
