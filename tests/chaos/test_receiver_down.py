"""The application is down, dies, or answers anything but what it should: no call is harmed, and the console says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.acts import hang_up_all, hold
from tests.support.application import Application, Event, HangsUp, Reply, actions, answering
from tests.support.caller import Caller, OutgoingCall
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

BUSY = [{"action": "reject", "code": 486}]
CONFIG = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 1}}


async def plan_for(scene: Scene, application: Application, config: dict[str, Any] | None = None) -> Served:
    """A bridge whose fallback plan is 486."""
    return await scene.bridge(application, fallback=BUSY, config=config or CONFIG, store="memory://")


def advice(bridge: Served, event: str) -> str:
    """What the console says about it, and that it says it in one line."""
    lines = bridge.said(event)
    assert lines, f"no line says {event}"
    assert "\n" not in lines[-1]["advice"]
    return str(lines[-1]["advice"])


async def test_down_from_the_start(scene: Scene) -> None:
    """The fallback plan decides; what happened is delivered when the application comes."""
    application = await scene.application(up=False)
    bridge = await plan_for(scene, application)
    caller = await scene.caller(bridge)
    for _ in range(3):
        assert (await caller.call().invite()).status == 486
    said = advice(bridge, "decision_failed")
    assert "nothing listens" in said
    assert f"http://127.0.0.1:{application.port}" in said
    await application.start()
    await application.all_ended(3)
    assert application.judge() == {"call.incoming": 3, "action.failed": 3, "call.ended": 3}
    for event in application.events():
        if event["type"] == "call.ended":
            ended = event["data"]["call"]["ended"]
            assert (ended["by"], ended["reason"], ended["sip_code"]) == ("policy", "application_failed", 486)


async def test_dies_in_the_middle_of_calls(scene: Scene) -> None:
    application = await scene.application()
    bridge = await plan_for(scene, application)
    caller = await scene.caller(bridge)
    held = await hold(caller, 10)
    await application.stop()
    assert (await held[0].reinvite("sendonly")).status == 200
    assert set(await hang_up_all(held)) == {200}
    assert (await caller.call().invite()).status == 486
    assert (await bridge.metrics())['bridge_webhook_backlog{endpoint="desk"}'] > 10
    await application.start()
    await application.all_ended(11)
    assert application.judge()["call.held"] == 1
    assert (await bridge.metrics())['bridge_webhook_backlog{endpoint="desk"}'] == 0


class Desk:
    """One bridge, and an application that fails to decide, in a way that a test chooses."""

    def __init__(self, application: Application, bridge: Served, caller: Caller) -> None:
        self.application = application
        self.bridge = bridge
        self.caller = caller
        self.decided = False  # the caller has its answer

    async def outcome(self, reply: Reply) -> tuple[str, dict[str, Any]]:
        """A call whose decision is answered by `reply`: the console's line about it, and the `action.failed`."""

        async def failing(event: Event) -> web.StreamResponse:
            # Once that is decided it is a notification, whose answer is not read.
            return await (answering(event) if event["type"] != "call.incoming" or self.decided else reply(event))

        self.application.reply = failing
        self.decided = False
        call = self.caller.call()
        assert (await call.invite()).status == 486
        self.decided = True
        await until(lambda: self._ended(call), "its end is told")
        stream = self.application.stream_of(call.call_id)
        assert stream is not None
        assert stream.types == ["call.incoming", "action.failed", "call.ended"]
        assert stream.call["ended"]["reason"] == "application_failed"
        return advice(self.bridge, "decision_failed"), stream.events[1]["data"]

    def _ended(self, call: OutgoingCall) -> bool:
        stream = self.application.stream_of(call.call_id)
        return stream is not None and stream.ended is not None


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with Scene(tmp_path_factory.mktemp("desk")) as scene:
        application = await scene.application()
        bridge = await plan_for(scene, application)
        yield Desk(application, bridge, await scene.caller(bridge))
        application.judge()


