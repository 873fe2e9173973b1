"""The application is down, dies, or answers anything but what it should: no call is harmed, and the console says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.acts import hang_up_all, hold
from tests.support.application import Application, Event, HangsUp, Reply, actions, answering
from tests.support.caller import Caller, OutgoingCall
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

BUSY = [{"action": "reject", "code": 486}]
CONFIG = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 1}}


class Line:
    """A number of the bridge's, the applications behind it, and somebody who calls it. Its fallback plan is 486."""

    def __init__(self, number: str, first: Application, second: Application | None = None) -> None:
        self.number = number
        self.first = first
        self.second = second
        self.bridge: Served
        self.caller: Caller

    def configuration(self, hooks: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"line-{self.number}"
        return {"name": name, "match": {"users": [self.number]}, "webhooks": hooks, "fallback": BUSY}

    def hook(self, **more: Any) -> dict[str, Any]:
        return {"id": f"hook-{self.number}", "url": self.first.url, "decision": True, **more}

    def call(self) -> OutgoingCall:
        return self.caller.call(self.number)

    async def backlog(self) -> float:
        return (await self.bridge.metrics())[f'bridge_webhook_backlog{{endpoint="hook-{self.number}"}}']

    def advice(self, event: str) -> str:
        """What the console has said last about such an event, and that it said it in one line."""
        lines = self.bridge.said(event)
        assert lines, f"no line says {event}"
        assert "\n" not in lines[-1]["advice"]
        return str(lines[-1]["advice"])


@dataclass
class House:
    """One bridge for all these tests: each has a line of its own, so what one endpoint suffers is nobody else's."""

    never_up: Line
    dying: Line
    failing: Line
    gone: Line
    with_fallback: Line
    with_archive: Line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with Scene(tmp_path_factory.mktemp("receivers")) as scene:
        never_up = Line("100", await scene.application(up=False))
        dying = Line("200", await scene.application())
        failing = Line("300", await scene.application())
        gone = Line("400", await scene.application(dead_events=True))
        # To each of these two the stream has a gap: what one has taken is not said to the other again.
        two = [await scene.application(dead_events=True) for _ in range(2)]
        with_fallback = Line("500", *two)
        archive = await scene.application(up=False)
        with_archive = Line("600", await scene.application(), archive)
        applications = [line.configuration([line.hook()]) for line in (never_up, dying, failing, gone)]
        applications.append(with_fallback.configuration([with_fallback.hook(fallback_url=two[1].url)]))
        applications.append(with_archive.configuration([with_archive.hook(), {"id": "archive", "url": archive.url}]))
        bridge = await scene.bridge(
            dying.first, store="memory://", config={**CONFIG, "applications": applications}, media_pairs=400
        )
        house = House(never_up, dying, failing, gone, with_fallback, with_archive)
        for line in (never_up, dying, failing, gone, with_fallback, with_archive):
            line.bridge, line.caller = bridge, await scene.caller(bridge)
        yield house


async def test_down_from_the_start(house: House) -> None:
    """The fallback plan decides; what happened is delivered when the application comes."""
    line = house.never_up
    for _ in range(3):
        assert (await line.call().invite()).status == 486
    said = line.advice("decision_failed")
    assert "nothing listens" in said
    assert f"http://127.0.0.1:{line.first.port}" in said
    await line.first.start()
    await line.first.all_ended(3)
    assert line.first.judge() == {"call.incoming": 3, "action.failed": 3, "call.ended": 3}
    for event in line.first.events():
        if event["type"] == "call.ended":
            ended = event["data"]["call"]["ended"]
            assert (ended["by"], ended["reason"], ended["sip_code"]) == ("policy", "application_failed", 486)


async def test_dies_in_the_middle_of_calls(house: House) -> None:
    line = house.dying
    held = await hold(line.caller, 10, line.number)
    await line.first.stop()
    assert (await held[0].reinvite("sendonly")).status == 200
    assert set(await hang_up_all(held)) == {200}
    assert (await line.call().invite()).status == 486
    assert await line.backlog() > 10
    await line.first.start()
    await line.first.all_ended(11)
    assert line.first.judge()["call.held"] == 1

    async def nothing_waits() -> bool:
        return await line.backlog() == 0

    await until_awaited(nothing_waits, "nothing waits any more")


async def outcome(line: Line, reply: Reply) -> tuple[str, dict[str, Any]]:
    """A call whose decision is answered by `reply`: the console's line about it, and the `action.failed`."""
    decided = False  # the caller has its answer

    async def failing(event: Event) -> web.StreamResponse:
        # Once that is decided it is a notification, whose answer is not read.
        return await (answering(event) if event["type"] != "call.incoming" or decided else reply(event))

    line.first.reply = failing
    call = line.call()
    assert (await call.invite()).status == 486
    decided = True
    stream = await line.first.stream(call.call_id)
    await until(lambda: stream.ended, "its end is told")
    assert stream.types == ["call.incoming", "action.failed", "call.ended"]
    assert stream.call["ended"]["reason"] == "application_failed"
    return line.advice("decision_failed"), stream.events[1]["data"]


class TestAnswersAnythingElse:
    """One way of failing each: what the caller gets, and the words that tell the person at the console."""

    async def test_an_error(self, house: House) -> None:
        async def error(event: Event) -> web.StreamResponse:
            return web.Response(status=500)

        said, failed = await outcome(house.failing, error)
        assert "500" in said
        assert failed["code"] == "no_reply"

    async def test_a_redirect_is_not_followed(self, house: House) -> None:
        async def redirect(event: Event) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})

        said, _ = await outcome(house.failing, redirect)
        assert "not followed" in said
        assert "http://127.0.0.1:1/elsewhere" in said

    async def test_html(self, house: House) -> None:
        async def html(event: Event) -> web.StreamResponse:
            return web.Response(text="<html>It works!</html>", content_type="text/html")

        said, failed = await outcome(house.failing, html)
        assert "no JSON" in said
        assert "<html>It works!" in said
        assert failed["code"] == "invalid_reply"

    async def test_an_action_that_is_none_names_the_field(self, house: House) -> None:
        async def dance(event: Event) -> web.StreamResponse:
            return actions("ring", "dance")

        said, failed = await outcome(house.failing, dance)
        assert "actions.1" in said
        assert "dance" in said
        assert failed["field"].startswith("actions.1")

    async def test_too_much(self, house: House) -> None:
        async def flood(event: Event) -> web.StreamResponse:
            return web.Response(text="x" * 70_000)

        said, _ = await outcome(house.failing, flood)
        assert "64 KiB" in said

    async def test_a_connection_that_breaks(self, house: House) -> None:
        async def hang_up(event: Event) -> web.StreamResponse:
            raise HangsUp

        said, _ = await outcome(house.failing, hang_up)
        assert "closed the connection" in said

    async def test_silence(self, house: House) -> None:
        line, released = house.failing, asyncio.Event()

        async def silent(event: Event) -> web.StreamResponse:
            await released.wait()
            return actions("answer")  # too late: noted, and ignored

        waiting = asyncio.create_task(outcome(line, silent))
        before = len(line.bridge.said("decision_failed"))
        await until(lambda: waiting.done() or len(line.bridge.said("decision_failed")) > before, "the deadline passes")
        released.set()
        said, failed = await waiting
        assert "deadline" in said
        assert failed["code"] == "no_reply"
        await line.bridge.says("late_reply_ignored")

    async def test_nothing_at_all_is_a_decision_to_wait(self, house: House) -> None:
        """204, an empty body, `{}`: park (contract §3)."""

        async def nothing(event: Event) -> web.StreamResponse:
            return web.Response(status=204)

        line = house.failing
        line.first.reply = nothing
        call = line.call()
        invite = call.begin()
        await until(lambda: 180 in [each.status for each in call.responses], "a parked call rings")
        stream = await line.first.stream(call.call_id)
        async with line.bridge.rest("POST", f"/v1/calls/{stream.call['id']}/answer", json={}) as answer:
            assert answer.status == 202
        assert (await call.answer(invite)).status == 200
        assert (await call.bye()).status == 200
        await until(lambda: stream.ended, "its end is told")

    async def test_every_promise_was_kept(self, house: House) -> None:
        await house.failing.first.all_ended(1)
        house.failing.first.judge()


