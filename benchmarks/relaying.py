"""W3: CPU per relayed packet, ours beside a bare relay in C and rtpengine, under one load of G.711 phones.

All of them in turn, on loopback addresses of their own, each with one thread's worth of work. The load is a program in C:
it has to be cheaper than what it measures. Both C programs are compiled here, at run time.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answered import Say
from benchmarks.machine import Calibration
from benchmarks.peers.rtpengine import Rtpengine
from benchmarks.processes import BenchmarkError, Process, cpu_s, private_loopback
from bridge.media.neighbours import SUFFIX
from bridge.media.protocol import MAJOR, MAX_MESSAGE, MINOR, Message, decode, encode, rule_to_data
from bridge.rtp.rules import Rule

PROGRAMS = ("relay", "talk")
PHONES = 64  # of talk.c
FIRST_PORT = 20_000
PHONE_PORT = 40_000
LEARNING_S = 1  # of talk.c: packets that are not counted
POLL_S = 0.01

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Relayed:
    """One run. `us` is CPU of all the relay's processes per packet that came through."""

    us: float
    sent: int
    lost: int
    p50_ms: float  # what a packet took, from phone to phone
    p99_ms: float
    behind_ms: int  # the load fell back behind its own clock by so much: then it was none
    loop_ms: float


@dataclass(frozen=True, slots=True)
class RelayCost:
    """The runs of one relay with so many calls."""

    relay: str
    calls: int
    runs: tuple[Relayed, ...]


Started = tuple[list[tuple[Place, Place]], list[int]]  # each call's two places, and the relay's processes
Start = Callable[[ExitStack, Path, str, int], Started]  # in a directory and on a host, for so many calls


