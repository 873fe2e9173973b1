"""`python -m benchmarks [NAME...] [--quick] [--profile]`: measure, print tables, write JSON beside them."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import profiling
from benchmarks.answered import LINGER_S, Cost, find_capacity, measure_cost, prepare, run_load
from benchmarks.engine import measure_engine
from benchmarks.holding import Growth, Holder, Level, measure_alone, weigh
from benchmarks.machine import read_machine
from benchmarks.nodes import start_nodes
from benchmarks.peers import PACKAGES, install
from benchmarks.peers.kamailio import start_kamailio
from benchmarks.phones import OPTIONS, REGISTER
from benchmarks.processes import BenchmarkError
from benchmarks.programs import compile_programs
from benchmarks.relaying import PROGRAMS, RelayCost, Relayed, measure_relay, relays
from benchmarks.report import Results, render, write
from benchmarks.single_requests import USERS, find_ceiling, measure_requests
from benchmarks.stacks import ROOT, Stack, Variant, start_bridge, start_peer
from benchmarks.survival import DRAINED, KILLED, Survival, Survived, measure_survival

NAMES = ("engine", "w1", "w1x3", "w2", "w3", "w4", "w5", "w6", "register", "options")
RESULTS = ROOT / "benchmarks" / "results"
PAIRS_FOR_MANY = 11_384  # what stacks.MEDIA_PORTS holds


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is measured."""

    rates: tuple[float, ...] = (50, 100, 200)
    joined_rates: tuple[float, ...] = (100, 200)
    balanced_rates: tuple[float, ...] = (100, 200)
    seconds: float = 15.0
    runs: int = 3
    warm_up_s: float = LINGER_S
    levels: tuple[str, ...] = ("warning", "info")  # the first at every rate, the others at the highest
    capacity: bool = True
    capacity_seconds: float = 20.0
    capacity_first: float = 200.0
    capacity_last: float = 2000.0
    steps_max: int = 9
    held: tuple[int, ...] = (2_000, 10_000)
    growth_few: int = 100
    growth_many: int = 10_000
    growth_rate: float = 100.0
    register_rates: tuple[float, ...] = (100, 500)
    options_rates: tuple[float, ...] = (500, 1000)
    ceiling_first: tuple[float, float] = (600.0, 1_500.0)  # REGISTERs, OPTIONS
    ceiling_last: float = 8_000.0  # what the phones of the measurement can do
    ceiling_seconds: float = 8.0
    engine_held: tuple[int, ...] = (0, 10_000)
    engine_calls: int = 2_000
    engine_rounds: int = 7
    peers: tuple[str, ...] = tuple(PACKAGES)
    relayed_calls: tuple[int, ...] = (200, 1_000)
    relayed_seconds: int = 6
    relayed_runs: int = 3
    surviving_pairs: int = 250
    talking_pairs: int = 50
    surviving_runs: int = 3


QUICK = Scope(
    rates=(100,),
    joined_rates=(50,),
    balanced_rates=(100,),
    seconds=4.0,
    runs=1,
    warm_up_s=2.0,
    levels=("warning",),
    capacity=False,
    held=(300,),
    growth_few=100,
    growth_many=300,
    register_rates=(100,),
    options_rates=(500,),
    engine_held=(0,),
    engine_calls=300,
    engine_rounds=3,
    peers=(),
    relayed_calls=(50,),
    relayed_seconds=2,
    relayed_runs=1,
    surviving_pairs=20,
    talking_pairs=10,
    surviving_runs=1,
)


