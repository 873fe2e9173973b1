"""What a run says: tables for a person, JSON for the next run to be compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.answered import OURS, Capacity, Cost, Run, why_not
from benchmarks.engine import Figure
from benchmarks.holding import Growth, Level, Weight
from benchmarks.load import latency
from benchmarks.machine import Machine
from benchmarks.profiling import Profile, lines
from benchmarks.relaying import RelayCost
from benchmarks.single_requests import Asked, Asking, Ceiling
from benchmarks.survival import Heard, Survival, Survived, spread_ms

COLUMNS = ("signalling", "supervisor", "media", "redis", "application")
_RELAY_HEAD = ("W3", "calls", "µs/packet", "× C", "lost", "p50", "p99", "behind", "loop ms")
_WEIGHT_HEAD = ("W4", "held", "signalling", "media", "redis", "signalling in all, MiB")
_ASKING_HEAD = ("request", "per s", "ours", *COLUMNS, "p50", "p99", "challenged", "failed", "loop ms")
_SURVIVAL_HEAD = (
    *("W6", "calls", "lost", "re-INVITEd s", "silence p50", "p95", "worst", "before", "recovered", "BYEs", "missing"),
    *("disordered", "repeated", "keys left", "gone s", "behind", "loop ms"),
)
BEHIND_MS = 20  # the load was late by a packet or more: what was lost or slow then was perhaps not the relay's fault
_COST_HEAD = ("calls/s", "ours", *COLUMNS, "p50", "p95", "p99", "failed", "loop ms")


@dataclass(slots=True)
class Results:
    """Everything that one run has measured, in order."""

    machine: Machine
    quick: bool
    engine: list[Figure] = field(default_factory=list)
    costs: list[tuple[str, Cost]] = field(default_factory=list)  # with what was special about the set-up
    balanced: list[Cost] = field(default_factory=list)
    joined: list[Cost] = field(default_factory=list)
    capacities: list[Capacity] = field(default_factory=list)
    relays: list[RelayCost] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    survival: list[Survival] = field(default_factory=list)
    requests: list[Asking] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be measured, and why

    def to_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {"machine": _plain(self.machine), "quick": self.quick}
        for name in (
            "engine",
            "balanced",
            "joined",
            "capacities",
            "relays",
            "weights",
            "growth",
            "survival",
            "requests",
            "ceilings",
            "profiles",
            "notes",
        ):
            data[name] = _plain(getattr(self, name))
        data["costs"] = [{"setup": setup} | _plain(cost) for setup, cost in self.costs]
        return data


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median, and the lowest and highest where there are several: `1.20 (1.15–1.31)`."""
    if not values or any(math.isnan(value) for value in values):
        return "–"
    middle = format(median(values), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)}–{format(max(values), form)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first flush left, the others right."""
    everything = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    )


def render(results: Results) -> str:
    """All tables."""
    parts = [_machine(results)]
    if results.engine:
        parts.append(
            "ENGINE alone, no I/O: CPU µs for one answered call, and for one joined call\n"
            + table(("", "held", "µs/call", "loop ms"), [_engine_row(each) for each in results.engine])
        )
    for title, name, costs in (
        (
            "answered call: CPU ms per call (`ours` = signalling + supervisor + media), INVITE→200 in ms; "
            "median (lowest–highest) of runs",
            "W1",
            results.costs,
        ),
        (
            "answered call at three nodes, each message at another one: the same, of all nodes together",
            "W1×3",
            [("", cost) for cost in results.balanced],
        ),
        (
            "joined call: the same for a caller who is sent to a callee, both with their webhooks and their state",
            "W2",
            [("", cost) for cost in results.joined],
        ),
    ):
        if costs:
            rows = [_cost_row(setup, cost) for setup, cost in costs]
            parts.append(f"{name} {title}\n" + table((name, *_COST_HEAD), rows))
    if results.capacities:
        parts.append(_capacities(results.capacities))
    if results.relays:
        parts.append(
            "W3 relay: CPU µs per relayed packet of G.711, all processes of the relay; how long a packet took, in ms\n"
            + table(_RELAY_HEAD, [_relay_row(each, results.relays) for each in results.relays])
        )
    if results.weights:
        parts.append(
            "W4 memory: RSS per held call in KiB\n"
            + table(_WEIGHT_HEAD, [_weight_row(each) for each in results.weights])
        )
    for growth in results.growth:
        levels = (growth.few, growth.many)
        net = " and ".join(f"{level.net_ms:.2f}" for level in levels)
        parts.append(
            f"W5 growth: CPU ms per call with others held; ratio {growth.ratio:.2f}: ours is {net} "
            "less what the held calls cost by themselves\n"
            + table(("W5", *_COST_HEAD), [_cost_row(f"{each.cost.held} held", each.cost) for each in levels])
        )
    if results.survival:
        parts.append(
            "W6 survival: three nodes, of which the one with all calls ends; silence: the longest of each phone that talks, in ms, "
            "40 of which are between any two packets\n"
            + table(_SURVIVAL_HEAD, [_survival_row(each) for each in results.survival])
        )
    if results.requests:
        parts.append(
            "REGISTER with digest, one write, one webhook; OPTIONS: CPU ms each, request→200 in ms; median (lowest–highest)\n"
            + table(_ASKING_HEAD, [_asking_row(each) for each in results.requests])
        )
    parts += [_ceiling(each) for each in results.ceilings]
    parts += ["PROFILE of signalling\n" + "\n".join(lines(profile)) for profile in results.profiles]
    if results.notes:
        parts.append("NOTES\n" + "\n".join(f"- {note}" for note in results.notes))
    return "\n\n".join(parts)


def _relay_row(cost: RelayCost, costs: Sequence[RelayCost]) -> list[str]:
    bare = next((each for each in costs if each.relay == "C" and each.calls == cost.calls), None)
    us = [run.us for run in cost.runs]
    ratio = math.nan if bare is None else median(us) / median(run.us for run in bare.runs)
    sent = sum(run.sent for run in cost.runs)
    behind = max(run.behind_ms for run in cost.runs)
    return [
        cost.relay,
        str(cost.calls),
        spread(us),
        "–" if math.isnan(ratio) else f"{ratio:.2f}",
        f"{sum(run.lost for run in cost.runs)} of {sent}",
        spread([run.p50_ms for run in cost.runs], ".1f"),
        spread([run.p99_ms for run in cost.runs], ".1f"),
        f"{behind}{'!' if behind > BEHIND_MS else ''}",
        spread([run.loop_ms for run in cost.runs]),
    ]


def _survival_row(survival: Survival) -> list[str]:
    runs = survival.runs
    calls = sum(run.calls for run in runs)
    behind = max(run.heard.behind_ms for run in runs)
    return [
        survival.how,
        str(calls),
        f"{sum(run.heard.lost for run in runs)}{'' if all(run.clean for run in runs) else '!'}",
        spread([max(run.heard.reinvited_ms, default=math.nan) / 1000 for run in runs]),
        *(f"{each:.0f}" for each in spread_ms(survival.silences_ms)),
        f"{max(run.heard.steady_ms for run in runs):.0f}",
        f"{sum(run.recovered for run in runs)}",
        f"{sum(run.heard.ended for run in runs)} of {calls}",
        str(sum(run.missing for run in runs)),
        str(sum(run.disordered for run in runs)),
        str(sum(run.repeated for run in runs)),
        str(sum(sum(run.keys_left.values()) for run in runs)),
        spread([run.stopped_s for run in runs]),
        f"{behind:.0f}{'!' if behind > BEHIND_MS else ''}",
        spread([run.loop_ms for run in runs]),
    ]


def _engine_row(figure: Figure) -> list[str]:
    return [figure.name, str(figure.held), spread(figure.us, ".0f"), f"{figure.loop_ms:.2f}"]


def write(results: Results, directory: Path, name: str) -> Path:
    """The JSON of this run, in a file of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = directory / f"{moment}-{name}.json"
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"at": moment} | results.to_data(), indent=1) + "\n")
    unfinished.rename(path)
    return path


