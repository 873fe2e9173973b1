"""The store is killed, or stopped for seconds, in the middle of calls (survival §5): callers hear nothing of it.

Live calls go on and BYE gets its 200 at once; new calls get 503 with Retry-After; every event arrives afterwards, in order.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.chaos.acts import hang_up_all, hold
from tests.support.application import Application
from tests.support.caller import Caller
from tests.support.redis import RedisServer
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.chaos

HELD = 20


class Outage:
    """Everything around one outage, and what must be so during and after it."""

    def __init__(self, application: Application, redis: RedisServer, bridge: Served, caller: Caller) -> None:
        self.application = application
        self.redis = redis
        self.bridge = bridge
        self.caller = caller

    async def pass_through(self, goes: Callable[[], None], comes_back: Callable[[], Awaitable[None]]) -> None:
        before = await hold(self.caller, HELD)
        noticed = len(self.bridge.said("store_away"))
        goes()
        await until(lambda: len(self.bridge.said("store_away")) > noticed, "it is noticed")
        assert set(await hang_up_all(before[: HELD // 2])) == {200}
        await self._new_calls_are_turned_away()
        reinvite = await before[HELD // 2].reinvite("sendonly")
        assert reinvite.status in (200, 500), "a change may have to wait for the store, and is answered all the same"
        await comes_back()
        await until_awaited(self._takes_calls, "new calls are taken again")
        assert set(await hang_up_all(before[HELD // 2 :])) == {200}
        await self._all_told()

    async def _new_calls_are_turned_away(self) -> None:
        answer = await self.caller.call().invite()
        assert answer.status == 503
        assert int(answer["retry-after"]) > 0
        began = time.monotonic()
        assert (await self.caller.call().invite()).status == 503  # once it is known, at once
        print(f"turned away after {time.monotonic() - began:.3f} s")

    async def _takes_calls(self) -> bool:
        call = self.caller.call()
        answer = await call.invite()
        if answer.status == 200:
            assert (await call.bye()).status == 200
        return answer.status == 200

    async def _all_told(self) -> None:
        # Whoever was turned away before the store knew of the call has left no trace, or a whole one.
        answered = [call for call in self.caller.calls.values() if any(each.status == 200 for each in call.responses)]
        await until(lambda: all(self._is_told(call.call_id) for call in answered), "every call's end is told")
        await until(lambda: not self.application.open_calls(), lambda: f"open: {self.application.open_calls()}")
        self.application.judge()

    def _is_told(self, sip_call_id: str) -> bool:
        stream = self.application.stream_of(sip_call_id)
        return stream is not None and stream.ended is not None


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def outage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outage]:
    async with Scene(tmp_path_factory.mktemp("outage")) as scene:
        application = await scene.application()
        redis = await scene.redis(remembers=True)
        bridge = await scene.bridge(application, store=redis.url, config={"webhooks": {"schedule": QUICK_SCHEDULE}})
        yield Outage(application, redis, bridge, await scene.caller(bridge))


@pytest.mark.asyncio(loop_scope="class")
class TestOneOutageAfterAnother:
    """A Redis that keeps its data, and one bridge through all of it."""

    async def test_killed_and_started_again(self, outage: Outage) -> None:
        await outage.pass_through(outage.redis.kill, outage.redis.start)

    async def test_stopped_for_seconds(self, outage: Outage) -> None:
        async def go_on() -> None:
            outage.redis.go_on()

        await outage.pass_through(outage.redis.pause, go_on)

    async def test_stopped_so_shortly_that_nobody_is_turned_away(self, outage: Outage) -> None:
        outage.redis.pause()
        received = outage.application.received
        call = outage.caller.call()
        invite = call.begin()
        await until(lambda: [each.status for each in call.responses] == [100], "100 leaves without the store's word")
        assert outage.application.received == received, "an event left before it was stored"
        outage.redis.go_on()
        assert (await call.answer(invite)).status == 200
        assert (await call.bye()).status == 200
        await outage.application.stream(call.call_id)
        await outage.application.all_ended(1)
        outage.application.judge()

    async def test_the_signalling_process_dies_while_the_store_is_away(self, outage: Outage) -> None:
        """It waits for the store, and then finds its calls again."""
        application, bridge, noticed = outage.application, outage.bridge, len(outage.bridge.said("store_away"))
        answered = application.count("call.answered")
        held = await hold(outage.caller, HELD)
        await until(lambda: application.count("call.answered") == answered + HELD, "every call is answered")
        outage.redis.kill()
        await until(lambda: len(bridge.said("store_away")) > noticed, "it is noticed")
        former = bridge.kill_child("signalling")
        await bridge.next_pid_of("signalling", former)
        await outage.redis.start()
        await bridge.ready()
        assert set(await hang_up_all(held)) == {200}
        await application.all_ended(HELD)
        application.judge()


async def test_killed_and_started_again_empty(scene: Scene) -> None:
    """It has forgotten everything; who carries a call writes it again."""
    application = await scene.application()
    redis = await scene.redis()
    bridge = await scene.bridge(application, store=redis.url, config={"webhooks": {"schedule": QUICK_SCHEDULE}})
    outage = Outage(application, redis, bridge, await scene.caller(bridge))
    await outage.pass_through(redis.kill, redis.start)
    kept = [call["id"] for call in (await bridge.read("/v1/calls?limit=500"))["data"]]
    told = [event["data"]["call_id"] for event in application.events() if event["type"] == "call.ended"]
    assert set(kept) >= set(told[-HELD // 2 :])


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_again_and_again_amid_two_thousand_calls(scene: Scene) -> None:
    """Who is turned away meanwhile is a failed call to SIPp; who is taken is told of, from the first to the last event."""
    application = await scene.application()
    redis = await scene.redis(remembers=True)
    config = {"webhooks": {"schedule": QUICK_SCHEDULE}}
    bridge = await scene.bridge(application, store=redis.url, config=config, media_pairs=1000)
    run = scene.sipp(bridge, calls=2000, rate=100)
    for part in (1, 2, 3, 4):
        await until(lambda part=part: run.created() >= part * 400, "more calls")  # type: ignore[misc]
        away = len(bridge.said("store_away"))
        redis.kill()
        await until(lambda away=away: len(bridge.said("store_away")) > away, "it is noticed")  # type: ignore[misc]
        await redis.start()
    done = await run.done()
    await application.all_ended(done.successful, within_s=60)
    events = application.judge()
    print(f"{done}\n{dict(events)}")
    assert done.successful > 1000
    assert events["call.answered"] >= done.successful
