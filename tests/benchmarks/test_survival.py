"""What W6 makes of what phones, application and Redis have told, and that a node it kills is dead."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.application import Application, Order, reply_of
from benchmarks.processes import BenchmarkError, Process, children_of
from benchmarks.survival import (
    KILLED,
    Heard,
    Survival,
    Survived,
    count_left,
    count_missing,
    measure_survival,
    read_phones,
    spread_ms,
)

LEG = {"talking": True, "silence_ns": 50_000_000, "reinvited_ns": 0, "early": False, "over": True, "deaf": False}
HEARD = Heard(0, (3400.0, 3500.0), (3300.0,), Counter({200: 1}), 2, 45.0, 9.0)
RUN = Survived(KILLED, 2, HEARD, 0.1, 2, 0, 0, 0, 0, {}, 5.5)


def test_what_the_phones_say_at_the_end() -> None:
    legs = [
        LEG,
        LEG | {"reinvited_ns": 2_500_000_000, "silence_ns": 40_000_000},
        LEG | {"talking": False, "reinvited_ns": 900_000_000},  # before the node ended: none that counts
        LEG | {"talking": False, "early": True},
        LEG | {"talking": False, "deaf": True},
        LEG | {"talking": False, "over": False},
    ]
    said = json.dumps({"legs": legs, "byes": [0, 200, 200], "steady_ms": 44.0, "behind_ms": 3.0})
    assert read_phones("a warning\n" + said, 1_000_000_000) == Heard(
        lost=3,
        reinvited_ms=(1500.0,),
        silences_ms=(40.0, 50.0),
        byes=Counter({200: 2, 0: 1}),
        ended=5,
        steady_ms=44.0,
        behind_ms=3.0,
    )
    with pytest.raises(BenchmarkError, match="out of time"):
        read_phones("PairsError: out of time", 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"recovered": 1},
        {"missing": 1},
        {"disordered": 1},
        {"unsigned": 1},
        {"keys_left": {"conv": 1}},
        {"heard": replace(HEARD, lost=1)},
        {"heard": replace(HEARD, ended=1)},
    ],
)
def test_a_run_is_clean_when_nothing_was_lost_or_left(changes: dict[str, object]) -> None:
    assert RUN.clean
    assert replace(RUN, repeated=1).clean  # once more is within the promise
    assert not replace(RUN, **changes).clean  # type: ignore[arg-type]


def test_silences_are_those_of_all_runs() -> None:
    other = replace(RUN, heard=replace(HEARD, silences_ms=(10.0, 20.0)))
    survival = Survival(KILLED, (RUN, other))
    assert survival.silences_ms == [10.0, 20.0, 3300.0]
    assert spread_ms(survival.silences_ms) == (20.0, 3300.0, 3300.0)


def test_a_webhook_is_missing_that_was_passed_over_or_never_came() -> None:
    types = {"call.incoming": 10, "call.ended": 8, "call.recovered": 7}
    assert count_missing({"types": types, "missing": 0}, 2) == 0
    assert count_missing({"types": types, "missing": 3}, 2) == 3
    assert count_missing({"types": {"call.incoming": 10, "call.recovered": 8}, "missing": 0}, 2) == 8


def test_the_order_of_a_call_s_events() -> None:
    order = Order()
    assert [order.take("call.answered", "a", number) for number in (1, 2, 2, 5, 4)] == [True, True, False, True, True]
    assert (order.repeated, order.disordered) == (1, 1)
    assert order.missing() == 2  # the third, and an end
    order.take("call.ended", "a", 6)
    assert order.missing() == 1
    order.take("call.left", "a", 7)
    assert order.missing() == 2  # the end was not the last


def test_whoever_calls_is_sent_to_the_number_that_was_called() -> None:
    application = Application(None, "sip:{user}@127.0.0.9:5070")
    called = application.reply_to({"data": {"call": {"to": {"user": "17"}}}})
    assert called == reply_of("sip:17@127.0.0.9:5070")
    assert Application(None, "sip:callee@127.0.0.9").reply_to({}) == reply_of("sip:callee@127.0.0.9")


def test_keys_are_left_that_are_of_calls_and_never_go() -> None:
    keys = {"{bridge}:conv:a": False, "{bridge}:conv:b": True, "{bridge}:out:a": False, "{bridge}:due": False}
    keys |= {"{bridge}:nodes": False, "{bridge}:calls": False, "{bridge}:owned:other": False}
    assert count_left(keys, ["{bridge}:owned:other"]) == {"conv": 1, "out": 1, "due": 1}


def test_a_killed_family_is_dead_whatever_sessions_its_children_have(tmp_path: Path) -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True).wait()"
    parent = Process("parent", [sys.executable, "-c", script], directory=tmp_path)
    deadline = time.monotonic() + 20.0
    while not (children := list(children_of(parent.pid))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill_family()
    assert parent.ended == -9
    for pid in children:
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    parent.kill_family()  # once is enough, twice does no harm
    parent.end()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("how", [KILLED, "SIGTERM"])
def test_calls_outlive_their_node(how: str, tmp_path: Path) -> None:
    said: list[str] = []
    run = measure_survival(how, pairs=4, talking=2, directory=tmp_path / "run", say=said.append)
    assert run.clean, said
    assert run.heard.byes == {200: 4}