def _machine(results: Results) -> str:
    machine = results.machine
    load = " ".join(f"{each:.2f}" for each in machine.load_before)
    lines_ = [
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_mb} MB, Linux {machine.kernel}, {machine.python}, commit {machine.commit}",
        f"load before {load}; the loop takes {machine.loop_idle_ms:.2f} ms at its best: compare `loop ms` before you compare figures",
    ]
    if results.quick:
        lines_.append("QUICK: short runs, nothing warmed up; good for seeing that it works, not for comparing")
    return "\n".join(lines_)


def _cost_row(setup: str, cost: Cost) -> list[str]:
    latency = cost.latency
    failed = sum(run.tally.failed for run in cost.runs)
    dirty = "" if all(run.clean for run in cost.runs) else "!"
    return [
        f"{cost.stack} {setup}".strip(),
        f"{cost.rate:g}",
        spread([run.ours_ms() for run in cost.runs]),
        *(spread([run.cpu_ms[role] for run in cost.runs if role in run.cpu_ms]) for role in COLUMNS),
        *(f"{each:.1f}" for each in (latency.p50, latency.p95, latency.p99)),
        f"{failed}{dirty}",
        spread([run.loop_ms for run in cost.runs]),
    ]


def _asking_row(row: Asking) -> list[str]:
    runs = row.runs
    dirty = "" if all(run.clean for run in runs) else "!"
    return [
        f"{row.stack} {row.method}",
        f"{row.rate:g}",
        spread([run.ours_ms() for run in runs], ".3f"),
        *(spread([run.cpu_ms[role] for run in runs if role in run.cpu_ms], ".3f") for role in COLUMNS),
        spread([run.latency.p50 for run in runs], ".1f"),
        spread([run.latency.p99 for run in runs], ".1f"),
        str(sum(run.challenged for run in runs)),
        f"{sum(run.failed for run in runs)}{dirty}",
        spread([run.loop_ms for run in runs]),
    ]


