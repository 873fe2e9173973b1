"""W6: what becomes of calls when their node is killed with `kill -9`, or stopped: three nodes, one of which has all the calls.

Who tells: the phones what they hear and are asked, the application what has been told of each call, Redis what is left. When
something happened is by the clock of this machine, that all of them share.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.answered import Say
from benchmarks.load import percentile
from benchmarks.machine import Calibration
from benchmarks.nodes import Cluster, start_nodes
from benchmarks.pairs import GO, HANG_UP, READY
from benchmarks.processes import BenchmarkError, Process
from benchmarks.stacks import CALLEE_PORT, JOINED_WEBHOOKS, REDIS_PORT, ROOT, Stack, Variant, pairs_host

KILLED, DRAINED = "kill -9", "SIGTERM"
STEADY_S = 2.0  # of talk that is not disturbed
AFTER_S = 3.5  # of talk at the new nodes: all that only say a word each second have said one
RECOVERY_S = 45.0  # until no more calls can be expected to be taken over
DRAIN_S = 150.0  # cluster.drain_limit_s, and what a stop may take besides
CLEAN_UP_S = 15.0  # until what is cleaned up lazily is gone
PHONES_S = 400.0
# Of these there is none while no call is up. `call` is the final record, kept for `store.retention_s`, and in `calls` it is listed.
KINDS_OF_A_CALL = frozenset({"conv", "out", "owned", "due", "call", "streams"})


@dataclass(frozen=True, slots=True)
class Heard:
    """What the phones have found."""

    lost: int  # calls: hung up on, not heard any more, or without a BYE that was answered
    reinvited_ms: tuple[
        float, ...
    ]  # from the end of the node until the answer of each phone to its last re-INVITE had its ACK
    silences_ms: tuple[float, ...]  # the longest of each phone that talks
    byes: Counter[int]  # answers to those of the phones, by status; 0: none
    ended: int  # calls over by a BYE that was answered with 200, whosever it was
    steady_ms: float  # the longest silence of all before anything happened
    behind_ms: float  # by how much the phones fell behind their own clock at worst


@dataclass(frozen=True, slots=True)
class Survived:
    """One run."""

    how: str
    calls: int
    heard: Heard
    stopped_s: float  # until the processes of the node were gone
    recovered: int  # calls, by `call.recovered`
    missing: int  # webhooks
    disordered: int
    repeated: int
    unsigned: int
    keys_left: dict[str, int]  # in Redis, by kind
    loop_ms: float

    @property
    def clean(self) -> bool:
        """Nothing was lost, nothing was left, nothing is untold."""
        whole = self.heard.lost == 0 and self.heard.ended == self.recovered == self.calls
        return whole and not (self.missing or self.disordered or self.unsigned or self.keys_left)


@dataclass(frozen=True, slots=True)
class Survival:
    """Several runs: one row of the table."""

    how: str
    runs: tuple[Survived, ...]

    @property
    def silences_ms(self) -> list[float]:
        """Of all runs, in order."""
        return sorted(each for run in self.runs for each in run.heard.silences_ms)


def measure_survival(how: str, *, pairs: int, talking: int, directory: Path, say: Say) -> Survived:
    """Bring up a cluster, put `pairs` through at one node, end that node, hang up, and look what is left."""
    directory.mkdir(parents=True)
    with ExitStack() as ends:
        variant = Variant(media_workers=1, pairs=True, verify=True)
        cluster = start_nodes(ends, directory / "cluster", variant)
        run = _Run(cluster, how, pairs, talking)
        with Calibration() as speed:
            phones = run.start_phones(ends, directory)
            run.put_through(phones, directory)
            ended_ns, stopped_s = run.end_node()
            run.await_recovery()
            time.sleep(AFTER_S)
            heard = run.hang_up(phones, directory, ended_ns)
        survived = run.judge(heard, stopped_s, speed.loop_ms)
    last = max(heard.reinvited_ms, default=0.0)
    say(
        f"W6 {how}: {heard.lost} of {2 * pairs} calls lost, the last re-INVITE answered after {last:.0f} ms, "
        f"worst silence {max(heard.silences_ms):.0f} ms" + ("" if survived.clean else " NOT CLEAN")
    )
    return survived


class _Run:
    """One run, step by step."""

    def __init__(self, cluster: Cluster, how: str, pairs: int, talking: int) -> None:
        self._stack: Stack = cluster.stack
        self._node = cluster.nodes[0]
        self._others = cluster.nodes[1:]
        self._how, self._pairs, self._talking = how, pairs, talking
        self._keys_before = self._keys()

    def start_phones(self, ends: ExitStack, directory: Path) -> Process:
        told: list[object] = [self._node.host, pairs_host(self._stack.host), CALLEE_PORT, self._pairs, self._talking]
        command = [sys.executable, "-m", "benchmarks.pairs", *map(str, told), f"{PHONES_S:g}"]
        phones = Process("pairs", command, directory=directory, environment={"PYTHONPATH": str(ROOT)}, patience_s=1.0)
        ends.callback(phones.end)
        return phones

    def put_through(self, phones: Process, directory: Path) -> None:
        """All are joined and hear each other, the application knows it, and nothing else has happened for a while."""
        phones.await_ready((directory / READY).exists, 60.0 + self._pairs / 10)
        wanted = 2 * self._pairs
        self._await(lambda: self._stack.counts().get("call.joined", 0) >= wanted, 20.0, "all are joined")
        if not self._left():
            raise BenchmarkError(f"W6: Redis has no key of any call that is up, of the kinds {sorted(KINDS_OF_A_CALL)}")
        time.sleep(STEADY_S)
        (directory / GO).touch()
        time.sleep(0.5)

    def end_node(self) -> tuple[int, float]:
        """When it was ended, by the clock in nanoseconds, and how long it took until it was gone."""
        began_ns, began = time.time_ns(), time.monotonic()
        if self._how == KILLED:
            self._node.process.kill_family()
        else:
            self._node.process.terminate()
            code = self._node.process.wait(DRAIN_S)
            if code != 0:
                raise BenchmarkError(f"the node ended with {code}:\n{self._node.process.last_words()}")
        return began_ns, time.monotonic() - began

    def await_recovery(self) -> None:
        """Until all calls are, or no more can be expected to be: that is for the figures to say."""
        deadline = time.monotonic() + RECOVERY_S
        while self._recovered() < 2 * self._pairs and time.monotonic() < deadline:
            time.sleep(0.1)

    def hang_up(self, phones: Process, directory: Path, ended_ns: int) -> Heard:
        (directory / HANG_UP).touch()
        if phones.wait(60.0 + self._pairs / 10) != 0:
            raise BenchmarkError(f"the phones failed:\n{phones.last_words()}")
        return read_phones(phones.log.read_text(), ended_ns)

    def judge(self, heard: Heard, stopped_s: float, loop_ms: float) -> Survived:
        """Once all webhooks have come and what is cleaned up has been, or patience is over."""
        deadline = time.monotonic() + CLEAN_UP_S
        while (self._missing() or self._left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for node in self._others:
            if node.process.ended is not None:
                raise BenchmarkError(f"{node.process.name} ended too:\n{node.process.last_words()}")
        told = self._stack.told()
        return Survived(
            how=self._how,
            calls=2 * self._pairs,
            heard=heard,
            stopped_s=stopped_s,
            recovered=self._recovered(),
            missing=self._missing(),
            disordered=told["disordered"],
            repeated=told["repeated"],
            unsigned=told["unsigned"],
            keys_left=self._left(),
            loop_ms=loop_ms,
        )

    def _recovered(self) -> int:
        return self._stack.counts().get("call.recovered", 0)

    def _missing(self) -> int:
        return count_missing(self._stack.told(), self._pairs)

    def _keys(self) -> dict[str, bool]:
        """Every key, and whether it goes by itself."""
        with Redis(host=self._stack.host, port=REDIS_PORT, decode_responses=True) as redis:
            return {key: redis.ttl(key) != -1 for key in redis.scan_iter(count=1000)}

    def _left(self) -> dict[str, int]:
        return count_left(self._keys(), self._keys_before)

    def _await(self, is_so: Callable[[], bool], patience_s: float, what: str) -> None:
        deadline = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"W6: not within {patience_s:g} s: {what}; {self._stack.told()}")
            time.sleep(0.1)


def read_phones(text: str, ended_ns: int) -> Heard:
    """The last line of `pairs`. BenchmarkError when there is none."""
    try:
        found = json.loads(text.splitlines()[-1])
        legs = found["legs"]
        return Heard(
            lost=sum(leg["early"] or leg["deaf"] or not leg["over"] for leg in legs),
            reinvited_ms=tuple(
                (leg["reinvited_ns"] - ended_ns) / 1e6 for leg in legs if leg["reinvited_ns"] > ended_ns
            ),
            silences_ms=tuple(sorted(leg["silence_ns"] / 1e6 for leg in legs if leg["talking"])),
            byes=Counter(found["byes"]),
            ended=sum(leg["over"] for leg in legs),
            steady_ms=found["steady_ms"],
            behind_ms=found["behind_ms"],
        )
    except (ValueError, KeyError, TypeError, IndexError):
        raise BenchmarkError(f"the phones have found nothing:\n{text[-1000:]}") from None


def count_missing(told: Mapping[str, Any], pairs: int) -> int:
    """Webhooks that should have come: what was passed over in a call, and what of the nine of each pair is not there."""
    types = told["types"]
    came: int = sum(number for kind, number in types.items() if kind != "call.recovered")
    passed_over: int = told["missing"]
    return max(passed_over, JOINED_WEBHOOKS * pairs - came)


def count_left(keys: Mapping[str, bool], before: Iterable[str]) -> dict[str, int]:
    """Keys of calls that nothing will remove, by kind. `keys`: each, and whether it goes by itself."""
    known = set(before)
    kinds = (key.split(":")[1] for key, goes in keys.items() if not goes and key not in known)
    return dict(Counter(kind for kind in kinds if kind in KINDS_OF_A_CALL))


def spread_ms(values: list[float]) -> tuple[float, float, float]:
    """p50, p95 and the worst of ascending values."""
    return percentile(values, 0.5), percentile(values, 0.95), percentile(values, 1.0)
