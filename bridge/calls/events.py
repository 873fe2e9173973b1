"""What has happened to a call, in the past tense. One vocabulary for three exits: webhook, event stream, timeline.

Each event names what it adds to the Call it tells of; `contract` renders both as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class CallIncoming:
    """An INVITE wants a decision. Always the first event of an inbound call."""

    type: ClassVar[str] = "call.incoming"
    method: str  # "INVITE"
    uri: str  # the Request-URI as received
    headers: Mapping[str, tuple[str, ...]]  # selected headers, canonical names
    codecs: tuple[str, ...]  # offered, in the offer's order: "PCMU/8000"; empty with a delayed offer


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """Our 2xx was acknowledged: media flows, the call counts as answered from here."""

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
    | CallAnswered
    | CallHeld
    | CallResumed
    | CallUpdated
    | CallEnded
    | ActionCompleted
    | ActionFailed
    | ActionCanceled
)

DECISIONS: frozenset[str] = frozenset({CallIncoming.type})  # types whose webhook waits for `{"actions": [...]}`
