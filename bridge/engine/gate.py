"""Store first, without stopping the world (architecture §5): what depends on a write waits for it, per conversation.

A gate is a FIFO: writes of one conversation are acknowledged in the order in which they were made, and what waits for
them leaves in that order too. Other conversations never wait here.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from bridge.calls.effects import Accept, Respond, SendNotify
from bridge.calls.facts import CallId, ConversationId, EventId
from bridge.engine.commit import Claim
from bridge.sip.message import Response


@dataclass(slots=True)
class Created:
    """The call is in the store: its 100 may leave."""

    call: CallId


@dataclass(slots=True)
class Publish:
    """An event is in the store: it may be delivered."""

    call: CallId
    event_id: EventId
    type: str
    sequence: int
    body: bytes


@dataclass(slots=True)
class Answering:
    """A response of this call waits for its write."""

    call: CallId
    effect: Accept | Respond


@dataclass(slots=True)
class Concluded:
    """The final record of a call is in the store."""

    call: CallId


@dataclass(slots=True)
class Inviting:
    """An INVITE of ours waits for its write: of an attempt, or within the dialog."""

    call: CallId
    attempt: int = 0  # 0: a re-INVITE
    sequence: int = 0


@dataclass(slots=True)
class Referring:
    """A REFER of ours waits for its write."""

    call: CallId


@dataclass(slots=True)
class Parting:
    """A far end has been transferred, and that waits for its write: then it is hung up on."""

    call: CallId


@dataclass(slots=True)
class Notifying:
    """What has come of their REFER waits for its write."""

    call: CallId
    told: SendNotify


@dataclass(slots=True)
class Acknowledging:
    """The ACK of a 2xx to an INVITE of ours waits for its write."""

    call: CallId
    sequence: int


@dataclass(slots=True)
class Promised:
    """An originated call is in the store: whoever asked for it may be told."""

    call: CallId
    request: int
    body: bytes  # the Call as it was stored
    claim: Claim | None = None  # its Idempotency-Key


@dataclass(slots=True)
class Moved:
    """A call has come from another conversation, where those who are left may have nothing more to do."""

    call: CallId
    conversation: ConversationId


@dataclass(slots=True)
class Forwarding:
    """A copy of the call's INVITE waits for its write."""

    call: CallId
    attempt: int


@dataclass(slots=True)
class PassingBack:
    """The 2xx of whom the call is passed on to waits for its write."""

    call: CallId
    response: Response


Waiting: TypeAlias = (
    Created
    | Publish
    | Answering
    | Concluded
    | Inviting
    | Referring
    | Parting
    | Notifying
    | Acknowledging
    | Promised
    | Moved
    | Forwarding
    | PassingBack
)


class Gate:
    """What waits for which write. Empty most of the time, and seldom longer than three: a list is the lightest queue."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: list[tuple[int, list[Waiting]]] = []

    def __len__(self) -> int:
        return len(self._queue)

    def tickets(self) -> list[int]:
        """The writes that are not acknowledged."""
        return [ticket for ticket, _ in self._queue]

    def waiting(self) -> Iterator[Waiting]:
        """Everything that waits here, oldest first."""
        return (each for _, group in self._queue for each in group)

    def of(self, ticket: int) -> list[Waiting]:
        """What waits for this write."""
        return next((group for each, group in self._queue if each == ticket), [])

    def wait(self, ticket: int, waiting: list[Waiting]) -> None:
        """These leave when the write `ticket` is acknowledged. Tickets ascend."""
        self._queue.append((ticket, waiting))

    def open(self, ticket: int) -> list[Waiting]:
        """The write is acknowledged, and so is every one before it."""
        released: list[Waiting] = []
        while self._queue and self._queue[0][0] <= ticket:
            released += self._queue.pop(0)[1]
        return released

    def rewrite(self, ticket: int) -> None:
        """Everything that waits now waits for this write: it carries the whole record."""
        waiting = [each for _, group in self._queue for each in group]
        self._queue = [(ticket, waiting)]

    def take_others(self, calls: Container[CallId]) -> list[Waiting]:
        """What waits here for calls other than these, and waits here no longer."""
        taken = [each for each in self.waiting() if each.call not in calls]
        self._queue = [(ticket, [each for each in group if each.call in calls]) for ticket, group in self._queue]
        return taken

    def put_first(self, waiting: list[Waiting]) -> None:
        """These leave before everything that waits here. There has to be something."""
        self._queue[0][1][:0] = waiting

    def take_refusals(self, call: CallId) -> list[Respond]:
        """The final responses of an ended call, which wait here no longer."""
        taken: list[Respond] = []
        for _, group in self._queue:
            for each in list(group):
                if _refuses(each, call) and isinstance(each, Answering) and isinstance(each.effect, Respond):
                    taken.append(each.effect)
                    group.remove(each)
        return taken


def _refuses(waiting: Waiting, call: CallId) -> bool:
    """Whether this is a final response of that call: a provisional one with early media is not worth hurrying."""
    return (
        isinstance(waiting, Answering)
        and waiting.call == call
        and isinstance(waiting.effect, Respond)
        and waiting.effect.response.status >= 300
    )
