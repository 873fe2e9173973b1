"""Everything that can happen to a call. `engine` makes these from packets, replies, commands and deadlines.

They live for one step, many times per call: slotted, not frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bridge.calls.actions import Action, Target
from bridge.calls.call import Link
from bridge.calls.effects import CallTimer
from bridge.calls.facts import ActionId, Move, Quality
from bridge.calls.passage import PassageInput
from bridge.calls.peering import PeerInput
from bridge.calls.referral import Referral, TransferDecision
from bridge.calls.search import Place
from bridge.sdp.offer_answer import Negotiated
from bridge.sip.dialog import Dialog
from bridge.sip.message import Request, Response
from bridge.sip.refer import Notice
from bridge.sip.transaction import TransactionKey


@dataclass(slots=True)
class Decided:
    """The application has replied to `call.incoming`."""

    actions: Sequence[Action]  # empty: it says nothing, the call is parked


@dataclass(slots=True)
class Undecided:
    """The application has not replied in time, or not in a usable way: its fallback plan decides."""

    code: str  # "no_reply" or "invalid_reply"
    detail: str
    field: str | None = None


@dataclass(slots=True)
class ReplyUnusable:
    """One reply was not usable; another URL is being asked."""

    detail: str
    field: str | None = None


@dataclass(slots=True)
class Commanded:
    """REST wants this. Answered by `ActionsAccepted` or `ActionsRefused`."""

    actions: Sequence[Action]
    listed: bool  # a list that replaces the running one; else one action, refused where the state is wrong


@dataclass(slots=True)
class AcceptSent:
    """A gated 2xx has left: from here a CANCEL comes too late, and a BYE of ours has to wait for the ACK."""


@dataclass(slots=True)
class Acknowledged:
    """The ACK of a 2xx of ours."""

    sequence: int  # the CSeq number of the INVITE or re-INVITE
    ack: Request


@dataclass(slots=True)
class Unacknowledged:
    """No ACK came for 64·T1."""


@dataclass(slots=True)
class ByeReceived:
    """The far end has hung up; its 200 has left."""

    q850: int | None  # from its Reason header (RFC 3326)


@dataclass(slots=True)
class CancelReceived:
    """The caller has given up; the CANCEL's own 200 has left."""

    q850: int | None
    elsewhere: bool = False  # because somebody else has answered (RFC 3326)


@dataclass(slots=True)
class ReInvited:
    """The far end wants to change the session; CSeq and pending 2xx have been checked."""

    key: TransactionKey
    request: Request


@dataclass(slots=True)
class Pracked:
    """The caller has acknowledged a provisional response (RFC 3262), or says so."""

    key: TransactionKey
    request: Request


@dataclass(slots=True)
class Unpracked:
    """It has not, in 64·T1."""


@dataclass(slots=True)
class Updated:
    """The far end refreshes its target, its session timer, or the session by an UPDATE (RFC 3311); CSeq, and what of either
    side is pending, have been checked."""

    key: TransactionKey
    request: Request


@dataclass(slots=True)
class UpdateAnswered:
    """The 2xx to our UPDATE."""

    response: Response


@dataclass(slots=True)
class UpdateRefused:
    """A final response from 300 on to our UPDATE, or none at all: 408."""

    response: Response | None


@dataclass(slots=True)
class MediaOpened:
    """A worker holds ports for this call."""

    address: str
    port: int
    video: bool = False  # for its picture


@dataclass(slots=True)
class MediaRefused:
    """No port is left."""

    video: bool = False  # for its picture: then it goes on without one


@dataclass(slots=True)
class MediaClosed:
    """The ports are given back."""

    quality: Quality | None


@dataclass(slots=True)
class MediaSilent:
    """Nothing has been heard for `media.timeout_s`."""


@dataclass(slots=True)
class MediaGone:
    """The worker died, and its ports could not be had again."""


@dataclass(slots=True)
class CarriedOn:
    """Another node than before carries the call from here on: its ports, and its Contact, are others."""

    move: Move


@dataclass(slots=True)
class StoreTooLate:
    """A new call's answer has waited for the store for 2 s: the caller shall try elsewhere."""


@dataclass(slots=True)
class EventsExhausted:
    """The call has had as many events as one call may have; nobody needs that many."""


@dataclass(slots=True)
class Drained:
    """The service stops, and nobody is there to carry the call on."""


@dataclass(slots=True)
class Located:
    """Where an attempt's target is: at least one place; several are the contacts of one address of record."""

    attempt: int
    places: Sequence[Place]
    target: Target | None = None  # with what its trunk has to say; None: it goes by none


@dataclass(slots=True)
class Progressed:
    """A provisional response to an attempt's INVITE."""

    attempt: int
    response: Response


@dataclass(slots=True)
class InviteAnswered:
    """The 2xx to an attempt's INVITE that has the party: the first of all."""

    attempt: int
    response: Response
    dialog: Dialog


@dataclass(slots=True)
class InviteRefused:
    """A final response from 300 on."""

    attempt: int
    response: Response
    proof: (
        tuple[tuple[str, str], ...] | None
    )  # header lines that answer its challenge; None: none, or not to be answered


@dataclass(slots=True)
class InviteFailed:
    """An attempt has come to nothing without a final response."""

    attempt: int
    code: int  # the one it stands for (§8.1.3.1)
    reason: str
    why: str  # one of END_REASONS