def phones_of(call: int, host: str) -> tuple[Place, Place]:
    """Where the two phones of a call are, as talk.c has it."""
    first = call % (PHONES // 2)
    return (host, PHONE_PORT + 2 * first), (host, PHONE_PORT + 2 * (first + PHONES // 2))


def phone_host(host: str) -> str:
    """The address of the phones: the next one to the relay's."""
    return f"{host.rpartition('.')[0]}.2"


def relays(programs: Path) -> dict[str, Start]:
    """Everything that is measured, by the name that it has in the table."""

    def start_one(ends: ExitStack, directory: Path, host: str, calls: int) -> Started:
        return _start_ours(ends, directory, host, calls, workers=1)

    def start_two(ends: ExitStack, directory: Path, host: str, calls: int) -> Started:
        return _start_ours(ends, directory, host, calls, workers=2)

    def start_c(ends: ExitStack, directory: Path, host: str, calls: int) -> Started:
        relay = Process("relay", [str(programs / "relay"), host, str(FIRST_PORT), str(calls)], directory=directory)
        ends.callback(relay.end)
        relay.await_ready(lambda: "ready" in relay.log.read_text())
        ports = [FIRST_PORT + 4 * call for call in range(calls)]
        return [((host, port), (host, port + 2)) for port in ports], [relay.pid]

    def start_rtpengine(ends: ExitStack, directory: Path, host: str, calls: int) -> Started:
        engine = Rtpengine(ends, directory, host)
        opened = [engine.open(f"call-{call}", *phones_of(call, phone_host(host))) for call in range(calls)]
        return [((host, first), (host, second)) for first, second in opened], [engine.process.pid]

    return {"bridge": start_one, "C": start_c, "rtpengine": start_rtpengine, "bridge, apart": start_two}


def measure_relay(
    name: str, start: Start, calls: int, *, seconds: int, programs: Path, directory: Path, say: Say
) -> Relayed:
    """Start it, let the phones talk for so long, end it."""
    directory.mkdir(parents=True)
    host = private_loopback()
    with ExitStack() as ends:
        places, pids = start(ends, directory, host, calls)
        listed = directory / "calls"
        listed.write_text("".join(f"{a[0]} {a[1]}\n{b[0]} {b[1]}\n" for a, b in places))
        command = [str(programs / "talk"), phone_host(host), str(PHONE_PORT), str(seconds + LEARNING_S), str(listed)]
        with Calibration() as speed:
            talk = Process("talk", command, directory=directory)
            ends.callback(talk.end)
            _await(talk, lambda: "counting" in talk.log.read_text(), LEARNING_S + 20.0)
            before = sum(cpu_s(pid) for pid in pids)
            _await(talk, lambda: talk.ended is not None, seconds + 60.0)
            spent = sum(cpu_s(pid) for pid in pids) - before
        run = _read(talk.last_words(1), spent, speed.loop_ms)
    say(f"W3 {name}, {calls} calls: {run.us:.2f} µs per packet, {run.lost} of {run.sent} lost")
    return run


def _await(talk: Process, condition: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline or talk.ended not in (None, 0):
            raise BenchmarkError(f"W3: the phones do not talk:\n{talk.last_words()}")
        time.sleep(POLL_S)


def _read(line: str, spent_s: float, loop_ms: float) -> Relayed:
    """The last line of talk.c."""
    try:
        sent, heard, p50, p99, behind = (int(word) for word in line.split())
    except ValueError:
        raise BenchmarkError(f"W3: the phones said {line!r}") from None
    us = spent_s * 1e6 / heard if heard else float("nan")
    return Relayed(us, sent, sent - heard, p50 / 1000, p99 / 1000, behind, loop_ms)


class _Commander:
    """Who commands a worker: signalling, reduced to what a relay needs."""

    def __init__(self, ends: ExitStack, directory: Path, host: str, number: int, pairs: int) -> None:
        self.path = directory / f"media-{number}.sock"
        first = FIRST_PORT + 2 * number * pairs
        command = [sys.executable, "-m", "bridge.media.worker", "--socket", str(self.path), "--bind", host]
        command += ["--ports", f"{first}-{first + 2 * pairs - 1}", "--grace-s", "3600"]
        self.process = Process(f"worker-{number}", command, directory=directory, environment={"PYTHONPATH": _ROOT})
        ends.callback(self.process.end)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends.callback(self._socket.close)
        self._socket.settimeout(20.0)
        self.process.await_ready(self._connects)
        self.say({"type": "hello", "v": MAJOR, "minor": MINOR})

    def _connects(self) -> bool:
        try:
            self._socket.connect(str(self.path))
        except OSError:
            return False
        return True

    def say(self, message: Message) -> None:
        self._socket.send(encode(message))

    def open(self, session: str) -> int:
        self.say({"type": "open", "session": session})
        while True:
            match decode(self._socket.recv(MAX_MESSAGE)):
                case {"type": "opened", "port": int(port)}:
                    return port
                case {"type": "no_port"} | {"type": "error"} | None as said:
                    raise BenchmarkError(f"W3: a worker refused a port: {said}")


_ROOT = str(Path(__file__).resolve().parent.parent)


def _start_ours(ends: ExitStack, directory: Path, host: str, calls: int, *, workers: int) -> Started:
    """`workers` 2: the phones of each call come to different ones."""
    pairs = 2 * calls // workers
    commanders = [_Commander(ends, directory, host, number, pairs) for number in range(workers)]
    places: list[tuple[Place, Place]] = []
    for call in range(calls):
        ports: list[int] = []
        for leg, phone in enumerate(phones_of(call, phone_host(host))):
            commander, other = commanders[leg % workers], commanders[(leg + 1) % workers]
            ports.append(commander.open(f"call-{call}-{leg}"))
            said: Message = {"type": "rule", "session": f"call-{call}-{leg}"}
            said["rule"] = rule_to_data(_rule(phone, f"call-{call}-{1 - leg}"))
            if workers > 1:
                said["via"] = f"{other.path}{SUFFIX}"
            commander.say(said)
        places.append(((host, ports[0]), (host, ports[1])))
    return places, [commander.process.pid for commander in commanders]


def _rule(phone: Place, relay_to: str) -> Rule:
    return Rule(
        remote_host=phone[0],
        remote_port=phone[1],
        sources=(phone[0],),
        latching="strict",
        behind_nat=False,
        payload_types=(0, 101),
        silence_payload_type=0,
        clock_rate=8000,
        generation=1,
        expects_media=True,
        relay_to=relay_to,
        payload_map=((0, 0), (101, 101)),
        dtmf_payload_types=(101,),
    )
