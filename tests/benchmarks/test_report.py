"""Figures, rates and stacks: what is computed and shown, and what a result file holds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import profiling
from benchmarks.answered import Capacity, Cost, Run, is_held, next_rate, why_not
from benchmarks.engine import measure_engine
from benchmarks.holding import Growth, Level, Weight
from benchmarks.load import Tally, latency
from benchmarks.machine import Machine
from benchmarks.relaying import RelayCost, Relayed
from benchmarks.report import Results, _plain, render, spread, table, write
from benchmarks.single_requests import Asked, Asking, Ceiling
from benchmarks.survival import KILLED, Heard, Survival, Survived

MACHINE = Machine("a CPU", 2, 4096, "6.1", "CPython 3.11", (0.1, 0.2, 0.3), 8.0, "abc1234", {"sipp": "v3.6.1"})
RUN = Run(
    rate=200.0,
    tally=Tally(created=100, successful=100, failed=0, retransmissions=0, unexpected=0, rate=199.0),
    milliseconds=(1.0, 2.0, 9.0),
    by_sipp=latency([0.0, 4.0]),
    cpu_ms={"signalling": 1.0, "supervisor": 0.0, "media": 0.25, "redis": 0.3, "application": 0.5},
    webhooks=300,
    settled_s=0.01,
    loop_ms=8.1,
)
FAILING = replace(RUN, tally=replace(RUN.tally, successful=99, failed=1))


def test_a_rate_is_held_without_a_failed_call_a_missing_webhook_or_a_load_that_was_less() -> None:
    assert is_held(RUN)
    assert not is_held(FAILING)
    assert not is_held(replace(RUN, webhooks=299))
    assert not is_held(replace(RUN, tally=replace(RUN.tally, rate=150.0)))
    assert why_not(FAILING) == "1 of 100 calls failed, 0 retransmissions"


def test_the_search_goes_up_by_a_quarter_and_then_halves() -> None:
    assert [next_rate(400, None), next_rate(400, 500), next_rate(None, 200)] == [500, 450, 100]


def test_what_is_ours_is_signalling_supervisor_and_media() -> None:
    assert RUN.ours_ms() == pytest.approx(1.25)
    many = Cost("bridge", 200.0, 9000, (replace(RUN, cpu_ms={"signalling": 1.5, "media": 0.5}),))
    # 100 ms of each second are 0.5 ms of each of 200 calls.
    assert Growth(Level(Cost("bridge", 200.0, 100, (RUN,)), 0.0), Level(many, 100.0)).ratio == pytest.approx(1.2)
    base = {"signalling": 1000, "media": 10}
    weight = Weight(wanted=10, held=5, rss_kb={"signalling": 1100, "media": 20}, base_kb=base)
    assert (weight.per_call_kb("signalling"), weight.per_call_kb("signalling", "media")) == (20.0, 22.0)


def test_spread_shows_the_extremes_where_there_are_several_values() -> None:
    assert [spread([1.0]), spread([1.0, 3.0, 2.0]), spread([])] == ["1.00", "2.00 (1.00–3.00)", "–"]


def test_columns_line_up() -> None:
    assert table(("a", "bb"), [("long", "1")]) == "a     bb\nlong   1"


def test_everything_measured_is_in_the_tables_and_in_the_file(tmp_path: Path) -> None:
    cost = Cost("bridge", 200.0, 0, (RUN, FAILING))
    results = Results(MACHINE, quick=True, notes=["no sippy"])
    results.costs.append(("log warning", cost))
    results.capacities.append(Capacity("bridge", 20.0, 400.0, (RUN,)))
    results.weights.append(
        Weight(10, 9, {"signalling": 9, "media": 0, "redis": 0}, {"signalling": 0, "media": 0, "redis": 0})
    )
    results.growth.append(Growth(Level(cost, 0.0), Level(cost, 0.0)))
    relayed = Relayed(us=8.0, sent=1000, lost=3, p50_ms=0.25, p99_ms=4.0, behind_ms=30, loop_ms=8.1)
    results.relays.append(RelayCost("bridge", 200, (relayed, relayed)))
    results.relays.append(RelayCost("C", 200, (replace(relayed, us=5.0, lost=0, behind_ms=1),)))
    results.balanced.append(cost)
    heard = Heard(1, (3400.0, 3500.0), (100.0, 3300.0), Counter({200: 9, 0: 1}), 19, 45.0, 30.0)
    run = Survived(KILLED, 20, heard, 0.1, 20, 2, 3, 4, 0, {"conv": 5, "out": 1}, 8.1)
    results.survival.append(Survival(KILLED, (run, run)))
    asked = Asked("REGISTER", 500.0, 4000, 499.0, 0, 7, 4000, {"signalling": 1.5, "media": 0.25}, latency([2.0]), 8.1)
    short = replace(asked, rate=800.0, placed_rate=700.0, webhooks=3999)
    results.requests.append(Asking("bridge", "REGISTER", 500.0, (asked, short)))
    results.ceilings.append(Ceiling("bridge", "REGISTER", 8.0, 500.0, (asked, short)))
    assert (asked.clean, short.clean, replace(asked, webhooks=3999).clean) == (True, False, False)
    assert replace(asked, method="OPTIONS", webhooks=0).clean
    shown = render(results)
    assert "bridge REGISTER    500  1.750 (1.750–1.750)" in shown
    assert "REGISTER highest rate of bridge held for 8 s: 500 a second" in shown
    assert "0 of 4000 failed, 3999 webhooks, load 700/s" in shown
    assert "W1×3 answered call" in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith(KILLED))
    assert row[2:10] == ["40", "2!", "3.50", "(3.50–3.50)", "100", "3300", "3300", "45"]
    assert row[10:18] == ["40", "38", "of", "40", "4", "6", "8", "12"]
    assert "bridge    200  8.00 (8.00–8.00)  1.60  6 of 2000" in shown
    assert "30!" in shown
    for wanted in ("QUICK", "bridge log warning", "1!", "400 calls/s", "9 of 10 wanted", "ratio 1.00", "no sippy"):
        assert wanted in shown
    written = json.loads(write(results, tmp_path, "w1").read_text())
    (row,) = written["costs"]
    assert (row["setup"], row["runs"][0]["ours_ms"], row["latency"]["p50"]) == ("log warning", 1.25, 2.0)
    assert "milliseconds" not in row["runs"][0]
    assert written["relays"][1] == {"relay": "C", "calls": 200, "runs": [_plain(results.relays[1].runs[0])]}
    (survived,) = written["survival"]
    assert survived["how"] == KILLED
    assert (survived["runs"][0]["clean"], survived["runs"][0]["keys_left"]) == (False, {"conv": 5, "out": 1})
    assert survived["runs"][0]["heard"]["reinvited_ms"]["worst"] == 3500.0
    assert written["balanced"][0]["rate"] == 200.0
    assert written["requests"][0]["runs"][0]["ours_ms"] == 1.75
    assert [step["clean"] for step in written["ceilings"][0]["steps"]] == [True, False]
    assert written["machine"]["commit"] == "abc1234"
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_sample_belongs_to_the_deepest_function_of_ours_and_waiting_to_nobody() -> None:
    raw = (
        "main (/usr/lib/python3/asyncio.py:1);give (/src/bridge/pump.py:10);step (/src/bridge/engine/node.py:5) 6\n"
        "give (/src/bridge/pump.py:11);send (libc.so.6) 3\n"
        "main (/usr/lib/python3/asyncio.py:2) 1\n"
        "give (/src/bridge/pump.py:10);epoll_pwait (libc.so.6) 99\n"
    )
    found = profiling.read(raw)
    assert found.samples == 10
    assert [(share.name, share.own, share.all) for share in found.packages] == [
        ("bridge.engine", 60.0, 60.0),
        ("bridge.pump", 30.0, 90.0),
        ("(not ours)", 10.0, 0.0),
    ]
    assert [share.name for share in found.functions] == ["bridge.engine.node:step", "bridge.pump:give"]
    assert found.below[0] == ("send (libc.so.6)", 30.0)


@pytest.mark.parametrize(("joined", "name"), [(False, "engine"), (True, "engine, joined")])
def test_the_engine_s_world_answers_its_calls_and_holds_the_others(joined: bool, name: str) -> None:
    figure = measure_engine(held=2, calls=3, rounds=1, joined=joined)
    assert (figure.name, figure.held, figure.calls, len(figure.us)) == (name, 2, 3, 1)
    assert figure.median_us > 0