class Measurements:
    """One run of the program."""

    def __init__(self, scope: Scope, directory: Path, results: Results) -> None:
        self._scope = scope
        self._directory = directory
        self._results = results
        self._began = time.monotonic()
        self._started = 0

    def engine(self) -> None:
        """The engine alone."""
        scope = self._scope
        for held, joined in (*((each, False) for each in scope.engine_held), (0, True)):
            figure = measure_engine(held=held, calls=scope.engine_calls, rounds=scope.engine_rounds, joined=joined)
            self._say(f"{figure.name}, {held} held: {figure.median_us:.0f} µs/call")
            self._results.engine.append(figure)

    def w1(self, *, profile: bool) -> None:
        """The answered call: ours at each log level, then the peers."""
        scope = self._scope
        for level in scope.levels:
            first = level == scope.levels[0]
            with ExitStack() as ends:
                stack = start_bridge(ends, self._place("bridge"), Variant(log_level=level))
                prepare(stack)
                for rate in scope.rates if first else scope.rates[-1:]:
                    self._add(level, self._cost(stack, rate))
                if first and profile:
                    self._profile(stack, scope.rates[-1])
                if first and scope.capacity:
                    self._capacity(stack)
        for peer in scope.peers:
            try:
                self._peer(peer)
            except BenchmarkError as error:
                self._note(str(error))

    def w1x3(self) -> None:
        """The answered call through a balancer that gives each datagram to another of three nodes."""
        scope = self._scope
        programs = self._place("programs")
        try:
            compile_programs(programs, ("balancer",), measurement="W1×3")
        except BenchmarkError as error:
            self._note(str(error))
            return
        with ExitStack() as ends:
            stack = start_nodes(ends, self._place("nodes"), Variant(), balancer=programs / "balancer").stack
            prepare(stack)
            for rate in scope.balanced_rates:
                self._results.balanced.append(self._cost(stack, rate))

    def w2(self) -> None:
        """The joined call: every caller is sent to a callee."""
        scope = self._scope
        with ExitStack() as ends:
            stack = start_bridge(ends, self._place("joined"), Variant(dials=True))
            prepare(stack)
            for rate in scope.joined_rates:
                self._results.joined.append(self._cost(stack, rate))

    def w3(self) -> None:
        """Relays in turn, so that what disturbs the machine disturbs all of them."""
        scope = self._scope
        programs = self._place("programs")
        try:
            compile_programs(programs, PROGRAMS, measurement="W3")
        except BenchmarkError as error:
            self._note(str(error))
            return
        starts = relays(programs)
        if not scope.peers:
            del starts["rtpengine"]
        for calls in scope.relayed_calls:
            runs: dict[str, list[Relayed]] = {name: [] for name in starts}
            for _ in range(scope.relayed_runs):
                for name, start in list(starts.items()):
                    try:
                        place = self._place(name.replace(", ", "-"))
                        run = measure_relay(
                            name,
                            start,
                            calls,
                            seconds=scope.relayed_seconds,
                            programs=programs,
                            directory=place,
                            say=self._say,
                        )
                    except BenchmarkError as error:
                        self._note(str(error))
                        del starts[name]
                    else:
                        runs[name].append(run)
            self._results.relays += [RelayCost(name, calls, tuple(done)) for name, done in runs.items() if done]

    def held(self, names: Sequence[str]) -> None:
        """W4 and W5, on the same held calls."""
        scope = self._scope
        with ExitStack() as ends:
            stack = start_bridge(ends, self._place("bridge"), Variant(media_workers=2))
            prepare(stack)
            holder = Holder(stack, ends, linger_s=scope.warm_up_s, say=self._say)
            run_load(stack, 100, scope.seconds, label="churn")  # what a process that has worked weighs with nobody up
            time.sleep(scope.warm_up_s)
            base_kb = stack.rss()
            few = self._level(stack, holder, scope.growth_few) if "w5" in names else None
            if "w4" in names:
                for calls in scope.held:
                    weight = weigh(stack, holder, base_kb, calls)
                    if weight.held < calls:
                        self._note(f"W4: {weight.held} of {calls} calls could be held: {_why_fewer(calls)}")
                    self._results.weights.append(weight)
                    self._say(f"{weight.held} held: {weight.per_call_kb('signalling'):.1f} KiB per call")
            if few is not None:
                self._results.growth.append(Growth(few, self._level(stack, holder, scope.growth_many)))

    def w6(self) -> None:
        """A node is killed amid its calls, and one is stopped; each time it is another cluster."""
        scope = self._scope
        runs: dict[str, list[Survived]] = {KILLED: [], DRAINED: []}
        try:
            for how in (KILLED, DRAINED) * scope.surviving_runs:
                run = measure_survival(
                    how,
                    pairs=scope.surviving_pairs,
                    talking=scope.talking_pairs,
                    directory=self._place("survival"),
                    say=self._say,
                )
                runs[how].append(run)
        finally:
            self._results.survival += [Survival(how, tuple(made)) for how, made in runs.items() if made]

    def requests(self, methods: Sequence[str]) -> None:
        """Phones that renew their bindings, or ask what the server can do: ours, then Kamailio, then how many a second each can."""
        scope = self._scope
        starts = {"bridge": start_bridge, "kamailio": start_kamailio}
        for name in starts if scope.peers else ("bridge",):
            try:
                with ExitStack() as ends:
                    stack = starts[name](ends, self._place(name), Variant(users=USERS))
                    for method in methods:
                        self._asking(stack, method)
            except BenchmarkError as error:
                self._note(str(error))

    def _asking(self, stack: Stack, method: str) -> None:
        scope = self._scope
        for rate in scope.register_rates if method == REGISTER else scope.options_rates:
            found = measure_requests(stack, method, rate, seconds=scope.seconds, runs=scope.runs, say=self._say)
            self._results.requests.append(found)
        if scope.capacity:
            ceiling = find_ceiling(
                stack,
                method,
                first=scope.ceiling_first[method != REGISTER],
                last=scope.ceiling_last,
                seconds=scope.ceiling_seconds,
                steps_max=scope.steps_max,
                say=self._say,
            )
            self._results.ceilings.append(ceiling)

    def _level(self, stack: Stack, holder: Holder, calls: int) -> Level:
        held = holder.hold(calls)
        alone = measure_alone(stack, self._scope.seconds)
        return Level(self._cost(stack, self._scope.growth_rate, held=held), alone)

    def _peer(self, name: str) -> None:
        scope = self._scope
        library = install(name, ROOT)
        with ExitStack() as ends:
            stack = start_peer(ends, self._place(name), Variant(), name, library)
            prepare(stack)
            for rate in scope.rates:
                self._add("", self._cost(stack, rate))
            if scope.capacity:
                self._capacity(stack, first=scope.rates[0])

    def _cost(self, stack: Stack, rate: float, *, held: int = 0) -> Cost:
        scope = self._scope
        return measure_cost(
            stack, rate, seconds=scope.seconds, runs=scope.runs, warm_up_s=scope.warm_up_s, held=held, say=self._say
        )

    def _capacity(self, stack: Stack, *, first: float | None = None) -> None:
        scope = self._scope
        capacity = find_capacity(
            stack,
            first=first or scope.capacity_first,
            last=scope.capacity_last,
            seconds=scope.capacity_seconds,
            steps_max=scope.steps_max,
            say=self._say,
        )
        self._results.capacities.append(capacity)

    def _profile(self, stack: Stack, rate: float) -> None:
        """A run that is not counted: looking costs something too."""
        seconds = max(self._scope.seconds, 4.0)
        self._say(f"profiling signalling at {rate:g} calls/s")
        try:
            with ExitStack() as ends:
                spy = profiling.start(stack.pid_of("signalling"), seconds - 2.0, stack.directory)
                ends.callback(spy.end)
                run_load(stack, rate, seconds, label="profiled")
                if spy.wait(30.0) != 0:
                    raise BenchmarkError(
                        f"py-spy could not look (root, or kernel.yama.ptrace_scope=0?): {spy.last_words(3)}"
                    )
            self._results.profiles.append(profiling.read((stack.directory / "profile.raw").read_text()))
        except BenchmarkError as error:
            self._note(str(error))

    def _add(self, setup: str, cost: Cost) -> None:
        label = f"log {setup}" if setup else ""
        self._results.costs.append((label, cost))

    def _place(self, name: str) -> Path:
        self._started += 1
        return self._directory / f"{self._started}-{name}"

    def _note(self, text: str) -> None:
        self._results.notes.append(text)
        self._say(text)

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", file=sys.stderr, flush=True)


