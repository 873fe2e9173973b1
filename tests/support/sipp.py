"""SIPp runs: a scenario, how many calls at what rate, and its own statistics read back from the file it writes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.namespaces import LOOPBACK, Host
from tests.support.programs import PORTS, Program, find_program, tail
from tests.support.waiting import until

SCENARIOS = Path(__file__).parent.parent / "interop" / "scenarios"


@dataclass(frozen=True)
class Statistics:
    """The last line of SIPp's statistics."""

    code: int  # 0: no call failed; 1: some did
    created: int
    successful: int
    failed: int
    retransmissions: int
    seconds: float
    failures: dict[str, int]  # by SIPp's name of what went wrong, where anything did
    errors: str  # the end of its error file

    def __str__(self) -> str:
        why = ", ".join(f"{name} {count}" for name, count in self.failures.items())
        return (
            f"{self.successful} of {self.created} calls succeeded, {self.failed} failed ({why or 'none'}), "
            f"{self.retransmissions} retransmissions, {self.seconds:.1f} s, exit {self.code}\n{self.errors}"
        )


class Sipp:
    """One run against `port` of 127.0.0.1, or of `target`; from loopback, or from where `host` is."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        scenario: str = "uac",
        calls: int = 1,
        rate: float = 100,
        pause_ms: int = 0,
        user: str = "100",
        options: Sequence[str] = (),
        target: str = LOOPBACK.address,
        host: Host = LOOPBACK,
    ) -> None:
        """`scenario`: a built-in one, or the name of a file in tests/interop/scenarios with its `.xml`.

        `pause_ms`: how long its pauses without a duration last.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._calls = calls
        chosen = ["-sf", str(SCENARIOS / scenario)] if scenario.endswith(".xml") else ["-sn", scenario]
        shown = f"[{target}]" if ":" in target else target
        command = [find_program("sipp"), f"{shown}:{port}", *chosen, "-s", user]
        command += ["-i", host.address, "-p", str(PORTS.one()), "-mp", str(PORTS.block(4)), "-cp", str(PORTS.one())]
        command += ["-m", str(calls), "-r", f"{rate:g}", "-l", "20000", "-d", str(pause_ms), "-nostdin", *options]
        command += ["-trace_stat", "-stf", str(directory / "statistics.csv"), "-fd", "1"]
        command += ["-trace_err", "-error_file", str(directory / "errors")]
        self._program = Program(host.command(command), output=directory / "screen", directory=directory)

    def kill(self) -> None:
        self._program.kill()

    def is_running(self) -> bool:
        return self._program.code() is None

    def so_far(self) -> dict[str, str]:
        """The last line of statistics by its column's name; empty before the first second."""
        file = self._directory / "statistics.csv"
        if not file.exists():
            return {}
        rows = list(csv.reader(file.read_text().splitlines(), delimiter=";"))
        whole = [row for row in rows[1:] if len(row) == len(rows[0])]
        return dict(zip(rows[0], whole[-1], strict=True)) if whole else {}

    def created(self) -> int:
        """Calls begun so far, as of the last whole second."""
        return int(self.so_far().get("TotalCallCreated", 0))

    async def done(self, within_s: float = 120.0) -> Statistics:
        """Wait until it has ended."""

        def state() -> str:
            return f"SIPp ends; so far {self.so_far()}\n{tail(self._directory / 'errors')}"

        await until(lambda: not self.is_running(), state, within_s=within_s, poll_s=0.05)
        read = self.so_far()
        assert read, f"no statistics: {tail(self._directory / 'screen')}"
        failures = {
            name.removesuffix("(C)").removeprefix("Failed"): int(value)
            for name, value in read.items()
            if name.startswith("Failed") and name.endswith("(C)") and name != "FailedCall(C)" and int(value)
        }
        return Statistics(
            code=self._program.wait(),
            created=int(read["TotalCallCreated"]),
            successful=int(read["SuccessfulCall(C)"]),
            failed=int(read["FailedCall(C)"]),
            retransmissions=int(read["Retransmissions(C)"]),
            seconds=_seconds(read["ElapsedTime(C)"]),
            failures=failures,
            errors=tail(self._directory / "errors", 20),
        )


class SippServer:
    """A user agent server on a port of its own: SIPp's built-in one (180, 200, and 200 to the BYE, whatever calls), or one
    call by a scenario."""

    def __init__(self, directory: Path, *, scenario: str | None = None) -> None:
        """`scenario`: the name of a file in tests/interop/scenarios."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = PORTS.one()
        self._directory = directory
        chosen = ["-sn", "uas"] if scenario is None else ["-sf", str(SCENARIOS / scenario), "-m", "1"]
        command = [find_program("sipp"), *chosen, "-i", "127.0.0.1", "-p", str(self.port), "-nostdin"]
        command += ["-mp", str(PORTS.block(4)), "-cp", str(PORTS.one())]
        command += ["-trace_err", "-error_file", str(directory / "errors")]
        self._program = Program(command, output=directory / "screen", directory=directory)

    @property
    def uri(self) -> str:
        return f"sip:service@127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Wait until its socket is there."""
        local = f"0100007F:{self.port:04X}"

        def is_bound() -> bool:
            assert self._program.code() is None, tail(self._directory / "screen")
            return local in Path("/proc/net/udp").read_text()

        await until(is_bound, "SIPp listens")

    async def done(self) -> None:
        """Wait until its one call has gone by the scenario."""
        await until(lambda: self._program.code() is not None, "SIPp ends")
        assert self._program.code() == 0, tail(self._directory / "errors", 20)

    def kill(self) -> None:
        self._program.kill()


def _seconds(clock: str) -> float:
    """SIPp's HH:MM:SS with or without a fraction."""
    hours, minutes, seconds = clock.split(":")[:3]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