@pytest.mark.asyncio(loop_scope="class")
class TestAnswersAnythingElse:
    """One way of failing each: what the caller gets, and the words that tell the person at the console."""

    async def test_an_error(self, desk: Desk) -> None:
        async def error(event: Event) -> web.StreamResponse:
            return web.Response(status=500)

        said, failed = await desk.outcome(error)
        assert "500" in said
        assert failed["code"] == "no_reply"

    async def test_a_redirect_is_not_followed(self, desk: Desk) -> None:
        async def redirect(event: Event) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})

        said, _ = await desk.outcome(redirect)
        assert "not followed" in said
        assert "http://127.0.0.1:1/elsewhere" in said

    async def test_html(self, desk: Desk) -> None:
        async def html(event: Event) -> web.StreamResponse:
            return web.Response(text="<html>It works!</html>", content_type="text/html")

        said, failed = await desk.outcome(html)
        assert "no JSON" in said
        assert "<html>It works!" in said
        assert failed["code"] == "invalid_reply"

    async def test_an_action_that_is_none_names_the_field(self, desk: Desk) -> None:
        async def dance(event: Event) -> web.StreamResponse:
            return actions("ring", "dance")

        said, failed = await desk.outcome(dance)
        assert "actions.1" in said
        assert "dance" in said
        assert failed["field"].startswith("actions.1")

    async def test_too_much(self, desk: Desk) -> None:
        async def flood(event: Event) -> web.StreamResponse:
            return web.Response(text="x" * 70_000)

        said, _ = await desk.outcome(flood)
        assert "64 KiB" in said

    async def test_a_connection_that_breaks(self, desk: Desk) -> None:
        async def hang_up(event: Event) -> web.StreamResponse:
            raise HangsUp

        said, _ = await desk.outcome(hang_up)
        assert "closed the connection" in said

    async def test_silence(self, desk: Desk) -> None:
        released = asyncio.Event()

        async def silent(event: Event) -> web.StreamResponse:
            await released.wait()
            return actions("answer")  # too late: noted, and ignored

        desk.decided = False
        waiting = asyncio.create_task(desk.outcome(silent))
        await until(lambda: waiting.done() or desk.decided, "the deadline passes")
        released.set()
        said, failed = await waiting
        assert "deadline" in said
        assert failed["code"] == "no_reply"

    async def test_nothing_at_all_is_a_decision_to_wait(self, desk: Desk) -> None:
        """204, an empty body, `{}`: park (contract §3)."""

        async def nothing(event: Event) -> web.StreamResponse:
            return web.Response(status=204)

        desk.application.reply = nothing
        call = desk.caller.call()
        invite = call.begin()
        await until(lambda: 180 in [each.status for each in call.responses], "a parked call rings")
        stream = desk.application.stream_of(call.call_id)
        assert stream is not None
        async with desk.bridge.rest("POST", f"/v1/calls/{stream.call['id']}/answer", json={}) as answer:
            assert answer.status == 202
        assert (await call.answer(invite)).status == 200
        assert (await call.bye()).status == 200
        await until(lambda: stream.ended, "its end is told")


async def test_the_fallback_url_is_asked_once_and_decides(scene: Scene) -> None:
    async def broken(event: Event) -> web.StreamResponse:
        return web.Response(status=500) if event["type"] == "call.incoming" else await answering(event)

    # To each of them the stream has a gap: what one has taken is not said to the other again.
    first = await scene.application(broken, dead_events=True)
    second = await scene.application(dead_events=True)
    hook = {"id": "desk", "url": first.url, "fallback_url": second.url, "decision": True}
    desk = {"name": "desk", "webhooks": [hook], "fallback": BUSY}
    bridge = await scene.bridge(first, store="memory://", config={**CONFIG, "applications": [desk]})
    call = (await scene.caller(bridge)).call()
    assert (await call.invite()).status == 200
    assert "500" in advice(bridge, "fallback_url_asked")
    assert second.received == 1
    await first.event("call.answered")
    assert (await call.bye()).status == 200
    await first.all_ended(1)
    assert first.judge() == {"call.incoming": 1, "call.answered": 1, "call.ended": 1}
    assert first.received == 3  # the fallback has taken the decision: it is settled
    assert second.received == 1
    assert second.faults == []


async def test_one_endpoint_that_is_down_delays_neither_another_nor_a_call(scene: Scene) -> None:
    desk, archive = await scene.application(), await scene.application(up=False)
    hooks = [{"id": "desk", "url": desk.url, "decision": True}, {"id": "archive", "url": archive.url}]
    config = {**CONFIG, "applications": [{"name": "desk", "webhooks": hooks, "fallback": BUSY}]}
    bridge = await scene.bridge(desk, store="memory://", config=config)
    calls = await hold(await scene.caller(bridge), 10)
    assert set(await hang_up_all(calls)) == {200}
    await desk.all_ended(10)
    desk.judge()
    assert archive.received == 0
    await archive.start()
    await archive.all_ended(10)
    assert archive.judge() == desk.judge()


async def test_gone_for_good_disables_the_endpoint(scene: Scene) -> None:
    async def gone(event: Event) -> web.StreamResponse:
        return web.Response(status=410)

    application = await scene.application(gone, dead_events=True)
    bridge = await plan_for(scene, application)
    caller = await scene.caller(bridge)
    assert (await caller.call().invite()).status == 486
    await bridge.says("endpoint_disabled")
    received = application.received
    assert (await caller.call().invite()).status == 486
    assert application.received == received