def _why_fewer(calls: int) -> str:
    if calls > PAIRS_FOR_MANY:
        return f"media.ports has {PAIRS_FOR_MANY} pairs"
    return "each needs two sockets of a media worker, and RLIMIT_NOFILE bounds each worker (`ulimit -Hn`)"


def measure(names: Sequence[str], scope: Scope, results: Results, *, profile: bool, keep: bool) -> None:
    """Measure what is asked for, into `results`: what was finished is there, whatever happens later."""
    directory = Path(tempfile.mkdtemp(prefix="bridge-benchmarks-"))
    measurements = Measurements(scope, directory, results)
    try:
        if "engine" in names:
            measurements.engine()
        if "w1" in names:
            measurements.w1(profile=profile)
        if "w1x3" in names:
            measurements.w1x3()
        if "w2" in names:
            measurements.w2()
        if "w3" in names:
            measurements.w3()
        if {"w4", "w5"} & set(names):
            measurements.held(names)
        if "w6" in names:
            measurements.w6()
        if methods := [each for each in (REGISTER, OPTIONS) if each.lower() in names]:
            measurements.requests(methods)
    finally:
        if keep:
            print(f"logs are in {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _interrupted(number: int, _: object) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # once is enough: what follows is the ending of what was started
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything was measured, 1 when it could not be, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure; default: {' '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes: does it work, and roughly")
    parser.add_argument("--profile", action="store_true", help="also py-spy on signalling under W1's highest rate")
    parser.add_argument("--no-peers", action="store_true", help="ours only")
    parser.add_argument("--no-capacity", action="store_true", help="do not look for the highest rate held")
    parser.add_argument("--keep", action="store_true", help="keep the logs and SIPp's files")
    options = parser.parse_args(arguments)
    names = options.names or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"{unknown[0]} is none of {', '.join(NAMES)}")
    scope = _scope(quick=options.quick, peers=not options.no_peers, capacity=not options.no_capacity)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    results = Results(read_machine(ROOT), options.quick)
    code = 0
    try:
        measure(names, scope, results, profile=options.profile, keep=options.keep)
    except BenchmarkError as error:
        results.notes.append(f"broken off: {error}")
        code = 1
    except KeyboardInterrupt:
        results.notes.append("interrupted: what stands here was finished before")
        code = 130
    print(render(results))
    print(f"\n{write(results, RESULTS, '-'.join(names) + ('-quick' if options.quick else ''))}")
    return code


def _scope(*, quick: bool, peers: bool, capacity: bool) -> Scope:
    scope = QUICK if quick else Scope()
    changes: dict[str, object] = {}
    if not peers:
        changes["peers"] = ()
    if not capacity:
        changes["capacity"] = False
    return Scope(**{name: changes.get(name, getattr(scope, name)) for name in Scope.__slots__})  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