def _ceiling(ceiling: Ceiling) -> str:
    held = "none" if ceiling.held is None else f"{ceiling.held:g} a second"
    rows = [
        (
            f"{run.rate:g}",
            "held"
            if run.clean
            else f"{run.failed} of {run.placed} failed, {run.webhooks} webhooks, load {run.placed_rate:.0f}/s",
            f"{run.ours_ms():.3f}",
            f"{run.latency.p50:.1f}",
            f"{run.latency.p99:.1f}",
            f"{run.loop_ms:.2f}",
        )
        for run in ceiling.steps
    ]
    return f"{ceiling.method} highest rate of {ceiling.stack} held for {ceiling.seconds:g} s: {held}\n" + table(
        ("per s", "", "ours ms", "p50", "p99", "loop ms"), rows
    )


def _capacities(capacities: Sequence[Capacity]) -> str:
    parts = []
    for capacity in capacities:
        held = "none" if capacity.held is None else f"{capacity.held:g} calls/s"
        rows = [
            (
                f"{run.rate:g}",
                "held" if run.clean and run.tally.rate >= 0.95 * run.rate else why_not(run),
                f"{run.ours_ms():.2f}",
                f"{run.cpu_ms.get('signalling', math.nan):.2f}",
                f"{run.latency.p50:.1f}",
                f"{run.latency.p99:.1f}",
                f"{run.loop_ms:.2f}",
            )
            for run in capacity.steps
        ]
        parts.append(
            f"W1 highest rate of {capacity.stack} held for {capacity.seconds:g} s: {held}\n"
            + table(("calls/s", "", "ours ms", "signalling", "p50", "p99", "loop ms"), rows)
        )
    return "\n".join(parts)


def _weight_row(weight: Weight) -> list[str]:
    short = "" if weight.held >= weight.wanted else f" of {weight.wanted} wanted"
    return [
        "bridge",
        f"{weight.held}{short}",
        *(f"{weight.per_call_kb(role):.1f}" for role in ("signalling", "media", "redis")),
        f"{weight.rss_kb['signalling'] / 1024:.0f}",
    ]


def _plain(value: object) -> Any:
    """Dataclasses as JSON's types; the thousands of single response times stay out."""
    match value:
        case Run():
            data = {name: getattr(value, name) for name in value.__slots__ if name != "milliseconds"}
            added = {"clean": value.clean, "ours_ms": value.ours_ms(), "latency": value.latency}
            return _plain(data | added)
        case Asked():
            data = {name: getattr(value, name) for name in value.__slots__}
            return _plain(data | {"clean": value.clean, "ours_ms": value.ours_ms()})
        case Heard():
            data = {name: getattr(value, name) for name in value.__slots__}
            shown = {name: latency(data[name]) for name in ("reinvited_ms", "silences_ms")}
            return _plain(data | shown)
        case Survived():
            data = {name: getattr(value, name) for name in value.__slots__}
            return _plain(data | {"clean": value.clean})
        case Growth():
            return {"ratio": value.ratio, "few": _plain(value.few), "many": _plain(value.many)}
        case Level():
            return {"net_ms": value.net_ms, "alone_ms_per_s": value.alone_ms_per_s, "cost": _plain(value.cost)}
        case RelayCost():
            return {"relay": value.relay, "calls": value.calls, "runs": _plain(value.runs)}
        case Cost():
            return {name: _plain(getattr(value, name)) for name in value.__slots__} | {"latency": _plain(value.latency)}
        case Weight():
            per_call = {role: value.per_call_kb(role) for role in value.rss_kb}
            return asdict(value) | {"per_call_kb": per_call, "ours_per_call_kb": value.per_call_kb(*OURS)}
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return round(value, 4) if math.isfinite(value) else None
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
