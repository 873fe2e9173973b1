"""A list of actions on its way through a call (contract §1, "Lists").

One list runs per call. This module only keeps its place; what an action does stands in `call` and its neighbours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bridge.calls.actions import Action
from bridge.calls.facts import ActionId

Origin = Literal["decision", "command", "commands", "fallback", "originated"]


class Step(NamedTuple):
    """One accepted action and the name its outcome is told by."""

    action_id: ActionId
    action: Action


@dataclass(slots=True)
class ActionList:
    """What is left of a list. `current` has begun and is not done."""

    # "command": one REST action, after which an unanswered call goes on waiting; "originated": begins with the answer
    origin: Origin
    left: deque[Step]
    current: Step | None = None

    @classmethod
    def of(cls, origin: Origin, steps: Iterable[Step]) -> ActionList:
        return cls(origin, deque(steps))

    def take(self) -> Step | None:
        """Begin the next step; None at the end of the list."""
        self.current = self.left.popleft() if self.left else None
        return self.current

    def abandon(self) -> list[Step]:
        """Give up what is not done: the current step, if any, and all that never began."""
        given_up = [self.current, *self.left] if self.current else list(self.left)
        self.current = None
        self.left.clear()
        return given_up
