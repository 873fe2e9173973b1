"""`kill -9` of the signalling process: the supervisor starts another one, and nobody's call or webhook is lost (survival §5).

Issue 2, "Shown by" 3: amid two thousand calls, while the application fails at random.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.chaos.acts import answers_again, hang_up_all, hold
from tests.support.application import Application, Event, actions, answering, moody
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

RATE = 100
HELD = 60
LOST_AT_MOST = RATE  # calls that the second of the kill may cost whoever begins or ends them just then
MOODS = (
    (0.05, "error"),
    (0.03, "hang up"),
    (0.02, "slow"),
    (0.02, "busy"),
    (0.02, "nonsense"),
    (0.01, "wrong"),
)


@pytest.mark.parametrize(
    ("calls", "kills"), [(2000, 1), pytest.param(10_000, 3, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_amid_calls_of_an_application_that_fails_at_random(scene: Scene, calls: int, kills: int) -> None:
    dice = random.Random(3)
    application = await scene.application(moody(MOODS, dice.random, slow_s=0.7))
    bridge = await scene.bridge(
        application,
        fallback=[{"action": "answer"}],
        config={
            "webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 2},
            "media": {"timeout_s": 3600},  # nobody speaks here
        },
        media_pairs=1000,
    )
    caller = await scene.caller(bridge)
    held = await hold(caller, HELD)
    run = scene.sipp(bridge, calls=calls, rate=RATE)
    for kill in range(1, kills):
        await until(lambda kill=kill: run.created() >= kill * calls // (kills + 1), "more calls", within_s=60)  # type: ignore[misc]
        await bridge.next_pid_of("signalling", bridge.kill_child("signalling"))
    await until(lambda: run.created() >= kills * calls // (kills + 1), "so many calls have begun", within_s=60)

    former, killed_at = bridge.kill_child("signalling"), time.monotonic()
    first = asyncio.create_task(hang_up_all(held[: HELD // 2]))  # into the silence: repeated until answered
    answers_after_s = await answers_again(await scene.caller(bridge)) - killed_at
    assert bridge.pid_of("signalling") != former
    assert set(await hang_up_all(held[HELD // 2 :])) == {200}
    assert set(await first) == {200}

    done = await run.done()
    await until(
        lambda: len(application.open_calls()) <= done.failed, "all calls but those that SIPp gave up", within_s=60
    )
    for name in application.open_calls():  # whose BYE was lost for good: ours to end, like any other
        async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status in (200, 202)
    await application.all_ended(done.successful + HELD, within_s=60)
    events = application.judge()
    print(f"killed amid calls: answers again after {answers_after_s:.2f} s; {done}")
    print(
        f"{sum(events.values())} events, {application.received} POSTs, answered {dict(application.answers)}: {dict(events)}"
    )
    assert done.created == calls
    assert done.failed <= LOST_AT_MOST * kills, str(done)
    assert events["call.ended"] == events["call.incoming"] == len(application.streams)
    assert events["call.answered"] >= done.successful + HELD
    assert application.answers["500"] * application.answers["hung up"] > 0, "the application did not fail"
    reasons = {stream.call["ended"]["reason"] for stream in application.streams.values()}
    assert reasons <= {"hangup", "canceled", "ack_timeout"}


class TestOneCall:
    """What a call may be in the middle of."""

    @pytest.fixture
    async def application(self, scene: Scene) -> Application:
        return await scene.application()

    @pytest.fixture
    async def bridge(self, scene: Scene, application: Application) -> AsyncIterator[Served]:
        # A decision may take longer than a restart: what is tested is that it is not lost, not that it is in time.
        config = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}}
        yield await scene.bridge(application, config=config)
        assert application.judge()

    async def restart(self, scene: Scene, bridge: Served) -> None:
        former = bridge.kill_child("signalling")
        await answers_again(await scene.caller(bridge))
        await bridge.ready()
        assert bridge.pid_of("signalling") != former

    async def test_talking(self, scene: Scene, bridge: Served, application: Application) -> None:
        """The worker plays on, its session is adopted, the dialog goes on: hold, resume, and hang up from our side."""
        caller = await scene.caller(bridge)
        (call,) = await hold(caller, 1)
        port = call.media_port
        caller.rtp.speak(port, 10)
        bridge.kill_child("signalling")
        caller.rtp.speak(port, 10)
        await answers_again(await scene.caller(bridge))
        await bridge.ready()
        caller.rtp.speak(port, 10)

        held = await call.reinvite("sendonly")
        assert (held.status, held.direction()) == (200, "recvonly")
        assert held.media_port() == port
        await application.event("call.held")
        assert (await call.reinvite("sendrecv")).direction() == "sendrecv"
        await application.event("call.resumed")

        (name,) = application.streams
        async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 202
        assert (await call.hung_up()).sequence > 0
        ended = await application.event("call.ended")
        assert ended["data"]["call"]["ended"] | {"by": "local", "reason": "hangup"} == ended["data"]["call"]["ended"]
        assert ended["data"]["quality"]["packets_received"] == 30

    async def test_waiting_for_its_decision(self, scene: Scene, bridge: Served, application: Application) -> None:
        """The application is asked again under the same webhook-id, and its answer counts."""
        asked = asyncio.Event()

        async def slow_at_first(event: Event) -> web.StreamResponse:
            if event["type"] == "call.incoming" and not asked.is_set():
                asked.set()
                await asyncio.sleep(60)
            return await answering(event)

        application.reply = slow_at_first
        call = (await scene.caller(bridge)).call()
        invite = call.begin()
        await asked.wait()
        bridge.kill_child("signalling")
        assert (await call.answer(invite)).status == 200
        await application.event("call.answered")
        (stream,) = application.streams.values()
        assert stream.duplicates >= 1
        assert (await call.bye()).status == 200
        await application.all_ended(1)

    async def test_ringing(self, scene: Scene, bridge: Served, application: Application) -> None:
        """Parked and unanswered: it can still be canceled, and the INVITE gets its 487."""
        await self.park(application)
        call = (await scene.caller(bridge)).call()
        invite = call.begin()
        await application.event("action.completed")
        await self.restart(scene, bridge)
        assert (await call.cancel()).status == 200
        assert (await call.answer(invite)).status == 487
        assert (await application.event("call.ended"))["data"]["call"]["ended"]["reason"] == "canceled"

    async def test_ringing_and_then_answered_by_rest(
        self, scene: Scene, bridge: Served, application: Application
    ) -> None:
        await self.park(application)
        call = (await scene.caller(bridge)).call()
        invite = call.begin()
        await application.event("action.completed")
        await self.restart(scene, bridge)
        (name,) = application.streams
        async with bridge.rest("POST", f"/v1/calls/{name}/answer", json={}) as answer:
            assert answer.status == 202
        assert (await call.answer(invite)).status == 200
        await application.event("call.answered")
        assert (await call.bye()).status == 200
        await application.all_ended(1)

    async def test_answered_but_not_acknowledged(self, scene: Scene, bridge: Served, application: Application) -> None:
        """The 200 is repeated until the ACK comes, whoever repeats it."""
        call = (await scene.caller(bridge)).call()
        call.acknowledges = False
        answer = await call.invite()
        await self.restart(scene, bridge)
        before = len(call.responses)
        await until(lambda: len(call.responses) > before, "the 200 comes again")
        assert call.responses[-1].status == 200
        assert call.responses[-1].body == answer.body
        assert call.responses[-1].tag("to") == answer.tag("to")
        call.acknowledges = True
        call.acknowledge(answer)
        await application.event("call.answered")
        assert (await call.bye()).status == 200
        await application.all_ended(1)

    async def test_killed_again_while_it_comes_back(
        self, scene: Scene, bridge: Served, application: Application
    ) -> None:
        held = await hold(await scene.caller(bridge), 5)
        for _ in range(3):
            former = bridge.kill_child("signalling")
            await bridge.next_pid_of("signalling", former)
        await answers_again(await scene.caller(bridge))
        assert set(await hang_up_all(held)) == {200}
        await application.all_ended(5)

    async def park(self, application: Application) -> None:
        async def parking(event: Event) -> web.StreamResponse:
            return actions("ring", {"action": "park", "timeout_s": 600})

        application.reply = parking
