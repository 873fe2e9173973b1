"""Children kept alive, by real processes: the order of start and end, restarts, and what ends everything."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from bridge.children import FORCED_STOP_S, RESTART_PAUSES_S, STEADY_S, Child, ChildSpec

ENDS_WHEN_TOLD = "trap 'exit 0' TERM; while :; do sleep 0.02; done"


def deaf(mark: Path) -> str:
    """Ignores SIGTERM from the moment that `mark` is there."""
    return f"trap '' TERM; touch {mark}; while :; do sleep 0.02; done"


def hangs_up_into(mark: Path) -> str:
    """Makes this file on each SIGHUP. A shell cannot: it never takes up a signal that it was born to ignore."""
    lines = [
        "import pathlib, signal",
        f"signal.signal(signal.SIGHUP, lambda *_: pathlib.Path({str(mark)!r}).touch())",
        f"pathlib.Path({str(mark) + '.up'!r}).touch()",
        "while True: signal.pause()",
    ]
    return f"exec {sys.executable} -c {shlex.quote(chr(10).join(lines))}"


class Supervised:
    """A supervising process and what it has said so far."""

    def __init__(self, *specs: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", json.dumps(specs)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.lines: IO[str] = self.process.stderr

    def until(self, event: str, child: str | None = None) -> dict[str, Any]:
        """Read on to this event; everything before it is skipped."""
        for line in self.lines:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event and child in (None, said.get("child")):
                return said
        raise AssertionError(f"it ended without saying {event} of {child}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Wait for its end; returns the exit code and what it said meanwhile."""
        said = [json.loads(line) for line in self.lines]
        return self.process.wait(), said


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(*specs: dict[str, Any]) -> Supervised:
        started.append(Supervised(*specs))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()  # its children are told by the kernel
        one.process.wait()
        one.lines.close()


Supervise = Callable[..., Supervised]


def ended(said: list[dict[str, Any]]) -> list[str]:
    return [line["child"] for line in said if line["event"] == "child_ended"]


def wait_for(path: Path) -> str:
    """The content of a file that another process is about to write and to move in place."""
    while not path.exists():
        time.sleep(0.005)
    return path.read_text()


class TestStart:
    def test_a_stage_waits_until_the_one_before_is_ready(self, supervise: Supervise, tmp_path: Path) -> None:
        ready, saw = tmp_path / "ready", tmp_path / "saw"
        late = {
            "name": "late",
            "stage": 1,
            "script": f"ls {tmp_path} > {saw}.new; mv {saw}.new {saw}; {ENDS_WHEN_TOLD}",
        }
        early = {"name": "early", "script": f"sleep 0.2; touch {ready}; {ENDS_WHEN_TOLD}", "ready_file": str(ready)}
        supervise(late, early)
        assert "ready" in wait_for(saw).split()

    def test_a_child_gets_its_standard_input_and_an_open_mind(self, supervise: Supervise, tmp_path: Path) -> None:
        saw = tmp_path / "saw"
        script = f"(cat; grep SigBlk /proc/self/status) > {saw}.new; mv {saw}.new {saw}; {ENDS_WHEN_TOLD}"
        one = supervise({"name": "a", "script": script, "stdin": "a secret\n"})
        pid = one.until("child_started")["pid"]
        assert wait_for(saw).split() == ["a", "secret", "SigBlk:", "0000000000000000"]
        assert os.getsid(pid) == pid  # Ctrl-C in the terminal is not for it

    @pytest.mark.parametrize("code", [1, 2])
    def test_one_that_cannot_start_ends_everything_with_its_code(self, supervise: Supervise, code: int) -> None:
        code_of_all, said = supervise(
            {"name": "fine", "script": ENDS_WHEN_TOLD}, {"name": "wrong", "stage": 1, "script": f"exit {code}"}
        ).end()
        assert code_of_all == code
        assert ended(said) == ["fine"]

    def test_a_program_that_is_not_there_ends_everything(self, supervise: Supervise) -> None:
        code, said = supervise({"name": "a", "command": ["/no/such/program"]}).end()
        assert code == 1
        assert [line["event"] for line in said[1:3]] == ["child_not_run", "child_could_not_start"]


