"""SIPp scenarios of our own, many calls of each at once: what the far end may do in the life of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, Listed, Stream, actions, answering
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

CALLS = 30
DECISIONS: dict[str, list[Listed]] = {
    "answer": ["answer"],
    "ring": ["ring", {"action": "park", "timeout_s": 600}],
    "patient": ["ring", {"action": "pause", "seconds": 0.3}, "answer"],
    "away": ["answer", {"action": "transfer", "to": "sip:carol@192.0.2.4"}],
    "busy": [{"action": "reject", "code": 486}],
    "moment": ["answer", {"action": "pause", "seconds": 0.2}, {"action": "hangup", "reason": "closing time"}],
}


async def desk(event: Event) -> web.StreamResponse:
    """The user part that is called says what happens."""
    if event["type"] != "call.incoming":
        return await answering(event)
    return actions(*DECISIONS[event["data"]["call"]["to"]["user"]])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("scenarios")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    # 64 times T1 is what a call without an ACK takes to end: 4 s here instead of 32.
    timers = {"t1_s": 0.0625, "t2_s": 0.5, "t4_s": 0.5}
    return await scene.bridge(application, store="memory://", config={"sip": {"timers": timers}}, media_pairs=400)


class Runs:
    """Plays a scenario, and says what the application saw of it."""

    def __init__(self, scene: Scene, application: Application, bridge: Served) -> None:
        self.scene = scene
        self.application = application
        self.bridge = bridge

    async def play(self, scenario: str, user: str) -> list[Stream]:
        """Every call succeeds as the scenario has it; the streams of these calls, all at their end."""
        before = set(self.application.streams)
        run = self.scene.sipp(self.bridge, scenario=f"{scenario}.xml", calls=CALLS, rate=CALLS, user=user)
        done = await run.done()
        assert (done.successful, done.failed, done.code) == (CALLS, 0, 0), str(done)
        await until(lambda: len(self.application.streams) == len(before) + CALLS, "the application knows every call")
        await self.application.all_ended(len(before) + CALLS)
        self.application.judge()
        return [stream for call, stream in self.application.streams.items() if call not in before]


@pytest_asyncio.fixture(loop_scope="module")
async def runs(scene: Scene, application: Application, bridge: Served) -> Runs:
    return Runs(scene, application, bridge)


def types(streams: list[Stream]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(stream.types) for stream in streams)


def ends(streams: list[Stream]) -> Counter[tuple[str, str, int | None]]:
    ended = [stream.call["ended"] for stream in streams]
    return Counter((each["by"], each["reason"], each["sip_code"]) for each in ended)


async def test_cancel(runs: Runs) -> None:
    streams = await runs.play("cancel", "ring")
    assert types(streams) == {("call.incoming", "action.completed", "call.ended"): CALLS}
    assert ends(streams) == {("remote", "canceled", 487): CALLS}


async def test_a_delayed_offer_is_answered_in_the_ack(runs: Runs) -> None:
    streams = await runs.play("delayed_offer", "answer")
    assert types(streams) == {("call.incoming", "call.answered", "call.ended"): CALLS}
    assert {stream.call["media"]["codec"] for stream in streams} == {"PCMA/8000"}


async def test_an_ack_that_never_comes(runs: Runs) -> None:
    streams = await runs.play("no_ack", "answer")
    assert types(streams) == {("call.incoming", "call.ended"): CALLS}
    assert ends(streams) == {("network", "ack_timeout", None): CALLS}


async def test_hold_resume_and_silence(runs: Runs) -> None:
    streams = await runs.play("hold_resume", "answer")
    told = ("call.incoming", "call.answered", "call.held", "call.resumed", "call.held", "call.ended")
    assert types(streams) == {told: CALLS}


async def test_hold_and_resume_by_update(runs: Runs) -> None:
    streams = await runs.play("update", "answer")
    told = ("call.incoming", "call.answered", "call.held", "call.resumed", "call.held", "call.ended")
    assert types(streams) == {told: CALLS}


async def test_ringing_that_arrives_for_certain(runs: Runs) -> None:
    streams = await runs.play("prack", "patient")
    assert types(streams) == {("call.incoming", "action.completed", "call.answered", "call.ended"): CALLS}


async def test_session_timer(runs: Runs) -> None:
    streams = await runs.play("session_timer", "answer")
    assert types(streams) == {("call.incoming", "call.answered", "call.ended"): CALLS}


async def test_no_codec_in_common(runs: Runs) -> None:
    streams = await runs.play("not_acceptable", "answer")
    assert ends(streams) == {("policy", "not_acceptable", 488): CALLS}


async def test_busy(runs: Runs) -> None:
    streams = await runs.play("busy", "busy")
    assert types(streams) == {("call.incoming", "call.ended"): CALLS}
    assert ends(streams) == {("local", "busy", 486): CALLS}


async def test_we_hang_up_and_say_why(runs: Runs) -> None:
    streams = await runs.play("hung_up_on", "moment")
    assert ends(streams) == {("local", "hangup", None): CALLS}


async def test_a_caller_that_is_transferred(runs: Runs) -> None:
    streams = await runs.play("transferred", "away")
    told = ("transfer.progress", "transfer.progress", "transfer.progress", "transfer.completed")
    assert types(streams) == {("call.incoming", "call.answered", *told, "call.ended"): CALLS}
    assert ends(streams) == {("local", "transferred", None): CALLS}
