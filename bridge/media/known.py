"""What signalling knows of its media workers and of the sessions in them. Knows nothing of connections but that there are some."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum, auto
from typing import NamedTuple

from bridge.media.link import Link
from bridge.rtp.rules import Rule


@dataclass(frozen=True, slots=True)
class MediaTotals:
    """Packets of all workers since this client began, as counted each second. They never go down."""

    received: int = 0
    sent: int = 0
    strangers: int = 0
    invalid: int = 0


class State(Enum):
    OPENING = auto()
    OPEN = auto()
    REOPENING = auto()  # its worker has died, or has not got it: asked for again, or waiting for somebody to ask
    CLOSING = auto()


class Found(NamedTuple):
    """A session as a worker's list shows it."""

    port: int
    rule: Rule | None
    timed_out: bool


class Session:
    __slots__ = ("port", "refused_by", "rule", "said", "state", "worker")

    def __init__(self, worker: Worker, port: int, state: State) -> None:
        self.worker = worker
        self.port = port
        self.state = state
        self.rule: Rule | None = None
        self.said = True  # False: opened on a reserved port, which the worker hears at the end of this turn of the loop
        self.refused_by: tuple[Worker, ...] = ()  # workers that had no port for it


class Worker:
    """What is known of the worker behind one socket path."""

    __slots__ = (
        "counted",
        "counted_before",
        "found",
        "free",
        "identity",
        "link",
        "listing",
        "path",
        "ready",
        "relay",
        "reserved",
        "reserving",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.link: Link | None = None
        self.identity: str | None = None  # of the run that was last connected
        self.free = 0  # as last told, less what was asked for since
        self.reserved: deque[int] = deque()  # ports in hand
        self.reserving = False  # more of them are asked for
        self.listing: dict[str, Found] = {}  # what `list` has brought so far
        self.found: dict[str, Found] = {}  # sessions nobody has claimed yet
        self.ready = False  # connected, greeted and listed
        self.relay: str | None = None  # where other workers hand it packets; None: it is of a version that takes none
        self.counted = MediaTotals()  # of this run
        self.counted_before = MediaTotals()  # of the runs before it

    @property
    def room(self) -> int:
        """How many sessions it could take."""
        return self.free + len(self.reserved)


def sum_totals(parts: Sequence[MediaTotals]) -> MediaTotals:
    return MediaTotals(
        **{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(MediaTotals)}
    )


def read_totals(message: Mapping[str, object]) -> MediaTotals:
    counted = {field.name: message.get(field.name) for field in fields(MediaTotals)}
    return MediaTotals(**{name: value for name, value in counted.items() if isinstance(value, int)})
