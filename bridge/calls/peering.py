"""What two linked calls tell each other. A room of its own, because effects carry these and inputs are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.calls.facts import ActionId, CallId
from bridge.sdp.offer_answer import Negotiated


@dataclass(slots=True)
class PeerRinging:
    """The party that was dialed rings."""


@dataclass(slots=True)
class PeerMedia:
    """What it speaks: media before its answer, or anew while both hear each other."""

    agreed: Negotiated


@dataclass(slots=True)
class PeerAnswered:
    """It has answered."""

    agreed: Negotiated


@dataclass(slots=True)
class PeerFailed:
    """It was not found, or did not want to: its call has ended without an answer."""

    code: int
    reason: str


@dataclass(slots=True)
class PeerGone:
    """The other call has ended, or only does not hear this one any more."""

    ended: bool


@dataclass(slots=True)
class PartnerReferred:
    """The other call's far end has referred this one to somebody else, and hears it no more (RFC 3515)."""

    referrer: CallId
    action_id: ActionId
    target: str  # a URI; not used where a call of ours is replaced
    timeout_s: float
    headers: dict[str, tuple[str, ...]]  # of the INVITE
    replaces: CallId | None  # the call of ours whose partner it is to be connected with
    dialog: str  # of that one, as its far end has named it


@dataclass(slots=True)
class ReferralNews:
    """What comes of that, from who was referred to who has referred."""

    code: int
    reason: str
    # What the partner speaks, where it would have the referrer back; None: it would not, or there is no need.
    agreed: Negotiated | None = None
    ended: bool = False  # the partner has


@dataclass(slots=True)
class ReferrerGone:
    """The call that has referred this one has ended."""


@dataclass(slots=True)
class ReferrerBack:
    """Nothing has come of it: the two hear each other as before."""

    link: list[Any] | None  # None: they do not, for the referrer hears somebody else by now
    agreed: Negotiated | None


@dataclass(slots=True)
class DialogReplaced:
    """Another call has taken this one's place (RFC 3891)."""


PeerInput: TypeAlias = (
    PeerRinging
    | PeerMedia
    | PeerAnswered
    | PeerFailed
    | PeerGone
    | PartnerReferred
    | ReferralNews
    | ReferrerGone
    | ReferrerBack
    | DialogReplaced
)
