"""Behind Kamailio as a record-routing proxy: requests in the dialog pass through it both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions
from tests.support.caller import Caller
from tests.support.kamailio import Kamailio
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


async def desk(event: Event) -> web.StreamResponse:
    """300 rings for ever, everything else is answered."""
    rings = event["data"]["call"]["to"]["user"] == "300"
    return actions("ring", {"action": "park", "timeout_s": 600}) if rings else actions("answer")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("kamailio")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> Caller:
    """Whose way to the bridge leads through the proxy."""
    proxy = Kamailio(scene.place("kamailio"), bridge.sip_port)
    scene.stack.callback(proxy.kill)
    await proxy.start()
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


async def test_every_promise_was_kept(caller: Caller, application: Application) -> None:
    await application.all_ended(3)
    application.judge()
