"""Kamailio as a record-routing proxy, in front of us and in front of whom we call: requests in the dialog pass through it
both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, Listed, actions
from tests.support.callee import Callee, IncomingCall, rings
from tests.support.caller import Caller, OutgoingCall
from tests.support.kamailio import Kamailio
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("kamailio")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callee(scene: Scene) -> Callee:
    return await scene.callee()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outbound(scene: Scene, callee: Callee) -> Kamailio:
    """The way to the callee."""
    return await scene.kamailio(callee.port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene, outbound: Kamailio) -> Application:
    decisions: dict[str, list[Listed]] = {
        "300": ["ring", {"action": "park", "timeout_s": 600}],
        "400": [{"action": "dial", "to": f"sip:bob@127.0.0.1:{outbound.port}"}],
    }

    async def desk(event: Event) -> web.StreamResponse:
        """300 rings for ever, 400 is put through, everything else is answered."""
        return actions(*decisions.get(event["data"]["call"]["to"]["user"], ["answer"]))

    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> Caller:
    """Whose way to the bridge leads through the proxy."""
    proxy = await scene.kamailio(bridge.sip_port)
    caller = Caller(("127.0.0.1", proxy.port))
    scene.stack.callback(caller.close)
    await caller.open()
    return caller


async def test_the_caller_hangs_up(caller: Caller, application: Application, bridge: Served) -> None:
    call = caller.call()
    answer = await call.invite()
    assert answer.status == 200
    proxy = f"127.0.0.1:{caller.target[1]}"
    assert proxy in answer["record-route"]
    assert str(bridge.sip_port) in call.target  # straight to us, but for the route
    held = await call.reinvite("sendonly")
    assert (held.status, held.direction()) == (200, "recvonly")
    assert (await call.bye()).status == 200
    stream = await application.stream(call.call_id)
    end = await application.event("call.ended", call=stream.call["id"])
    assert end["data"]["call"]["ended"]["by"] == "remote"
    assert "call.held" in stream.types


async def test_we_hang_up(caller: Caller, application: Application, bridge: Served) -> None:
    call = caller.call()
    assert (await call.invite()).status == 200
    stream = await application.stream(call.call_id)
    async with bridge.rest("DELETE", f"/v1/calls/{stream.call['id']}") as answer:
        assert answer.status == 202
    bye = await call.hung_up()
    assert len(bye.all("via")) == 2, "it came through the proxy"
    assert int(bye["max-forwards"]) == 69
    await until(lambda: stream.ended, "its end is told")


async def test_cancel_passes_through(caller: Caller, application: Application) -> None:
    call = caller.call("300")
    invite = call.begin()
    await until(lambda: 180 in [each.status for each in call.responses], "it rings")
    assert (await call.cancel()).status == 200
    assert (await call.answer(invite)).status == 487
    stream = await application.stream(call.call_id)
    await until(lambda: stream.ended, "its end is told")
    assert stream.call["ended"]["reason"] == "canceled"


class TestFromEndToEnd:
    """Caller, proxy, bridge, proxy, callee."""

    @staticmethod
    async def up(caller: Caller, callee: Callee) -> tuple[OutgoingCall, IncomingCall]:
        before = len(callee.calls)
        call = caller.call("400")
        assert (await call.invite()).status == 200
        return call, await callee.called(before + 1)

    @staticmethod
    async def ended(application: Application, *calls: OutgoingCall | IncomingCall) -> None:
        for call in calls:
            stream = await application.stream(call.call_id)
            await until(lambda: stream.ended, "its end is told")  # noqa: B023 -- awaited here

    async def test_the_caller_hangs_up(
        self, caller: Caller, callee: Callee, outbound: Kamailio, application: Application, bridge: Served
    ) -> None:
        call, into = await self.up(caller, callee)
        assert str(outbound.port) in into.invite["record-route"]
        await until(lambda: into.is_up, "our ACK takes the route")
        name = (await application.stream(into.call_id)).call["id"]
        async with bridge.rest("POST", f"/v1/calls/{name}/hold", json={}) as answer:
            assert answer.status == 202
        await application.event("action.completed", call=name)
        (held,) = into.asked("INVITE")
        assert held.direction() == "sendonly"
        assert (await call.bye()).status == 200
        bye = await into.hung_up()
        for request in (held, bye, *into.asked("ACK")):
            assert len(request.all("via")) == 2, f"{request.method} came through the proxy"
        await self.ended(application, call, into)

    async def test_the_callee_changes_the_session_and_hangs_up(
        self, caller: Caller, callee: Callee, outbound: Kamailio, application: Application
    ) -> None:
        call, into = await self.up(caller, callee)
        await into.up()
        assert into.way == ("127.0.0.1", outbound.port)
        stream = await application.stream(into.call_id)
        await until(lambda: "call.joined" in stream.types, "they are joined")
        held = await into.reinvite("sendonly")
        assert (held.status, held.direction()) == (200, "recvonly")
        await application.event("call.held", call=stream.call["id"])
        assert (await into.reinvite("sendrecv")).direction() == "sendrecv"
        for phone, here, there, leg in (
            (caller, call, into, callee),
            (callee, into, call, caller),
        ):
            phone.rtp.speak(here.media_port, 5)
            await until(lambda: len(leg.rtp.said[there.media_port]) == 5, "they hear each other")  # noqa: B023
        assert (await into.bye()).status == 200
        bye = await call.hung_up()
        assert len(bye.all("via")) == 2
        await self.ended(application, call, into)

    async def test_we_give_it_up(
        self, callee: Callee, outbound: Kamailio, application: Application, bridge: Served
    ) -> None:
        before, callee.behaviour = len(callee.calls), rings
        async with bridge.rest("POST", "/v1/calls", json={"to": f"sip:bob@127.0.0.1:{outbound.port}"}) as answer:
            name = (await answer.json())["id"]
        await application.event("call.ringing", call=name)
        async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 202
        into = await callee.called(before + 1)
        await until(lambda: into.is_canceled and into.is_refused, "CANCEL passes through")
        await self.ended(application, into)


async def test_every_promise_was_kept(caller: Caller, application: Application) -> None:
    await application.all_ended(8)
    application.judge()
