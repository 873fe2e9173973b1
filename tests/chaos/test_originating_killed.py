"""`kill -9` of the signalling process in the middle of a call that we make: the far end is called once (survival §4.6, §6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientConnectionError

from tests.support.application import Application, Stream
from tests.support.callee import Behaviour, Callee, IncomingCall, answers, rings, silent
from tests.support.phone import token
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import PATIENCE_S, until, until_awaited

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

AT_ONCE = 50
FAILED, ENDED = "call.attempt_failed", "call.ended"


class Originator:
    """Somebody who wants a call, and asks until it is promised."""

    def __init__(self, scene: Scene, application: Application, bridge: Served) -> None:
        self.scene = scene
        self.application = application
        self.bridge = bridge

    async def ask(self, callee: Callee, key: str, *, times: int = 1) -> set[str]:
        """So many identical requests at once; the ids of the calls that they were told of."""
        return set(await asyncio.gather(*(self._ask(callee, key) for _ in range(times))))

    async def _ask(self, callee: Callee, key: str) -> str:
        asked: dict[str, Any] = {"json": {"to": callee.uri}, "headers": {"Idempotency-Key": key}}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with self.bridge.rest("POST", "/v1/calls", **asked) as answer:
                        if answer.status == 201:
                            return str((await answer.json())["id"])
                        assert answer.status == 503, await answer.text()
                except ClientConnectionError:
                    pass  # nobody knows whether that was heard
                await asyncio.sleep(0.05)

    def kill(self) -> Callable[[], Any]:
        """`kill -9` now; what is returned waits until the next process is ready."""
        former = self.bridge.kill_child("signalling")

        async def back() -> None:
            await self.bridge.next_pid_of("signalling", former)
            await self.bridge.ready()

        return back

    async def invites(self) -> float:
        """How many have left, repetitions included."""
        labels = ('direction="out"', 'method="INVITE"', 'code_class="request"')
        counted = (await self.bridge.metrics()).items()
        return sum(value for name, value in counted if "sip_messages" in name and all(each in name for each in labels))

    async def hang_up(self, name: str) -> None:
        """By REST, which needs the new process to have taken the call over."""

        async def accepted() -> bool:
            async with self.bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
                return answer.status == 202

        await until_awaited(accepted, f"{name} can be hung up")

    async def goes_on(self, callee: Callee, name: str) -> None:
        """It is answered, may be hung up on, and was never called twice."""
        call = await callee.called()
        await call.up()
        await self.hang_up(name)
        await call.hung_up()
        stream, end = await self.ended(name)
        assert end == ("local", "hangup")
        assert "call.answered" in stream.types
        assert FAILED not in stream.types
        assert the_one(callee) is call

    async def ended(self, name: str) -> tuple[Stream, tuple[str, str]]:
        await self.application.event(ENDED, call=name)
        stream = self.application.streams[name]
        return stream, (stream.call["ended"]["by"], stream.call["ended"]["reason"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def originator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Originator]:
    async with Scene(tmp_path_factory.mktemp("originating")) as scene:
        application = await scene.application()
        bridge = await scene.bridge(application, config={"webhooks": {"schedule": QUICK_SCHEDULE}})
        yield Originator(scene, application, bridge)


def the_one(callee: Callee) -> IncomingCall:
    """The only call that has come, by one INVITE, however often that was repeated."""
    (call,) = callee.calls.values()
    assert len(call.invites) == len(call.branches) == 1
    return call


async def test_many_identical_requests_make_one_call(originator: Originator) -> None:
    callee = await originator.scene.callee()
    (name,) = await originator.ask(callee, token(), times=AT_ONCE)
    await originator.goes_on(callee, name)


async def test_killed_while_they_are_asked(originator: Originator) -> None:
    """Nobody knows which of them were heard: all are repeated, and all are told of the same call."""
    callee = await originator.scene.callee()
    asking = asyncio.create_task(originator.ask(callee, token(), times=AT_ONCE))
    await asyncio.sleep(0)  # they are on their way
    back = originator.kill()
    (name,) = await asking
    await back()
    await originator.goes_on(callee, name)


async def test_killed_when_it_has_acknowledged_the_answer(originator: Originator) -> None:
    """`call.answered` may be written, told or neither."""
    callee, key = await originator.scene.callee(), token()
    (name,) = await originator.ask(callee, key)
    await until(lambda: callee.calls and the_one(callee).is_up, "it is up", poll_s=0.0)
    await originator.kill()()
    assert await originator.ask(callee, key) == {name}, "it is remembered"
    await originator.goes_on(callee, name)


class Survivors:
    """Calls in every state in which one may be, when signalling was killed. Each test sees one of them to its end."""

    def __init__(self, originator: Originator) -> None:
        self.originator = originator
        self.callees: dict[str, Callee] = {}
        self.names: dict[str, str] = {}

    async def bring(self, what: str, behaviour: Behaviour) -> IncomingCall:
        """One more call, as far as its callee knows of it."""
        callee = self.callees[what] = await self.originator.scene.callee(behaviour)
        (self.names[what],) = await self.originator.ask(callee, what)
        return await callee.called()

    async def kill(self) -> None:
        """Bring each call to its point, kill right after one more is promised, and wait until everything is back."""
        talking = await self.bring("talking", answers)
        await talking.up()
        for what in ("rings", "given-up"):
            await self.bring(what, rings)
            await self.originator.application.event("call.ringing", call=self.names[what])
        for what in ("unheard", "answers", "busy", "given-up-unheard", "given-up-and-answers"):
            await self.bring(what, silent)
        for what in ("given-up-unheard", "given-up-and-answers"):
            await self.originator.hang_up(self.names[what])
            await self.originator.ended(self.names[what])
        promised = self.callees["promised"] = await self.originator.scene.callee()
        (self.names["promised"],) = await self.originator.ask(promised, "promised")
        back = self.originator.kill()
        the_one(self.callees["answers"]).accept()  # both into the silence: repeated, or asked for again
        the_one(self.callees["busy"]).say(486)
        the_one(self.callees["given-up-and-answers"]).accept()
        await back()

    async def goes_on(self, what: str) -> None:
        await self.originator.goes_on(self.callees[what], self.names[what])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def after(originator: Originator) -> Survivors:
    survivors = Survivors(originator)
    await survivors.kill()
    return survivors


class TestWhatACallOfOursMayBeInTheMiddleOf:
    async def test_everything_that_was_promised_is_remembered(self, after: Survivors) -> None:
        for what, name in after.names.items():
            assert await after.originator.ask(after.callees[what], what) == {name}

    async def test_promised_a_moment_before(self, after: Survivors) -> None:
        await after.goes_on("promised")

    async def test_nothing_was_heard_yet(self, after: Survivors) -> None:
        """It is asked again in the same words, and the answer counts."""
        the_one(after.callees["unheard"]).accept()
        await after.goes_on("unheard")

    async def test_ringing(self, after: Survivors) -> None:
        the_one(after.callees["rings"]).accept()
        await after.goes_on("rings")

    async def test_answered_while_nobody_was_there_to_hear_it(self, after: Survivors) -> None:
        await after.goes_on("answers")

    async def test_refused_while_nobody_was_there_to_hear_it(self, after: Survivors) -> None:
        stream, end = await after.originator.ended(after.names["busy"])
        assert end == ("remote", "busy")
        assert stream.types == ["call.initiated", FAILED, ENDED]
        assert the_one(after.callees["busy"]).is_refused

    async def test_ringing_and_given_up(self, after: Survivors) -> None:
        name = after.names["given-up"]
        await after.originator.hang_up(name)
        call = the_one(after.callees["given-up"])
        await until(lambda: call.is_canceled and call.is_refused, "CANCEL comes, and the ACK of our 487")
        stream, end = await after.originator.ended(name)
        assert end == ("local", "canceled")
        assert stream.types == ["call.initiated", "call.ringing", ENDED]

    async def test_given_up_before_anything_was_heard(self, after: Survivors) -> None:
        """Its CANCEL had to wait for a provisional response (§9.1); who comes after sends it."""
        call = the_one(after.callees["given-up-unheard"])
        await until(lambda: call.is_canceled and call.is_refused, "CANCEL comes, and the ACK of our 487")

    async def test_given_up_and_answered_while_nobody_was_there_to_hear_it(self, after: Survivors) -> None:
        call = the_one(after.callees["given-up-and-answers"])
        await call.up()
        await call.hung_up()
        stream, end = await after.originator.ended(after.names["given-up-and-answers"])
        assert end == ("local", "canceled")
        assert stream.types == ["call.initiated", ENDED]

    async def test_talking_and_the_party_hangs_up(self, after: Survivors) -> None:
        assert (await the_one(after.callees["talking"]).bye()).status == 200
        stream, end = await after.originator.ended(after.names["talking"])
        assert end == ("remote", "hangup")
        assert stream.types == ["call.initiated", "call.answered", ENDED]


async def test_given_up_and_sipp_answers_its_cancel_too_late(originator: Originator) -> None:
    """Nothing is heard of the INVITE before the process dies; its heir's CANCEL is what SIPp answers by a 200 to both."""
    server = await originator.scene.sipp_server("answers_too_late.xml")
    before = await originator.invites()
    async with originator.bridge.rest("POST", "/v1/calls", json={"to": server.uri}) as answer:
        name = (await answer.json())["id"]

    async def has_left() -> bool:
        return await originator.invites() > before

    await until_awaited(has_left, "its INVITE has left")
    await originator.hang_up(name)
    await originator.ended(name)
    await originator.kill()()
    await server.done()


async def test_every_promise_was_kept(originator: Originator) -> None:
    await originator.application.all_ended(1)
    originator.application.judge()
