"""Real worker processes on loopback addresses of their own, phones that are sockets, and an ear for what the client gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from bridge.calls.facts import CallId
from bridge.engine.effects import ClosePorts, OpenPorts, SetRule
from bridge.engine.inputs import Input, PortsClosed, PortsOpened
from bridge.media.client import MediaClient
from bridge.rtp.rules import Rule

Given = TypeVar("Given")

PATIENCE_S = 10.0  # of a test for something that should come at once


class Phone:
    """A far end: sends RTP, and shows what it hears."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket, self.control = _pair(host)
        self.host, self.port = self.socket.getsockname()
        self.sequence = 0
        self.ssrc = random.getrandbits(31) + 1

    def speak(
        self, to: tuple[str, int], *, packets: int = 1, payload_type: int = 0, payload: bytes = b"\xff" * 160
    ) -> None:
        for _ in range(packets):
            self.sequence += 1
            head = struct.pack("!BBHII", 0x80, payload_type, self.sequence, self.sequence * 160, self.ssrc)
            self.socket.sendto(head + payload, to)

    def press(self, to: tuple[str, int], event: int, *, ends: int = 3) -> None:
        """A key of 40 ms as payload type 101 (RFC 4733): one packet of it being down, then that it was let go."""
        timestamp = (self.sequence + 1) * 160
        for duration in (160, *(320 for _ in range(ends))):
            self.sequence += 1
            head = struct.pack("!BBHII", 0x80, 101, self.sequence, timestamp, self.ssrc)
            self.socket.sendto(head + struct.pack("!BBH", event, 0x80 if duration == 320 else 0, duration), to)

    def report(self, to: tuple[str, int], *, heard: int = 2, lost: int = 0, last: int = 0, delay: int = 0) -> bytes:
        """Send a sender report with one block, from the port above, and return it."""
        head = struct.pack("!BBHI", 0x81, 200, 12, self.ssrc)
        sent = struct.pack("!IIIII", self.ssrc, 0x12340000, 160, 1, 172)
        report = head + sent + struct.pack("!IIIIII", heard, lost, 9, 40, last, delay)
        self.control.sendto(report, to)
        return report

    @property
    def reported_at(self) -> int:
        """What an answer to its report names."""
        return (self.ssrc & 0xFFFF) << 16 | 0x1234

    def listen(self) -> bytes:
        return self.socket.recv(2048)

    def close(self) -> None:
        self.socket.close()
        self.control.close()

    def has_heard_nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]

    def rule(self, **changes: object) -> Rule:
        """What offer and answer with this phone would leave."""
        fields: dict[str, object] = {
            "remote_host": self.host,
            "remote_port": self.port,
            "sources": (self.host,),
            "latching": "strict",
            "behind_nat": False,
            "payload_types": (0, 101),
            "silence_payload_type": None,
            "clock_rate": 8000,
            "generation": 1,
            "expects_media": False,
        }
        return Rule(**(fields | changes))  # type: ignore[arg-type]


def _pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Two ports in a row, for RTP and RTCP."""
    while True:
        media, control = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        media.bind((host, 0))
        try:
            control.bind((host, media.getsockname()[1] + 1))
        except (OSError, OverflowError):
            media.close()
            control.close()
            continue
        media.settimeout(PATIENCE_S)
        control.settimeout(PATIENCE_S)
        return media, control


class WorkerProcess:
    """`python -m bridge.media.worker`, as the supervisor starts it."""

    def __init__(self, path: Path, *options: str, ports: str = "20000-20007") -> None:
        self.path = str(path)
        self.host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        self._arguments = [sys.executable, "-m", "bridge.media.worker", "--socket", self.path, "--bind", self.host]
        self._arguments += ["--ports", ports, *options]
        self.process = self._run()

    def _run(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._arguments, stderr=subprocess.PIPE, text=True)

    def restart(self) -> None:
        self.process = self._run()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`. Harmless when that has happened."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def end(self) -> tuple[int, str]:
        """What it exits with, and what it said."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


class Wire:
    """One who speaks the protocol by hand."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message).encode())

    def hear(self, *, but: str = "stats") -> dict[str, object] | None:
        """The next message that is not of the kind `but`; None at the end of the connection."""
        while data := self.socket.recv(65536):
            message: dict[str, object] = json.loads(data)
            if message["type"] != but:
                return message
        return None


class Ear:
    """What a client has given, to be waited for."""

    def __init__(self) -> None:
        self.given: list[Input] = []
        self._news = asyncio.Event()

    def __call__(self, given: Input) -> None:
        self.given.append(given)
        self._news.set()

    async def hears(self, kind: type[Given], session: str | None = None) -> Given:
        """Wait for an input of this kind, about this session, and take it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for given in self.given:
                    if isinstance(given, kind) and session in (None, getattr(given, "session", None)):
                        self.given.remove(given)
                        return given
                self._news.clear()
                await self._news.wait()


class Node:
    """A client with its ear, and the commands in short."""

    def __init__(self, *paths: str) -> None:
        self.ear = Ear()
        self.client = MediaClient(paths, advertise="192.0.2.10", give=self.ear)

    async def open(self, session: str, *, beside: str | None = None) -> int:
        self.client.open_ports(OpenPorts(session, CallId("call_1"), beside))
        return (await self.ear.hears(PortsOpened, session)).port

    def rule(self, session: str, rule: Rule) -> None:
        self.client.set_rule(SetRule(session, rule))

    async def close(self, session: str) -> PortsClosed:
        self.client.close_ports(ClosePorts(session))
        return await self.ear.hears(PortsClosed, session)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(*options: str, name: str = "media-0", ports: str = "20000-20007") -> WorkerProcess:
        worker = WorkerProcess(tmp_path / f"{name}.sock", *options, ports=ports)
        started.append(worker)
        with contextlib.suppress(TimeoutError):
            _wait_for_socket(worker)
        return worker

    yield start
    for worker in started:
        worker.signal(signal.SIGCONT)
        worker.kill()


def _wait_for_socket(worker: WorkerProcess) -> None:
    for _ in range(1000):
        if worker.process.poll() is not None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                probe.connect(worker.path)
        except (FileNotFoundError, ConnectionRefusedError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.01)
        else:
            return


@pytest.fixture
async def start_node() -> AsyncIterator[Callable[..., Awaitable[Node]]]:
    started: list[Node] = []

    async def start(*workers: WorkerProcess, heir: bool = False) -> Node:
        """`heir`: it still has to be told what its predecessor had."""
        node = Node(*[worker.path for worker in workers])
        started.append(node)
        await node.client.start()
        if not heir:
            node.client.reconcile({})
        return node

    yield start
    for node in started:
        await node.client.close()


@pytest.fixture
def phone() -> Iterator[Phone]:
    phone = Phone()
    yield phone
    phone.close()


@pytest.fixture
def other_phone() -> Iterator[Phone]:
    phone = Phone("127.0.0.2")
    yield phone
    phone.close()


@pytest.fixture
def stranger() -> Iterator[Phone]:
    phone = Phone("127.0.0.66")
    yield phone
    phone.close()
