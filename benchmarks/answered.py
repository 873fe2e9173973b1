"""W1, the answered call, and W2, the joined call: what it costs, how long the caller waits, how many a second are held."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.load import Latency, Load, Probed, Tally, finished, latency, probe_rate, read_probe, start_probe
from benchmarks.machine import Calibration
from benchmarks.processes import BenchmarkError
from benchmarks.stacks import ANSWERED_WEBHOOKS, Stack

LINGER_S = 33.0  # the longest timer of a finished transaction (64·T1) and a little
SETTLE_S = 5.0  # what the last webhooks are given
GIVING_UP_S = 45.0  # a call that goes wrong is given up by SIPp after 32 s of repeating
OURS = ("signalling", "supervisor", "media")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the load, and what it cost."""

    rate: float
    tally: Tally
    milliseconds: tuple[float, ...]  # INVITE to 200, of the probe's calls
    by_sipp: Latency  # the same by SIPp's own, coarse clock
    cpu_ms: dict[str, float]  # per call, by role
    webhooks: int
    settled_s: float  # from the load's end to the last webhook
    loop_ms: float
    webhooks_per_call: int = ANSWERED_WEBHOOKS

    @property
    def clean(self) -> bool:
        """No call failed, every webhook came."""
        tally = self.tally
        answered = tally.failed == 0 and tally.successful == tally.created > 0
        return answered and self.webhooks == self.webhooks_per_call * tally.successful

    @property
    def latency(self) -> Latency:
        return latency(self.milliseconds)

    def ours_ms(self) -> float:
        """CPU per call of everything that is the system under test's own."""
        return sum(self.cpu_ms.get(role, 0.0) for role in OURS)


def run_load(stack: Stack, rate: float, seconds: float, *, label: str) -> Run:
    """`seconds` of calls at `rate`, until the last webhook has come."""
    probed_rate = probe_rate(rate)
    load = Load(stack.host, stack.new_source(), rate - probed_rate, max(1, round((rate - probed_rate) * seconds)))
    directory = stack.directory / label
    told_before, before = sum(stack.counts().values()), stack.cpu()
    with Calibration() as speed:
        sipp = load.start(directory)
        probe = start_probe(stack.host, stack.new_source(), probed_rate, seconds, directory=directory)
        try:
            code, probe_code = sipp.wait(seconds + GIVING_UP_S), probe.wait(seconds + GIVING_UP_S)
            ended = time.monotonic()
            probed = read_probe(probe.log.read_text(), seconds) if probe_code == 0 else None
            _settle(stack, told_before + stack.webhooks * (load.calls + (probed.tally.created if probed else 0)))
            settled_s = time.monotonic() - ended
        finally:
            sipp.end()
            probe.end()
    after = stack.cpu()
    stack.check_alive()
    if code not in (0, 1, None) or probed is None:
        raise BenchmarkError(f"the load failed ({code}, {probe_code}):\n{sipp.last_words()}")
    return _run(stack, rate, load, probed, before, after, told_before, settled_s, speed.loop_ms, label)


def _run(
    stack: Stack,
    rate: float,
    load: Load,
    probed: Probed,
    before: dict[str, float],
    after: dict[str, float],
    told_before: int,
    settled_s: float,
    loop_ms: float,
    label: str,
) -> Run:
    tally, by_sipp = finished(stack.directory / label)
    # Where SIPp had to be ended, calls hang: provisionally answered, so it repeats nothing and waits for ever.
    tally = replace(tally, failed=tally.created - tally.successful) + probed.tally
    cpu_ms = {role: (after[role] - before[role]) * 1000 / max(1, tally.created) for role in after}
    told = sum(stack.counts().values()) - told_before
    return Run(rate, tally, probed.milliseconds, by_sipp, cpu_ms, told, settled_s, loop_ms, stack.webhooks)


def _settle(stack: Stack, wanted: int) -> None:
    """Wait until all webhooks are there, or no more can be expected."""
    deadline = time.monotonic() + SETTLE_S
    while sum(stack.counts().values()) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)


