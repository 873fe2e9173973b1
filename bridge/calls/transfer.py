"""A REFER of ours on its way: what it asks for, and how far it has come. Plain data, kept by its call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.calls.facts import ActionId, CallId

Stage = Literal["finding", "sent", "accepted", "completed"]


@dataclass(slots=True)
class Transfer:
    """Where the far end is to go (RFC 3515), and what is known of that."""

    action_id: ActionId
    to: str  # a URI; "" while only the call to be replaced is known
    replaces: CallId | None = None  # attended: the call of ours whose far end it is to be connected with
    stage: Stage = "finding"  # sent: the REFER is out, or waits for the store
    target: str = ""  # the URI of Refer-To, Replaces included; "" while finding
    sequence: int = 0  # the REFER's CSeq number, which names the subscription; 0: not known
    code: int = 0  # the last one told of
    expires_at: float = 0.0  # seconds UTC: how long the next word of it is waited for

    def to_data(self) -> list[Any]:
        """Plain data for a snapshot."""
        return [
            *(self.action_id, self.to, self.replaces, self.stage),
            *(self.target, self.sequence, self.code, self.expires_at),
        ]

    @classmethod
    def from_data(cls, data: list[Any]) -> Transfer:
        """The transfer that `to_data` wrote."""
        return cls(*data)
