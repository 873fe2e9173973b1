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

from bridge.ambient import SystemClock
from bridge.demo import application, running
from bridge.demo.acts import Acts
from bridge.demo.application import Application
from bridge.demo.place import Place
from bridge.demo.running import INTERRUPTED, Demo
from bridge.demo.score import Score
from bridge.errors import StartError
from bridge.webhooks.signing import new_secret
from tests.support.programs import PORTS, Program, children_of, is_alive
from tests.support.waiting import until

BUSY_S = 110.0  # five processes and three calls: ten seconds on an idle machine
COLUMNS = ("caller", "bridge", "callee", "application")
LINES = (12, 39, 66, 93)  # where they stand
CALLER_BRIDGE = [
    *("INVITE (SDP)", "100 Trying", "180 Ringing", "200 OK (SDP)", "ACK"),
    *("INVITE (SDP, sendonly)", "200 OK (SDP, recvonly)", "ACK"),
    *("INVITE (SDP)", "200 OK (SDP)", "ACK"),
    *("BYE", "200 OK"),
    *("INVITE (SDP)", "100 Trying", "486 Busy Here", "ACK"),
    *("INVITE (SDP)", "100 Trying", "180 Ringing", "200 OK (SDP)", "ACK", "BYE", "200 OK"),
]
BRIDGE_CALLEE = [
    *("REGISTER", "401 Unauthorized", "REGISTER", "200 OK"),
    *("INVITE (SDP)", "180 Ringing", "200 OK (SDP)", "ACK", "BYE", "200 OK"),
]
WEBHOOKS = {
    "alice": [
        *("call.incoming #1", "action.completed #2", "call.answered #3"),
        *("call.held #4", "call.resumed #5", "call.ended #6 (hangup)"),
    ],
    "bob": ["call.incoming #1", "call.ended #2 (busy)"],
    "carol": ["call.incoming #1", "call.answered #2", "call.joined #3", "call.ended #4 (hangup)"],
    "dave": [
        *("call.initiated #1", "call.ringing #2", "call.answered #3"),
        *("call.joined #4", "call.ended #5 (peer_ended)"),
    ],
    "sip:dave@127.0.0.1": ["registration.created #1"],
}
REPLIES = [r"200: ring, pause, answer", r"200: reject 486", r"200: dial sip:dave@127\.0\.0\.1:\d+"]

pytestmark = pytest.mark.timeout(120)


def arrows(output: str) -> list[tuple[str, str, str]]:
    """Who said what to whom: each arrow of the ladder, which begins and ends at participants' lines."""
    found = []
    for line in output.splitlines():
        drawn = re.search(r"[◀─](.*)[─▶]", line) if re.match(r" +\d+\.\d{3}s ", line) else None
        if drawn is not None:
            left, right = (COLUMNS[LINES.index(each)] for each in (drawn.start() - 1, drawn.end()))
            text = drawn[1].strip("─◀▶ ")
            found.append((left, right, text) if drawn[0].endswith("▶") else (right, left, text))
    return found


def between(output: str, one: str, other: str) -> list[str]:
    """What these two say to each other, once each: whoever has no answer in half a second says it again (§17.1.1.2), and that is how
    busy this machine is."""
    said = [arrow for arrow in arrows(output) if set(arrow[:2]) == {one, other}]
    return [arrow[2] for before, arrow in zip([None, *said], said, strict=False) if arrow != before]


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
        await until(lambda: "shown below" in self.program.said(), self.program.said, within_s=BUSY_S)
        found, new = [], [self.program.pid]
        while new:
            found += new
            new = [child for pid in new for child in children_of(pid)]
        return found

    async def ended(self) -> int:
        await until(lambda: self.program.code() is not None, self.program.said, within_s=BUSY_S)
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
    assert between(said, "caller", "bridge") == CALLER_BRIDGE
    assert between(said, "bridge", "callee") == BRIDGE_CALLEE
    told = [text for source, target, text in arrows(said) if (source, target) == ("bridge", "application")]
    for name, events in WEBHOOKS.items():
        assert [text.removeprefix(f"{name}: ") for text in told if text.startswith(f"{name}: ")] == events
    assert len(told) == sum(map(len, WEBHOOKS.values())) + 1
    assert "202 Accepted" in told  # of the DELETE: before or after what it has done is told
    replies = [text for source, target, text in arrows(said) if (source, target) == ("application", "bridge")]
    replies.remove("DELETE /v1/calls/{id}")
    assert all(re.fullmatch(pattern, reply) for pattern, reply in zip(REPLIES, replies, strict=True))
    heads = [line for line in said.splitlines() if line.split() == list(COLUMNS)]
    assert len(heads) == 3
    for place, name in zip(LINES, COLUMNS, strict=True):
        assert heads[0].index(name) + len(name) // 2 == place
    assert max(map(len, said.splitlines())) <= 120
    assert re.search(r"alice sent \d+ RTP packets, the bridge counted \d+", said)
    for name, other in (("carol", "dave"), ("dave", "carol")):
        counts = re.search(rf"{name} sent (\d+) RTP packets, (\d+) were passed on; {other} heard (\d+)", said)
        assert counts is not None
        assert 0 < int(counts[2]) <= int(counts[1])
        assert int(counts[3]) >= 50
    assert "All of it happened" in said
    assert "Did not happen" not in said
    assert list(run.temporary.iterdir()) == []


async def test_what_did_not_happen_is_said_and_is_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "_ANSWERING", [{"action": "reject", "code": 403}])
    lines: list[str] = []
    async with asyncio.timeout(120.0):
        code = await Demo(say=lines.append).run(stay=False, host="127.0.0.1", port=None, data_dir=None)
    assert code == 1
    assert [line for line in lines if line.startswith("Did not")] == ["Did not happen: alice is answered with 200"]
    assert any("403 Forbidden" in line for line in lines)
    assert not any("All of it happened" in line for line in lines)


async def test_a_webhook_that_is_not_signed_is_not_taken_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []
    clock = SystemClock()
    score = Score(clock=clock, say=lines.append)
    desk = Application(new_secret(), score.http, callee="sip:dave@127.0.0.1")
    place = Place("127.0.0.1", 9, 9, 9, tmp_path, key="key", password="password")
    acts = Acts(place, desk, score)
    server = TestServer(desk.app())
    async with TestClient(server) as client, client.post("/calls", json={"type": "call.incoming"}) as answer:
        assert answer.status == 401
    monkeypatch.setattr("bridge.demo.acts.PATIENCE_S", 0.1)
    await acts.play()  # where there is no bridge
    assert Demo(say=lines.append)._conclude(acts, desk) == 1
    assert lines[-2:] == [
        "Did not happen: alice gets an answer within 0.1 s",
        "Did not happen: every webhook is signed; 1 were not",
    ]


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

    told = asyncio.create_task(running._until_told(run(), stay=stay))
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
