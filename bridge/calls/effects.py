"""What a step of a call asks of its node. Small, plain, and without I/O; `engine` turns them into its own effects.

Most of them live for one step, many times per call: slotted, not frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from bridge.calls.events import Event
from bridge.calls.facts import ActionId
from bridge.rtp.rules import Rule
from bridge.sip.message import Response
from bridge.sip.transaction import TransactionKey


class CallTimer(StrEnum):
    """The deadlines of one call. Arming one replaces it. Text, because text is hashed without running any Python."""

    PARK = "park"  # a parked call waits for its application no longer
    PARK_RING = "park_ring"  # 180 again, so that no proxy on the way gives up (§13.3.1.1)
    PAUSE = "pause"  # the list goes on
    RING_LIMIT = "ring_limit"  # nobody answers
    DURATION_LIMIT = "duration_limit"  # the longest a call may last
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
    """Ports for this call; `MediaOpened` or `MediaRefused` comes back."""


@dataclass(slots=True)
class SetMedia:
    """The stream has been negotiated, or changed."""

    rule: Rule


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
    | ArmTimer
    | DisarmTimer
    | DisarmAll
    | Finished
    | ActionsAccepted
    | ActionsRefused
)
