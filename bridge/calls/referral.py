"""A REFER of the far end's: what it asks for, and how far we have come with it; and what its partner knows of that meanwhile.

Two records, each kept by its call: the `Referral` by the call that is referred by, the `Replacement` by the one that is to be
connected with somebody else. Plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bridge.calls.facts import ActionId, CallId
from bridge.sip.message import Request
from bridge.sip.transaction import TransactionKey

# asked: its application decides; finding: the call that it replaces is being brought here; accepted: the target is sought,
# or being joined with; over: its outcome is known, and may still have to be told
Stage = Literal["asked", "finding", "accepted", "over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptTransfer:
    """Connect the partner with whom the far end has named."""

    to: str | None = None  # a URI; None: as it was named
    timeout_s: float = 60.0  # how long it may ring


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectTransfer:
    """Refuse it; the call goes on."""

    code: int = 603
    reason: str | None = None


TransferDecision: TypeAlias = AcceptTransfer | RejectTransfer


@dataclass(slots=True)
class Referral:
    """What the far end has asked for (RFC 3515), and what it has been told."""

    target: str  # a URI
    sequence: int  # the CSeq number of the REFER, which names the subscription
    subscribed: bool  # it wants to be told
    referred_by: str | None = None  # a URI
    replaces: CallId | None = None  # the call of ours that the new one takes the place of
    dialog: str = ""  # a Replaces header's value: of that call, or of a dialog that is none of ours
    stage: Stage = "asked"
    action_id: ActionId | None = None  # what its outcome is told by
    partner: CallId | None = None  # who is to be connected with the target
    link: list[Any] | None = None  # with that one, as it was when it was let go
    code: int = 0  # what it is to be told, as the last thing
    reason: str = ""
    told: int = 0  # what it has been told, and has answered
    expires_at: float = 0.0  # seconds UTC: how long the application is waited for, or the outcome
    # Of this process alone: its transaction, and what a NOTIFY that has no answer yet says.
    key: TransactionKey | None = field(default=None, compare=False)
    request: Request | None = field(default=None, compare=False)
    saying: int = field(default=0, compare=False)

    def to_data(self) -> list[Any]:
        """Plain data for a snapshot."""
        return [
            *(self.target, self.sequence, self.subscribed, self.referred_by, self.replaces, self.dialog, self.stage),
            *(self.action_id, self.partner, self.link, self.code, self.reason, self.told, self.expires_at),
        ]

    @classmethod
    def from_data(cls, data: list[Any]) -> Referral:
        """The referral that `to_data` wrote."""
        return cls(*data)


@dataclass(slots=True)
class Replacement:
    """Somebody else takes the place of the call that this one has heard so far."""

    referrer: CallId  # that call
    ends_with_peer: bool  # whether this one was to end with it
    party: CallId | None = None  # who comes instead; None: nobody is sought yet
    is_alone: bool = False  # the referrer has hung up, and nobody is there to go back to

    def to_data(self) -> list[Any]:
        """Plain data for a snapshot."""
        return [self.referrer, self.ends_with_peer, self.party, self.is_alone]

    @classmethod
    def from_data(cls, data: list[Any]) -> Replacement:
        """The replacement that `to_data` wrote."""
        return cls(*data)