class TestRestart:
    def test_who_dies_is_started_again(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": ENDS_WHEN_TOLD})
        for death in range(2):
            os.kill(one.until("child_started")["pid"], signal.SIGKILL)
            died = one.until("child_died")
            assert died["signal"] == "Killed"
            assert died["restart_in_s"] == pytest.approx(RESTART_PAUSES_S[death], abs=0.01)
        assert one.until("child_started")["start"] == 3

    def test_others_are_left_alone(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": ENDS_WHEN_TOLD}, {"name": "b", "script": ENDS_WHEN_TOLD})
        os.kill(one.until("child_started", "a")["pid"], signal.SIGKILL)
        one.until("child_started", "a")
        one.send(signal.SIGTERM)
        _, said = one.end()
        assert [line for line in said if line["event"] == "child_started"] == []

    def test_one_that_could_start_before_may_fail_to_start_now(self, supervise: Supervise, tmp_path: Path) -> None:
        mark = tmp_path / "second"
        one = supervise({"name": "a", "script": f"[ -e {mark} ] && exit 1; touch {mark}; exit 7"})
        assert one.until("child_died")["code"] == 7
        assert one.until("child_died")["code"] == 1
        assert one.until("child_started")["start"] == 3

    def test_a_long_time_after_its_start_exit_1_is_a_death_like_any_other(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": "sleep 0.1; exit 1", "start_limit_s": 0.05})
        assert one.until("child_died")["code"] == 1

    def test_who_asks_not_to_be_started_again_ends_everything(self, supervise: Supervise) -> None:
        specs = {"name": "a", "script": ENDS_WHEN_TOLD}, {"name": "b", "script": "exit 3", "final_codes": [3]}
        code, said = supervise(*specs).end()
        assert code == 3
        assert ended(said) == ["a"]

    def test_pauses_grow_with_each_death_and_a_steady_life_forgives_them(self) -> None:
        child = Child(ChildSpec("a", ("true",)))
        pauses = []
        for now in range(10):
            child.started_at = float(now)
            child.ended(1, float(now))
            pauses.append(child.due - now)
        assert pauses == [*RESTART_PAUSES_S, RESTART_PAUSES_S[-1], RESTART_PAUSES_S[-1]]
        child.started_at = 1000.0
        child.ended(1, 1000.0 + STEADY_S)
        assert child.due == 1000.0 + STEADY_S


class TestEnd:
    def test_stages_end_in_the_opposite_order_and_the_end_is_clean(self, supervise: Supervise) -> None:
        names = ["store", "media", "signalling"]
        one = supervise(*[{"name": name, "stage": stage, "script": ENDS_WHEN_TOLD} for stage, name in enumerate(names)])
        one.until("child_started", "signalling")
        one.send(signal.SIGTERM)
        code, said = one.end()
        assert (code, ended(said)) == (0, ["signalling", "media", "store"])

    def test_ctrl_c_is_as_good(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": ENDS_WHEN_TOLD})
        one.until("child_started")
        one.send(signal.SIGINT)
        assert one.end()[0] == 0

    def test_who_does_not_end_in_time_is_killed_and_the_end_is_not_clean(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        one = supervise({"name": "a", "script": deaf(tmp_path / "up"), "stop_limit_s": 0.1})
        wait_for(tmp_path / "up")
        one.send(signal.SIGTERM)
        code, said = one.end()
        assert code == 1
        assert [line["event"] for line in said[2:]] == ["stopping", "child_killed", "child_ended", "stopped"]

    def test_a_second_sigterm_forces(self, supervise: Supervise, tmp_path: Path) -> None:
        one = supervise({"name": "a", "script": deaf(tmp_path / "up"), "stop_limit_s": 60.0})
        wait_for(tmp_path / "up")
        one.send(signal.SIGTERM)
        one.until("stopping")
        one.send(signal.SIGTERM)
        assert one.until("stopping")["forced"] is True
        code, said = one.end()
        assert code == 1
        assert said[1]["lived_s"] < 10 * FORCED_STOP_S  # and not the minute it had

    def test_sighup_without_a_terminal_ends_nothing(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": ENDS_WHEN_TOLD})
        one.until("child_started")
        one.send(signal.SIGHUP)
        one.until("reloading")
        one.send(signal.SIGTERM)
        assert one.end()[0] == 0

    def test_sighup_reaches_who_can_reload_and_nobody_else(self, supervise: Supervise, tmp_path: Path) -> None:
        one = supervise(
            {"name": "a", "script": hangs_up_into(tmp_path / "a")},
            {"name": "b", "script": hangs_up_into(tmp_path / "b"), "reloads": True},
        )
        for name in ("a", "b"):
            wait_for(tmp_path / f"{name}.up")
        one.send(signal.SIGHUP)
        wait_for(tmp_path / "b")
        assert not (tmp_path / "a").exists()
        one.send(signal.SIGTERM)
        assert one.end()[1][-1]["event"] == "stopped"

    def test_a_sighup_that_comes_too_early_ends_nobody(self, supervise: Supervise) -> None:
        one = supervise({"name": "a", "script": ENDS_WHEN_TOLD, "reloads": True})
        one.until("child_started")
        for _ in range(3):
            one.send(signal.SIGHUP)
        one.until("reloading")
        one.send(signal.SIGTERM)
        code, said = one.end()
        assert code == 0
        assert "child_died" not in [line["event"] for line in said]

    def test_if_the_supervisor_is_killed_the_kernel_tells_its_children(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        told, up = tmp_path / "told", tmp_path / "up"
        script = f"trap 'touch {told}; exit 0' TERM; touch {up}; while :; do sleep 0.02; done"
        one = supervise({"name": "a", "script": script})
        wait_for(up)
        one.send(signal.SIGKILL)
        wait_for(told)
