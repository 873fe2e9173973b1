"""`sip-bridge demo`, as a newcomer runs it: all of it happens or it says what did not, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge import demo
from bridge.demo import INTERRUPTED, Application, Demo
from bridge.errors import StartError
from bridge.webhooks.signing import new_secret
from tests.support.programs import PORTS, Program, children_of, is_alive
from tests.support.waiting import until

LINES = (12, 46, 80)  # where the three participants stand
PHONE_BRIDGE = [
    "INVITE (SDP)",
    "100 Trying",
    "180 Ringing",
    "200 OK (SDP)",
    "ACK",
    "INVITE (SDP, sendonly)",
    "200 OK (SDP, recvonly)",
    "ACK",
    "INVITE (SDP)",
    "200 OK (SDP)",
    "ACK",
    "BYE",
    "200 OK",
    "INVITE (SDP)",
    "100 Trying",
    "486 Busy Here",
    "ACK",
]
BRIDGE_APPLICATION = [
    "call.incoming #1",
    "200: ring, pause, answer",
    "action.completed #2",
    "call.answered #3",
    "call.held #4",
    "call.resumed #5",
    "DELETE /v1/calls/{id}",
    "202 Accepted",
    "call.ended #6 (hangup)",
    "call.incoming #1",
    "200: reject 486",
    "call.ended #2 (busy)",
]


def between(output: str, left: int, right: int) -> list[str]:
    """What stands on the arrows between two lines of the ladder."""
    drawn = [line[left : right + 1] for line in output.splitlines() if re.match(r" +\d+\.\d{3}s ", line)]
    arrows = [part for part in drawn if "─" in part]
    assert all(part.startswith("│") and part.endswith("│") for part in arrows)
    return [part.strip("│─◀▶ ") for part in arrows]


class Run:
    """`python -m bridge demo`, and every process that belongs to it."""

    def __init__(self, directory: Path, *options: str) -> None:
        temporary = directory / "tmp"
        temporary.mkdir()
        self.temporary = temporary
        # What the operator has set for a bridge of his own must not reach this one.
        strange = {"BRIDGE_SIP__LISTEN": "udp:192.0.2.1:5060", "BRIDGE_CONFIG": "/nowhere", "TMPDIR": str(temporary)}
        self.program = Program(
            [sys.executable, "-m", "bridge", "demo", *options], output=directory / "output", environ=strange
        )

    async def family(self) -> list[int]:
        """It and all below it, once the bridge is up."""
        await until(lambda: "shown below" in self.program.said(), self.program.said)
        found, new = [], [self.program.pid]
        while new:
            found += new
            new = [child for pid in new for child in children_of(pid)]
        return found

    async def ended(self) -> int:
        await until(lambda: self.program.code() is not None, "the demo ends")
        return self.program.wait()


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for each in started:
        each.program.kill()


async def test_a_whole_call_happens_and_is_drawn(runs: list[Run], tmp_path: Path) -> None:
    run = Run(tmp_path)
    runs.append(run)
    assert await run.ended() == 0, run.program.said()
    said = run.program.said()
    assert between(said, *LINES[:2]) == PHONE_BRIDGE
    assert between(said, *LINES[1:]) == BRIDGE_APPLICATION
    heads = [line for line in said.splitlines() if line.split() == ["phone", "bridge", "application"]]
    assert len(heads) == 2
    for place, name in zip(LINES, ("phone", "bridge", "application"), strict=True):
        assert heads[0].index(name) + len(name) // 2 == place
    assert re.search(r"alice sent \d+ RTP packets, the bridge counted \d+", said)
    assert "All of it happened" in said
    assert "Did not happen" not in said
    assert list(run.temporary.iterdir()) == []


async def test_what_did_not_happen_is_said_and_is_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_ANSWERING", [{"action": "reject", "code": 403}])
    lines: list[str] = []
    async with asyncio.timeout(60.0):
        code = await Demo(say=lines.append).run(stay=False, host="127.0.0.1", port=None, data_dir=None)
    assert code == 1
    assert [line for line in lines if line.startswith("Did not")] == ["Did not happen: alice is answered with 200"]
    assert any("403 Forbidden" in line for line in lines)
    assert not any("All of it happened" in line for line in lines)


async def test_a_webhook_that_is_not_signed_is_not_taken_and_is_told() -> None:
    lines: list[str] = []
    run = Demo(say=lines.append)
    application = Application(new_secret(), run._show_http)
    server = TestServer(application.app())
    async with TestClient(server) as client, client.post("/calls", json={"type": "call.incoming"}) as answer:
        assert answer.status == 401
    assert run._conclude(application) == 1
    assert lines[-1] == "Did not happen: every webhook is signed; 1 were not"


async def test_a_bridge_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StartError, match="the bridge ended with code 1; its lines above say why"):
        await Demo(say=print).run(stay=False, host="127.0.0.1", port=None, data_dir=None)


async def test_staying_it_ends_cleanly_with_everything_it_started(runs: list[Run], tmp_path: Path) -> None:
    port = PORTS.one()
    run = Run(tmp_path, "--stay", "--host", "127.0.0.1", "--port", str(port))
    runs.append(run)
    family = await run.family()
    assert len(family) == 5  # itself, the supervisor, store, media worker, signalling
    said = run.program.said()
    assert f"SIP on udp:127.0.0.1:{port}" in said
    assert f"call sip:100@127.0.0.1:{port}" in said
    run.program.send(signal.SIGINT)
    assert await run.ended() == 0, run.program.said()
    assert not any(is_alive(pid) for pid in family)
    assert list(run.temporary.iterdir()) == []


@pytest.mark.parametrize(("stay", "code"), [(True, 0), (False, INTERRUPTED)])
async def test_sigterm_ends_it_too_whatever_it_is_doing(stay: bool, code: int) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def run() -> int:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what it has started is ended before it returns
            ended.set()
        raise AssertionError("it waits for ever")

    told = asyncio.create_task(demo._until_told(run(), stay=stay))
    await began.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await told == code
    assert ended.is_set()


@pytest.mark.chaos
async def test_killed_it_leaves_no_bridge_behind(runs: list[Run], tmp_path: Path) -> None:
    run = Run(tmp_path, "--stay", "--host", "127.0.0.1", "--port", str(PORTS.one()))
    runs.append(run)
    family = await run.family()
    run.program.send(signal.SIGKILL)
    await until(lambda: not any(is_alive(pid) for pid in family), "the kernel tells the bridge")


@pytest.mark.chaos
async def test_a_bridge_that_dies_ends_it(runs: list[Run], tmp_path: Path) -> None:
    run = Run(tmp_path, "--stay", "--host", "127.0.0.1", "--port", str(PORTS.one()))
    runs.append(run)
    family = await run.family()
    os.kill(family[1], signal.SIGTERM)  # the supervisor
    assert await run.ended() == 1
    assert "The bridge ended by itself, with code 0" in run.program.said()
