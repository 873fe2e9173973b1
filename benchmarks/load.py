"""The load: SIPp's own `-sn uac` (INVITE, 200, ACK, pause, BYE, 200) and beside it the probe, which keeps the time.

What SIPp's files say about a run is read here. Its response times are in the results too, but they are steps of a
coarse clock: see `probe`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, Process

ROOT = Path(__file__).resolve().parent.parent
PROBE_SHARE = 0.2  # of the calls are the probe's ...
PROBE_RATE_MAX = 40.0  # ... up to so many a second


@dataclass(frozen=True, slots=True)
class Load:
    """Calls to place."""

    target: str  # the SIP address that is called, port 5060
    source: str  # the address that calls
    rate: float  # calls/s
    calls: int
    hold_s: float = 0.0  # from the ACK to the BYE

    def start(self, directory: Path) -> Process:
        """SIPp; its files go to `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        command = ["sipp", "-sn", "uac", f"{self.target}:5060", "-i", self.source, "-mi", self.source]
        command += ["-r", f"{self.rate:g}", "-m", str(self.calls), "-d", str(round(self.hold_s * 1000))]
        # Never fewer calls at once than there are: SIPp would quietly lower the rate instead of showing a failure.
        command += ["-l", str(max(self.calls, 10))]
        command += ["-trace_stat", "-stf", "stat.csv", "-fd", "1"]
        command += ["-trace_rtt", "-rtt_freq", "1", "-trace_err", "-error_file", "errors.log", "-nostdin"]
        # SIGTERM makes it wait for its calls: it has nothing to lose, and gets little patience.
        return Process("sipp", command, directory=directory, patience_s=1.0)


@dataclass(frozen=True, slots=True)
class Latency:
    """INVITE to 200 in milliseconds, over a number of calls."""

    calls: int
    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted in one run."""

    created: int
    successful: int
    failed: int
    retransmissions: int
    unexpected: int
    rate: float  # calls/s over the whole run

    def __add__(self, other: Tally) -> Tally:
        """Both loads ran at the same time."""
        return Tally(
            *(getattr(self, name) + getattr(other, name) for name in self.__slots__),
        )


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probe has found."""

    tally: Tally
    milliseconds: tuple[float, ...]


def start_probe(target: str, source: str, rate: float, seconds: float, *, directory: Path) -> Process:
    """Its findings stand in its log when it has ended."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.probe", target, source, f"{rate:g}", f"{seconds:g}"]
    return Process("probe", command, directory=directory, environment={"PYTHONPATH": str(ROOT)}, patience_s=1.0)


def probe_rate(rate: float) -> float:
    """How many of `rate` calls/s are the probe's."""
    return min(PROBE_RATE_MAX, rate * PROBE_SHARE)


def read_probe(text: str, seconds: float) -> Probed:
    """The findings in the probe's output. BenchmarkError when there are none."""
    try:
        found = json.loads(text)
        placed, completed, failed = found["placed"], found["completed"], found["failed"]
        times = tuple(float(each) for each in found["milliseconds"])
    except (ValueError, KeyError, TypeError):
        raise BenchmarkError(f"the probe has found nothing:\n{text[-1000:]}") from None
    return Probed(Tally(placed, completed, failed, 0, 0, placed / seconds), times)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ascending values lie: nearest rank, so always one that was measured."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency(milliseconds: Sequence[float]) -> Latency:
    """Percentiles of response times."""
    ordered = sorted(milliseconds)
    return Latency(len(ordered), *(percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)))


def read_response_times(text: str) -> list[float]:
    """Milliseconds, one for each call, of a `-trace_rtt` file: `Date_ms;response_time_ms;rtd_no` and then the rows."""
    times = []
    for row in csv.reader(io.StringIO(text), delimiter=";"):
        try:
            times.append(float(row[1]))
        except (IndexError, ValueError):
            continue  # the head, or a line that a killed SIPp has not finished
    return times


def read_statistics(text: str) -> Tally:
    """The last row of a `-trace_stat` file. BenchmarkError when there is none."""
    rows = list(csv.DictReader(io.StringIO(text), delimiter=";"))
    if not rows:
        raise BenchmarkError("SIPp has written no statistics")
    last = rows[-1]
    return Tally(
        created=_number(last, "TotalCallCreated"),
        successful=_number(last, "SuccessfulCall(C)"),
        failed=_number(last, "FailedCall(C)"),
        retransmissions=_number(last, "Retransmissions(C)"),
        unexpected=_number(last, "FailedUnexpectedMessage(C)"),
        rate=float(last["CallRate(C)"]),
    )


def _number(row: dict[str, str], name: str) -> int:
    return int(row.get(name) or 0)


def finished(directory: Path) -> tuple[Tally, Latency]:
    """What the files of a finished SIPp say."""
    tally = read_statistics((directory / "stat.csv").read_text())
    found = list(directory.glob("*_rtt.csv"))
    times = read_response_times(found[0].read_text()) if found else []
    return tally, latency(times)
