"""`kill -9` of the signalling process: the supervisor starts another one, and nobody's call or webhook is lost (survival §5).

Issue 2, "Shown by" 3: amid two thousand calls, while the application fails at random.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.acts import answers_again, hang_up_all, hold
from tests.support.application import Application, Event, actions, answering, moody
from tests.support.caller import Caller, OutgoingCall
from tests.support.phone import Message
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.load]

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
    ("calls", "kills"),
    [
        (600, 1),
        pytest.param(2000, 1, marks=pytest.mark.slow),
        pytest.param(10_000, 3, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
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
        lambda: len(application.open_calls()) <= done.failed,
        lambda: (
            f"all calls end but those that SIPp gave up: {done}\n{len(application.open_calls())} are open, the first: "
            f"{[application.streams[name].types for name in application.open_calls()[:5]]}"
        ),
        within_s=60,
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


class Survivors:
    """Calls of every kind, one of each, that were there when signalling was killed. Each test sees one of them to its end."""

    SLOW, PARKED = "200", "300"

    def __init__(self, application: Application, bridge: Served, caller: Caller) -> None:
        self.application = application
        self.bridge = bridge
        self.caller = caller
        self.talking = caller.call()
        self.undecided = caller.call(self.SLOW)
        self.ringing = caller.call(self.PARKED)
        self.picked_up = caller.call(self.PARKED)
        self.unacknowledged = caller.call()
        self.invites: dict[str, str] = {}
        self._asked = asyncio.Event()
        application.reply = self._decide

    async def kill(self, probe: Caller) -> None:
        """Bring each call to its point, kill, and wait until everything is back."""
        assert (await self.talking.invite()).status == 200
        self.unacknowledged.acknowledges = False
        assert (await self.unacknowledged.invite()).status == 200
        for call in (self.undecided, self.ringing, self.picked_up):
            self.invites[call.call_id] = call.begin()
        await self._asked.wait()
        await self.application.event("action.completed", number=2)  # both ring
        self.caller.rtp.speak(self.talking.media_port, 10)
        former = self.bridge.kill_child("signalling")
        self.caller.rtp.speak(self.talking.media_port, 10)
        await answers_again(probe)
        await self.bridge.ready()
        assert self.bridge.pid_of("signalling") != former

    async def _decide(self, event: Event) -> web.StreamResponse:
        match event["type"], event["data"]["call"]["to"]["user"]:
            case "call.incoming", self.SLOW if not self._asked.is_set():
                self._asked.set()
                await asyncio.sleep(60)
            case "call.incoming", self.PARKED:
                return actions("ring", {"action": "park", "timeout_s": 600})
        return await answering(event)

    async def final(self, call: OutgoingCall) -> Message:
        """The answer to its INVITE."""
        return await call.answer(self.invites[call.call_id])

    async def ended(self, call: OutgoingCall) -> Event:
        stream = await self.application.stream(call.call_id)
        return await until(lambda: stream.ended or {}, "its end is told")


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def after(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Survivors]:
    async with Scene(tmp_path_factory.mktemp("killed")) as scene:
        application = await scene.application()
        # A decision may take longer than a restart: what is tested is that it is not lost, not that it is in time.
        config = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}}
        bridge = await scene.bridge(application, config=config)
        survivors = Survivors(application, bridge, await scene.caller(bridge))
        await survivors.kill(await scene.caller(bridge))
        yield survivors


@pytest.mark.asyncio(loop_scope="class")
class TestWhatACallMayBeInTheMiddleOf:
    async def test_talking(self, after: Survivors) -> None:
        """The worker plays on, its session is adopted, the dialog goes on: hold, resume, and hang up from our side."""
        call, port = after.talking, after.talking.media_port
        after.caller.rtp.speak(port, 10)
        held = await call.reinvite("sendonly")
        assert (held.status, held.direction(), held.media_port()) == (200, "recvonly", port)
        await after.application.event("call.held")
        assert (await call.reinvite("sendrecv")).direction() == "sendrecv"
        await after.application.event("call.resumed")
        name = (await after.application.stream(call.call_id)).call["id"]
        async with after.bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 202
        await call.hung_up()
        end = (await after.ended(call))["data"]
        assert (end["call"]["ended"]["by"], end["call"]["ended"]["reason"]) == ("local", "hangup")
        assert end["quality"]["packets_received"] == 30

    async def test_waiting_for_its_decision(self, after: Survivors) -> None:
        """The application is asked again under the same webhook-id, and its answer counts."""
        call = after.undecided
        assert (await after.final(call)).status == 200
        assert (await after.application.stream(call.call_id)).duplicates >= 1
        assert (await call.bye()).status == 200
        await after.ended(call)

    async def test_ringing_and_canceled(self, after: Survivors) -> None:
        call = after.ringing
        assert (await call.cancel()).status == 200
        assert (await after.final(call)).status == 487
        assert (await after.ended(call))["data"]["call"]["ended"]["reason"] == "canceled"

    async def test_ringing_and_answered_by_rest(self, after: Survivors) -> None:
        call = after.picked_up
        name = (await after.application.stream(call.call_id)).call["id"]
        async with after.bridge.rest("POST", f"/v1/calls/{name}/answer", json={}) as answer:
            assert answer.status == 202
        assert (await after.final(call)).status == 200
        assert (await call.bye()).status == 200
        await after.ended(call)

    async def test_answered_but_not_acknowledged(self, after: Survivors) -> None:
        """The 200 is repeated until the ACK comes, whoever repeats it, and is the same."""
        call = after.unacknowledged
        first, so_far = call.responses[-1], len(call.responses)
        await until(lambda: len(call.responses) > so_far, "it comes again, from the new process")
        assert {each.body for each in call.responses if each.status == 200} == {first.body}
        assert {each.tag("to") for each in call.responses if each.status == 200} == {first.tag("to")}
        call.acknowledges = True
        call.acknowledge(first)
        stream = await after.application.stream(call.call_id)
        await until(lambda: "call.answered" in stream.types, "its answer is told")
        assert (await call.bye()).status == 200
        await after.ended(call)

    async def test_held_while_it_dies_again_and_again(self, after: Survivors) -> None:
        held = await hold(after.caller, 5)
        for _ in range(2):
            await after.bridge.next_pid_of("signalling", after.bridge.kill_child("signalling"))
        assert set(await hang_up_all(held)) == {200}
        for call in held:
            await after.ended(call)

    async def test_every_promise_was_kept(self, after: Survivors) -> None:
        await after.application.all_ended(1)
        after.application.judge()
