"""What a step of a call asks of its node. Small, plain, and without I/O; `engine` turns them into its own effects.

Most of them live for one step, many times per call: slotted, not frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from bridge.calls.actions import Dial
from bridge.calls.events import Event
from bridge.calls.facts import ActionId, CallId
from bridge.calls.passage import PassageEffect
from bridge.calls.peering import PeerInput
from bridge.sip.message import Response
from bridge.sip.transaction import TransactionKey


class CallTimer(StrEnum):
    """The deadlines of one call. Arming one replaces it. Text, because text is hashed without running any Python."""

    PARK = "park"  # a parked call waits for its application no longer
    PARK_RING = "park_ring"  # 180 again, so that no proxy on the way gives up (§13.3.1.1)
    PAUSE = "pause"  # the list goes on
    RING_LIMIT = "ring_limit"  # nobody answers
    DURATION_LIMIT = "duration_limit"  # the longest a call may last
    SESSION = "session"  # the session is to be refreshed, or has expired (RFC 4028)
    PROXY = "proxy"  # of a call that is passed on: Timer C of a copy, or those who are tried have rung for long enough
    SEARCH = "search"  # an attempt has rung for long enough
    TRANSFER = "transfer"  # nothing has been heard of a transfer for long enough
    GLARE = "glare"  # our re-INVITE may be tried again (§14.1)
    MEDIA_CLOSE = "media_close"  # the worker owes us its figures


@dataclass(slots=True)
class Respond:
    """A response to a request of this call. `gated`: it leaves when the write that this step makes is acknowledged."""

    key: TransactionKey
    response: Response
    gated: bool


@dataclass(slots=True)
class Accept:
    """A 2xx to an INVITE or re-INVITE: gated, then repeated until its ACK comes (§13.3.1.4)."""

    key: TransactionKey | None  # None: its transaction died with another process; it is sent all the same
    response: Response


@dataclass(slots=True)
class SendRequest:
    """A request of ours within the dialog, at once: a client transaction begins."""

    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(slots=True)
class Emit:
    """Something has happened that the application shall know."""

    event: Event
    caused_by: ActionId | None = None


@dataclass(slots=True)
class OpenMedia:
    """Ports for this call; `MediaOpened` or `MediaRefused` comes back, for each stream."""

    video: bool = False  # ports for a picture too


@dataclass(slots=True)
class SetMedia:
    """The stream has been negotiated, or changed, or somebody else hears it: the worker wants a new rule."""


@dataclass(slots=True)
class CloseMedia:
    """Give the ports back; `MediaClosed` comes back with the figures."""


@dataclass(slots=True)
class ArmTimer:
    """Wake this call `delay` seconds from now."""

    timer: CallTimer
    delay: float


@dataclass(slots=True)
class DisarmTimer:
    """Do not."""

    timer: CallTimer


@dataclass(slots=True)
class DisarmAll:
    """Nothing wakes this call any more."""


@dataclass(slots=True)
class Locate:
    """Look up where this attempt's target is: `Located`, or `InviteFailed`, comes back."""

    attempt: int


@dataclass(slots=True)
class LeaveTrunk:
    """The call goes by this trunk no more: its place is another call's."""

    trunk: str


@dataclass(slots=True)
class SendInvite:
    """This attempt's INVITE, gated: it leaves when the write that this step makes is acknowledged."""

    attempt: int
    sequence: int  # its CSeq number


@dataclass(slots=True)
class CancelInvite:
    """CANCEL this attempt's INVITE, at once or as soon as a provisional response has come (§9.1)."""

    attempt: int
    sequence: int
    reason: str | None  # the value of a Reason header (RFC 3326)


@dataclass(slots=True)
class SendReinvite:
    """The re-INVITE that the call keeps as `reoffer`, gated."""


@dataclass(slots=True)
class SendUpdate:
    """An UPDATE without a description, at once: it refreshes the session (RFC 4028), and changes nothing (RFC 3311)."""


@dataclass(slots=True)
class Keep:
    """This step has changed what whoever carries the call on must know."""


@dataclass(slots=True)
class Acknowledge:
    """The ACK of a 2xx to an INVITE of ours, gated; `AckSent` comes back."""

    sequence: int


@dataclass(slots=True)
class Seek:
    """Make a call of the party that is dialed, in this conversation, and link the two; or `DialRefused` comes back."""

    action_id: ActionId
    dial: Dial


@dataclass(slots=True)
class JoinWith:
    """Bring that call into this conversation, and link the two; or `JoinRefused` comes back."""

    other: CallId
    action_id: ActionId
    end_with_peer: bool


@dataclass(slots=True)
class FindDialog:
    """Say how the far end of that call names its dialog: `DialogFound` or `DialogMissing` comes back."""

    call: CallId
    action_id: ActionId  # of the transfer


@dataclass(slots=True)
class SendRefer:
    """The REFER that the call keeps as `transfer`, gated; `ReferSent` comes back."""


@dataclass(slots=True)
class Part:
    """The far end has been transferred, gated: `Parted` comes back once that is stored, and its NOTIFY answered."""


@dataclass(slots=True)
class SendNotify:
    """Tell the far end what has come of its REFER, gated; `NotifyAnswered` comes back."""

    code: int
    reason: str
    over: bool  # nothing more will be told
    expires_s: int  # how long more may come


@dataclass(slots=True)
class FindReplaced:
    """Bring the call here that a REFER of the far end's replaces; `ReplacedHere` or `ReplacedMissing` comes back."""

    call: CallId
    action_id: ActionId


@dataclass(slots=True)
class TakePlace:
    """Connect this call with the partner of that one, which is to end; or `JoinRefused` comes back."""

    replaced: CallId
    dialog: str  # a Replaces header's value
    referrer: CallId  # whose word it is
    action_id: ActionId
    end_with_peer: bool


@dataclass(slots=True)
class ReplaceDialog:
    """This call takes the place of the one with this dialog, which ends (RFC 3891 §3)."""

    dialog: str  # a Replaces header's value
    action_id: ActionId


@dataclass(slots=True)
class MoveOut:
    """Give this call a conversation of its own."""


@dataclass(slots=True)
class Tell:
    """Something the other call of a link has to know. It is heard after this step."""

    call: CallId
    given: PeerInput


@dataclass(slots=True)
class Meet:
    """This call may be ready to be joined with the one it is linked with."""


@dataclass(slots=True)
class Finished:
    """The call has ended and owes nobody anything: its record may become final."""


@dataclass(slots=True)
class ActionsAccepted:
    """A command will be carried out; its outcome is told by events that carry these names."""

    action_ids: tuple[ActionId, ...]


@dataclass(slots=True)
class ActionsRefused:
    """A command is wrong for the call's state; nothing has changed."""

    code: Literal["wrong_state", "ended"]
    detail: str


CallEffect: TypeAlias = (
    Respond
    | Accept
    | SendRequest
    | Emit
    | OpenMedia
    | SetMedia
    | CloseMedia
    | Locate
    | LeaveTrunk
    | SendInvite
    | CancelInvite
    | SendReinvite
    | SendUpdate
    | Keep
    | Acknowledge
    | Seek
    | JoinWith
    | FindDialog
    | SendRefer
    | Part
    | SendNotify
    | FindReplaced
    | TakePlace
    | ReplaceDialog
    | MoveOut
    | Tell
    | Meet
    | ArmTimer
    | DisarmTimer
    | DisarmAll
    | Finished
    | ActionsAccepted
    | ActionsRefused
    | PassageEffect
)