@dataclass(slots=True)
class InviteLost:
    """The process that sent an attempt's INVITE has died, and it is too late to send it again."""

    attempt: int


@dataclass(slots=True)
class InviteDeclined:
    """A 2xx to an attempt's INVITE that nobody wants any more, or one too many: it gets its ACK and a BYE."""

    attempt: int


@dataclass(slots=True)
class AckSent:
    """Our ACK of a 2xx has left."""


@dataclass(slots=True)
class ReinviteAnswered:
    """The 2xx to our re-INVITE."""

    response: Response


@dataclass(slots=True)
class ReinviteRefused:
    """A final response from 300 on to our re-INVITE, or none at all: 408."""

    code: int
    reason: str
    chance: float  # from 0 to 1


@dataclass(slots=True)
class Linked:
    """Another call is to be heard from now on."""

    link: Link
    agreed: Negotiated | None  # what that one speaks, where it is answered


@dataclass(slots=True)
class JoinRefused:
    """The other call cannot be brought here."""

    action_id: ActionId
    code: str
    detail: str


@dataclass(slots=True)
class DialRefused:
    """Nobody is sought: there are as many calls as there may be."""

    action_id: ActionId
    detail: str


@dataclass(slots=True)
class Joined:
    """Both calls of a link are ready: they hear each other."""

    agreed: Negotiated  # what the other one speaks


@dataclass(slots=True)
class CodecWanted:
    """The other call of a link speaks only this."""

    agreed: Negotiated


@dataclass(slots=True)
class JoinImpossible:
    """The two calls of a link have no codec in common."""

    detail: str


@dataclass(slots=True)
class KeyPressed:
    """The far end has pressed a key."""

    digit: str
    duration_ms: int
    method: Literal["rfc4733", "info"]


@dataclass(slots=True)
class DialogFound:
    """The call that an attended transfer replaces is here."""

    action_id: ActionId
    target: str  # the URI of its far end
    replaces: str  # its dialog, as its far end is told of it


@dataclass(slots=True)
class DialogMissing:
    """The call that an attended transfer replaces cannot be had."""

    action_id: ActionId
    code: str
    detail: str


@dataclass(slots=True)
class ReferSent:
    """Our REFER has left."""

    sequence: int  # its CSeq number


@dataclass(slots=True)
class ReferAnswered:
    """A 2xx to our REFER."""

    code: int
    reason: str


@dataclass(slots=True)
class ReferRefused:
    """A final response from 300 on to our REFER, or none at all: 408."""

    code: int
    reason: str


@dataclass(slots=True)
class Notified:
    """A NOTIFY about a REFER of ours; CSeq has been checked."""

    key: TransactionKey
    request: Request
    notice: Notice


@dataclass(slots=True)
class Parted:
    """That the far end has been transferred is stored: our leg may be ended."""


@dataclass(slots=True)
class Referred:
    """A REFER of the far end's that the application shall decide about; CSeq, and what the REFER says, have been checked."""

    referral: Referral


@dataclass(slots=True)
class ReferRepeated:
    """The same REFER once more, to whoever carries the call on: its answer may have been lost."""

    key: TransactionKey
    request: Request


@dataclass(slots=True)
class ReferralDecided:
    """The application has said what becomes of the far end's REFER."""

    decision: TransferDecision


@dataclass(slots=True)
class ReferralUndecided:
    """It has not, in time or in a usable way."""

    code: str  # "no_reply" or "invalid_reply"
    detail: str
    field: str | None = None


@dataclass(slots=True)
class ReplacedHere:
    """The call that the far end's REFER replaces is on this node, if anywhere."""

    action_id: ActionId


@dataclass(slots=True)
class ReplacedMissing:
    """It cannot be had."""

    action_id: ActionId


@dataclass(slots=True)
class NotifyAnswered:
    """A final response to our NOTIFY, or none at all: 408."""

    status: int


@dataclass(slots=True)
class NotifyLost:
    """Whoever carried the call before us may have sent a NOTIFY, and nobody knows whether it has been heard."""


@dataclass(slots=True)
class Elapsed:
    """A deadline of this call has come."""

    timer: CallTimer


CallInput: TypeAlias = (
    Decided
    | Undecided
    | ReplyUnusable
    | Commanded
    | AcceptSent
    | Acknowledged
    | Unacknowledged
    | ByeReceived
    | CancelReceived
    | ReInvited
    | Updated
    | Pracked
    | Unpracked
    | UpdateAnswered
    | UpdateRefused
    | MediaOpened
    | MediaRefused
    | MediaClosed
    | MediaSilent
    | MediaGone
    | CarriedOn
    | StoreTooLate
    | EventsExhausted
    | Drained
    | Located
    | Progressed
    | InviteAnswered
    | InviteRefused
    | InviteFailed
    | InviteLost
    | InviteDeclined
    | AckSent
    | ReinviteAnswered
    | ReinviteRefused
    | Linked
    | JoinRefused
    | DialRefused
    | Joined
    | CodecWanted
    | JoinImpossible
    | KeyPressed
    | DialogFound
    | DialogMissing
    | ReferSent
    | ReferAnswered
    | ReferRefused
    | Notified
    | Parted
    | Referred
    | ReferRepeated
    | ReferralDecided
    | ReferralUndecided
    | ReplacedHere
    | ReplacedMissing
    | NotifyAnswered
    | NotifyLost
    | PeerInput
    | PassageInput
    | Elapsed
)