def _quieten(stack: Stack) -> None:
    """Wait until no webhook has come for a while, and the calls that failed are forgotten."""
    deadline = time.monotonic() + GIVING_UP_S
    before = -1
    while time.monotonic() < deadline and (told := sum(stack.counts().values())) != before:
        before = told
        time.sleep(2.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """Several runs at one rate: one row of the table."""

    stack: str
    rate: float
    held: int  # other calls that were up meanwhile
    runs: tuple[Run, ...]

    @property
    def latency(self) -> Latency:
        """Over the calls of all runs."""
        return latency([each for run in self.runs for each in run.milliseconds])


def measure_cost(
    stack: Stack, rate: float, *, seconds: float, runs: int, warm_up_s: float = LINGER_S, held: int = 0, say: Say
) -> Cost:
    """Runs back to back, after one that is thrown away.

    The first fills what lingers after a call (transactions, for 32 s), so that each of the others pays for the end of
    as many old calls as it makes new ones.
    """
    label = f"{rate:g}-{held}"
    say(f"{stack.name}: {rate:g} calls/s, {held} held: warming up for {warm_up_s:g} s")
    run_load(stack, rate, warm_up_s, label=f"warm-{label}")
    made = []
    for number in range(runs):
        run = run_load(stack, rate, seconds, label=f"run-{label}-{number}")
        say(f"{stack.name}: {rate:g} calls/s: {run.ours_ms():.2f} ms/call" + ("" if run.clean else " NOT CLEAN"))
        made.append(run)
    return Cost(stack.name, rate, held, tuple(made))


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that was held, and every step that was tried."""

    stack: str
    seconds: float
    held: float | None
    steps: tuple[Run, ...]


def find_capacity(stack: Stack, *, first: float, last: float, seconds: float, steps_max: int, say: Say) -> Capacity:
    """Step up by a quarter until a call fails, then halve the distance between what was held and what was not."""
    held: float | None = None
    failed: float | None = None
    steps: list[Run] = []
    rate = first
    while len(steps) < steps_max and rate <= last:
        run = run_load(stack, rate, seconds, label=f"step-{len(steps)}-{rate:g}")
        steps.append(run)
        if is_held(run):
            held = rate
            say(f"{stack.name}: {rate:g} calls/s held for {seconds:g} s, {run.ours_ms():.2f} ms/call")
        else:
            failed = rate
            say(f"{stack.name}: {rate:g} calls/s not held: {why_not(run)}")
            _quieten(stack)  # what it could not cope with shall not be the next step's burden
        if held is not None and failed is not None and failed - held < 0.06 * held:
            break
        rate = next_rate(held, failed)
    return Capacity(stack.name, seconds, held, tuple(steps))


def next_rate(held: float | None, failed: float | None) -> float:
    """What to try next: upward by a quarter, or between the highest held and the lowest failed rate."""
    wanted = held * 1.25 if failed is None and held is not None else ((held or 0.0) + (failed or 0.0)) / 2
    return float(round(wanted / 10) * 10) if wanted >= 100 else float(max(1, round(wanted)))


def is_held(run: Run) -> bool:
    """No failed call, every webhook there soon after, and the load was really what it was to be."""
    return run.clean and run.tally.rate >= 0.95 * run.rate


def why_not(run: Run) -> str:
    """What kept a rate from being held, in words."""
    tally = run.tally
    if tally.failed:
        return f"{tally.failed} of {tally.created} calls failed, {tally.retransmissions} retransmissions"
    if not run.clean:
        return f"{run.webhooks} of {run.webhooks_per_call * tally.created} webhooks came within {SETTLE_S:g} s"
    return f"the load itself came to {tally.rate:.0f} calls/s only"


def prepare(stack: Stack) -> None:
    """A few calls, so that everything is loaded, connected and compiled before anything is counted."""
    run = run_load(stack, 20, 2, label="first")
    if not run.clean:
        raise BenchmarkError(f"{stack.name}: the first calls fail: {why_not(run)}; see {stack.directory}")
