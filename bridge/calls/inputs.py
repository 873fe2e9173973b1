"""Everything that can happen to a call. `engine` makes these from packets, replies, commands and deadlines.

They live for one step, many times per call: slotted, not frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bridge.calls.actions import Action
from bridge.calls.effects import CallTimer
from bridge.calls.facts import Quality
from bridge.sip.message import Request
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


@dataclass(slots=True)
class ReInvited:
    """The far end wants to change the session; CSeq and pending 2xx have been checked."""

    key: TransactionKey
    request: Request


@dataclass(slots=True)
class MediaOpened:
    """A worker holds ports for this call."""

    address: str
    port: int


@dataclass(slots=True)
class MediaRefused:
    """No port is left."""


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
class StoreTooLate:
    """A new call's answer has waited for the store for 2 s: the caller shall try elsewhere."""


@dataclass(slots=True)
class EventsExhausted:
    """The call has had as many events as one call may have; nobody needs that many."""


@dataclass(slots=True)
class Drained:
    """The service stops, and nobody is there to carry the call on."""


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
    | MediaOpened
    | MediaRefused
    | MediaClosed
    | MediaSilent
    | MediaGone
    | StoreTooLate
    | EventsExhausted
    | Drained
    | Elapsed
)
