"""Requests that are no calls: REGISTER, which costs a digest, one write to Redis and one webhook, and OPTIONS, which costs nothing of that."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from benchmarks.answered import OURS, Say, next_rate
from benchmarks.load import Latency, latency
from benchmarks.machine import Calibration
from benchmarks.phones import GO, OPTIONS, READY, REGISTER
from benchmarks.processes import BenchmarkError, Process
from benchmarks.stacks import ROOT, Stack

USERS = 500
WEBHOOKS = {REGISTER: 1, OPTIONS: 0}  # for each request
SETTLE_S = 5.0  # what the last webhooks are given
GIVING_UP_S = 30.0
CLOSE_ENOUGH = 0.06  # between the rate that was held and the one that was not


@dataclass(frozen=True, slots=True)
class Asked:
    """One run of phones that send such requests."""

    method: str
    rate: float  # requests/s
    placed: int
    placed_rate: float  # requests/s that the phones really came to
    failed: int
    challenged: int  # of them, because their nonce was too old
    webhooks: int
    cpu_ms: dict[str, float]  # per request, by role
    latency: Latency  # request to 200
    loop_ms: float

    @property
    def clean(self) -> bool:
        """None failed, every webhook came, and the load was what it was to be."""
        told = self.webhooks == self.placed * WEBHOOKS[self.method]
        return self.failed == 0 and told and self.placed_rate >= 0.95 * self.rate

    def ours_ms(self) -> float:
        """CPU per request of everything that is the system's own."""
        return sum(self.cpu_ms.get(role, 0.0) for role in OURS)


@dataclass(frozen=True, slots=True)
class Asking:
    """Several runs at one rate: one row of the table."""

    stack: str
    method: str
    rate: float
    runs: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The highest rate that was held, and every step that was tried."""

    stack: str
    method: str
    seconds: float
    held: float | None
    steps: tuple[Asked, ...]


def measure_requests(stack: Stack, method: str, rate: float, *, seconds: float, runs: int, say: Say) -> Asking:
    """Runs one after the other; each begins with phones that have registered."""
    made = []
    for number in range(runs):
        run = ask(stack, method, rate, seconds, label=f"{method}-{rate:g}-{number}")
        say(f"{stack.name}: {rate:g} {method}s/s: {run.ours_ms():.3f} ms each" + ("" if run.clean else " NOT CLEAN"))
        made.append(run)
    return Asking(stack.name, method, rate, tuple(made))


def find_ceiling(
    stack: Stack, method: str, *, first: float, last: float, seconds: float, steps_max: int, say: Say
) -> Ceiling:
    """Step up until a request fails, then halve the distance between what was held and what was not."""
    held: float | None = None
    failed: float | None = None
    steps: list[Asked] = []
    rate = first
    while len(steps) < steps_max and rate <= last:
        run = ask(stack, method, rate, seconds, label=f"{method}-step-{len(steps)}")
        steps.append(run)
        if run.clean:
            held = rate
        else:
            failed = rate
            _settle(stack, _told(stack) + 1, patience_s=SETTLE_S)  # its rest shall not be the next step's burden
        say(f"{stack.name}: {rate:g} {method}s/s {'held' if run.clean else 'not held'}, {run.ours_ms():.3f} ms each")
        if held is not None and failed is not None and failed - held < CLOSE_ENOUGH * held:
            break
        rate = next_rate(held, failed)
    return Ceiling(stack.name, method, seconds, held, tuple(steps))


def ask(stack: Stack, method: str, rate: float, seconds: float, *, label: str) -> Asked:
    """`seconds` of requests at `rate`, until the last webhook has come."""
    directory = stack.directory / label
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks.phones", stack.host, stack.new_source(), f"{rate:g}", f"{seconds:g}"]
    phones = Process(
        "phones",
        [*command, str(USERS), method],
        directory=directory,
        environment={"PYTHONPATH": str(ROOT)},
        patience_s=1.0,
    )
    try:
        phones.await_ready((directory / READY).exists)
        _settle(stack, _told(stack) + 1, patience_s=1.0)  # what their first REGISTERs have told
        before, told = stack.cpu(), _told(stack)
        with Calibration() as speed:
            (directory / GO).touch()
            if phones.wait(seconds + GIVING_UP_S) != 0:
                raise BenchmarkError(f"the phones failed:\n{phones.last_words()}")
            found = json.loads(phones.log.read_text().splitlines()[-1])
            _settle(stack, told + found["placed"] * WEBHOOKS[method], patience_s=SETTLE_S)
    finally:
        phones.end()
    after = stack.cpu()
    stack.check_alive()
    return Asked(
        method=method,
        rate=rate,
        placed=found["placed"],
        placed_rate=found["placed"] / found["took_s"],
        failed=found["failed"],
        challenged=found["challenged"],
        webhooks=_told(stack) - told,
        cpu_ms={role: (after[role] - before[role]) * 1000 / max(1, found["placed"]) for role in after},
        latency=latency(found["milliseconds"]),
        loop_ms=speed.loop_ms,
    )


def _told(stack: Stack) -> int:
    return sum(stack.counts().values())


def _settle(stack: Stack, wanted: int, *, patience_s: float) -> None:
    """Wait until all webhooks are there, or no more can be expected."""
    deadline = time.monotonic() + patience_s
    while _told(stack) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
