"""A re-INVITE of ours on its way: what it is for, and what it offers. Plain data, kept by its call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.calls.facts import ActionId

Purpose = Literal["hold", "unhold", "codec", "move", "refresh"]


@dataclass(slots=True)
class Reoffer:
    """What was offered, and what was in force before: a refusal changes nothing (§14.1)."""

    purpose: Purpose
    offered: bytes  # our SDP
    before: bytes  # our SDP as the far end last agreed to it
    action_id: ActionId | None = None
    tries: int = 0  # glares so far
    sent: bool = False  # False: it waits for the store, or for the end of a glare

    def to_data(self) -> list[Any]:
        """Plain data for a snapshot."""
        return [self.purpose, self.offered.decode(), self.before.decode(), self.action_id]

    @classmethod
    def from_data(cls, data: list[Any]) -> Reoffer:
        """The re-INVITE that `to_data` wrote, to be sent again."""
        purpose, offered, before, action_id = data
        return cls(purpose, offered.encode(), before.encode(), action_id)