async def test_the_fallback_url_is_asked_once_and_decides(house: House) -> None:
    async def broken(event: Event) -> web.StreamResponse:
        return web.Response(status=500) if event["type"] == "call.incoming" else await answering(event)

    line, first, second = house.with_fallback, house.with_fallback.first, house.with_fallback.second
    assert second is not None
    first.reply = broken
    call = line.call()
    assert (await call.invite()).status == 200
    assert "500" in line.advice("fallback_url_asked")
    assert second.received == 1
    await first.event("call.answered")
    assert (await call.bye()).status == 200
    await first.all_ended(1)
    assert first.judge() == {"call.incoming": 1, "call.answered": 1, "call.ended": 1}
    assert first.received == 3  # the fallback has taken the decision: it is settled
    assert second.received == 1
    assert second.faults == []


async def test_one_endpoint_that_is_down_delays_neither_another_nor_a_call(house: House) -> None:
    line, archive = house.with_archive, house.with_archive.second
    assert archive is not None
    calls = await hold(line.caller, 10, line.number)
    assert set(await hang_up_all(calls)) == {200}
    await line.first.all_ended(10)
    assert archive.received == 0
    await archive.start()
    await archive.all_ended(10)
    assert archive.judge() == line.first.judge()


async def test_gone_for_good_disables_the_endpoint(house: House) -> None:
    async def gone(event: Event) -> web.StreamResponse:
        return web.Response(status=410)

    line = house.gone
    line.first.reply = gone
    assert (await line.call().invite()).status == 486
    await line.bridge.says("endpoint_disabled")
    received = line.first.received
    assert (await line.call().invite()).status == 486
    assert line.first.received == received
