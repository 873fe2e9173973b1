"""What two linked calls tell each other. A room of its own, because effects carry these and inputs are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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


PeerInput: TypeAlias = PeerRinging | PeerMedia | PeerAnswered | PeerFailed | PeerGone
