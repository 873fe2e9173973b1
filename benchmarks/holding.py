"""W4 and W5: what a held call weighs, and whether many of them make the others dearer.

Calls are held by SIPp: answered, and their BYE an hour away. The limits of the machine are said, not hidden: each call
wants two sockets of a media worker, and a worker may open as many files as RLIMIT_NOFILE allows.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.answered import OURS, Cost, Say
from benchmarks.load import Load
from benchmarks.stacks import Stack

HOLD_S = 3600.0
FILL_RATE = 150.0
STILL_S = 1.0


@dataclass(frozen=True, slots=True)
class Weight:
    """Resident memory with so many calls held, all transactions of their set-up forgotten."""

    wanted: int
    held: int  # by the bridge's own metrics
    rss_kb: dict[str, int]  # by role
    base_kb: dict[str, int]  # the same with nobody held

    def per_call_kb(self, *roles: str) -> float:
        grown = sum(self.rss_kb[role] - self.base_kb[role] for role in roles if role in self.rss_kb)
        return grown / max(1, self.held)


@dataclass(frozen=True, slots=True)
class Level:
    """The cost of other calls with so many held, and what those cost by themselves (keep-alives, mostly)."""

    cost: Cost
    alone_ms_per_s: float  # CPU of what is ours, with nobody calling

    @property
    def net_ms(self) -> float:
        """CPU per call of what is ours, less what would have been spent without the call."""
        return median(run.ours_ms() for run in self.cost.runs) - self.alone_ms_per_s / self.cost.rate


@dataclass(frozen=True, slots=True)
class Growth:
    """CPU per call with few and with many calls held."""

    few: Level
    many: Level

    @property
    def ratio(self) -> float:
        """Of the net costs."""
        return self.many.net_ms / self.few.net_ms if self.few.net_ms else float("nan")


def measure_alone(stack: Stack, seconds: float) -> float:
    """CPU milliseconds per second of what is ours, while nobody calls."""
    before = stack.cpu()
    time.sleep(seconds)
    after = stack.cpu()
    return sum(after[role] - before[role] for role in OURS) * 1000 / seconds


class Holder:
    """Keeps calls up, until its stack of callbacks is unwound."""

    def __init__(self, stack: Stack, ends: ExitStack, *, linger_s: float, say: Say) -> None:
        self._stack = stack
        self._ends = ends
        self._linger_s = linger_s
        self._say = say
        self._asked = 0

    def hold(self, calls: int) -> int:
        """Have `calls` up in all; returns how many there are, once nothing of their set-up is left in memory."""
        more = calls - self._asked
        if more > 0:
            self._say(f"{self._stack.name}: filling up to {calls} held calls at {FILL_RATE:g} calls/s")
            load = Load(self._stack.host, self._stack.new_source(), FILL_RATE, more, hold_s=HOLD_S)
            sipp = load.start(self._stack.directory / f"held-{calls}")
            self._ends.callback(sipp.end)
            self._asked = calls
            self._await_still(more / FILL_RATE)
            time.sleep(self._linger_s)
            self._stack.check_alive()
        return self._stack.held()

    def _await_still(self, expected_s: float) -> None:
        """Until all are up, or no more are coming."""
        deadline = time.monotonic() + expected_s * 1.5 + 10.0
        while self._stack.held() < self._asked and time.monotonic() < deadline:
            time.sleep(STILL_S)


def weigh(stack: Stack, holder: Holder, base_kb: dict[str, int], calls: int) -> Weight:
    """Hold so many calls and look at the memory."""
    held = holder.hold(calls)
    return Weight(calls, held, stack.rss(), base_kb)
