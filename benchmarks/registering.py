"""REGISTER: what a phone's renewal costs, with digest, one write to Redis and one signed webhook (`registration.refreshed`)."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from benchmarks.answered import OURS, Say
from benchmarks.load import Latency, latency
from benchmarks.machine import Calibration
from benchmarks.phones import GO, READY
from benchmarks.processes import BenchmarkError, Process
from benchmarks.stacks import ROOT, Stack

USERS = 500
SETTLE_S = 5.0  # what the last webhooks are given
GIVING_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Renewals:
    """One run of phones that renew their bindings."""

    rate: float  # REGISTERs/s
    placed: int
    failed: int
    challenged: int  # of them, because their nonce was too old
    webhooks: int
    cpu_ms: dict[str, float]  # per REGISTER, by role
    latency: Latency  # REGISTER to 200
    loop_ms: float

    @property
    def clean(self) -> bool:
        """None failed, every webhook came."""
        return self.failed == 0 and self.webhooks == self.placed

    def ours_ms(self) -> float:
        """CPU per REGISTER of everything that is the bridge's own."""
        return sum(self.cpu_ms.get(role, 0.0) for role in OURS)


@dataclass(frozen=True, slots=True)
class Registering:
    """Several runs at one rate: one row of the table."""

    rate: float
    runs: tuple[Renewals, ...]


def measure_registering(stack: Stack, rate: float, *, seconds: float, runs: int, say: Say) -> Registering:
    """Runs one after the other; each begins with phones that have registered."""
    made = []
    for number in range(runs):
        run = renew(stack, rate, seconds, label=f"register-{rate:g}-{number}")
        say(f"{rate:g} REGISTERs/s: {run.ours_ms():.2f} ms each" + ("" if run.clean else " NOT CLEAN"))
        made.append(run)
    return Registering(rate, tuple(made))


def renew(stack: Stack, rate: float, seconds: float, *, label: str) -> Renewals:
    """`seconds` of renewals at `rate`, until the last webhook has come."""
    directory = stack.directory / label
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks.phones", stack.host, stack.new_source(), f"{rate:g}", f"{seconds:g}"]
    phones = Process(
        "phones", [*command, str(USERS)], directory=directory, environment={"PYTHONPATH": str(ROOT)}, patience_s=1.0
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
            _settle(stack, told + found["placed"], patience_s=SETTLE_S)
    finally:
        phones.end()
    after = stack.cpu()
    stack.check_alive()
    return Renewals(
        rate=rate,
        placed=found["placed"],
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
