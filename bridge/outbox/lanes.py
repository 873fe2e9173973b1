"""The parts the queue moves: an event waiting, its stream, its endpoint's lane, a decision under way.

Plain slotted records that only `queue` changes, and the invariants between them. Refuses to know outcomes and effects.

    a stream is      IDLE     between two steps of one call into the queue, or gone with its last item
                     READY    in one of its lane's queues, for want of a free slot
                     FLYING   its first item is under way
                     WAITING  its first item failed and is due later
    a decision is    PRIMARY  the deciding URL may still decide
                     FALLBACK the fallback URL is being asked
                     CLOSED   made, failed or withdrawn
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple


class Place(Enum):
    """Where a stream is."""

    IDLE = "idle"
    READY = "ready"
    FLYING = "flying"
    WAITING = "waiting"


class Stage(Enum):
    """How far a decision is."""

    PRIMARY = "primary"
    FALLBACK = "fallback"
    CLOSED = "closed"


# The kinds of slot a lane has, each kind with the same number: notifications never keep a call waiting.
NOTIFY: Final = 0
DECISION: Final = 1  # for a stream in which a call waits for a decision, the events before it included
FALLBACK: Final = 2


class Item:
    """One event on its way to one endpoint."""

    __slots__ = ("attempts", "body", "decision", "done", "event_id", "event_type", "sequence", "stream")

    def __init__(self, stream: Stream, event_id: str, event_type: str, sequence: int, body: bytes) -> None:
        self.stream = stream
        self.event_id = event_id
        self.event_type = event_type
        self.sequence = sequence
        self.body = body
        self.attempts = 0  # made and failed, on schedule
        self.decision: Decision | None = None  # kept when closed: it tells a late reply
        self.done = False  # delivered or dead; still first in its stream while an attempt is under way

    @property
    def flying(self) -> bool:
        """True while an attempt at the endpoint's own URL is under way."""
        return self.stream.place is Place.FLYING and self.stream.items[0] is self

    @property
    def undecided(self) -> bool:
        """True while the deciding URL may still decide."""
        return self.decision is not None and self.decision.stage is Stage.PRIMARY


class Decision:
    """Somebody on the phone waits for the reply to this item."""

    __slots__ = ("item", "stage")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.stage = Stage.PRIMARY


class Stream:
    """One call's events for one endpoint."""

    __slots__ = ("call", "due", "gone", "held", "items", "lane", "last", "place", "undecided")

    def __init__(self, call: str, lane: Lane) -> None:
        self.call = call
        self.lane = lane
        self.items: deque[Item] = deque()
        self.place = Place.IDLE
        self.due = 0.0  # of the first item, seconds UTC; 0: at once
        self.held = False  # until `due`, by Retry-After: nobody's success pulls it forward
        self.last = 0  # the highest sequence that ever came in
        self.undecided = 0  # items whose decision is in stage PRIMARY
        self.gone = False  # forgotten: what still flies concerns nobody

    @property
    def cursor(self) -> int:
        """Everything up to here is settled."""
        return self.items[0].sequence - 1 if self.items else self.last


class Lane:
    """One endpoint: its streams, oldest item first, and its slots."""

    __slots__ = ("busy", "disabled", "fallback_url", "id", "items", "queues", "retired", "url", "waiting")

    def __init__(self, endpoint_id: str) -> None:
        self.id = endpoint_id
        self.url = ""
        self.fallback_url: str | None = None
        self.items: OrderedDict[Item, None] = OrderedDict()  # the backlog
        self.waiting: OrderedDict[Stream, None] = OrderedDict()  # those that a success may pull forward
        self.queues: tuple[OrderedDict[Stream, None], OrderedDict[Stream, None]] = (OrderedDict(), OrderedDict())
        self.busy = [0, 0, 0]  # slots in use: NOTIFY, DECISION, FALLBACK
        self.disabled = False
        self.retired = False

    def idle_items(self) -> Iterator[Item]:
        """The items that may be given up now, oldest first: nothing flies for them, and nobody waits for their reply."""
        return (item for item in self.items if not item.flying and not item.undecided)


class Flight(NamedTuple):
    """An attempt under way."""

    item: Item
    slot: int
    url: str
    asks: bool  # for a decision
    early: bool  # pulled forward before its time: if it fails, the schedule has not moved
