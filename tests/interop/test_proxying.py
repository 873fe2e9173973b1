"""The bridge as a stateful proxy between real user agents: SIPp, Kamailio on both sides, phones that fork."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions
from tests.support.callee import Callee, answers, rings
from tests.support.caller import Caller
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

CALLS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("proxying")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(scene: Scene) -> Callee:
    return await scene.callee()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mobile(scene: Scene) -> Callee:
    return await scene.callee(rings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene, desk: Callee, mobile: Callee) -> Application:
    """1.. goes to the desk, and what follows past us; 4.. too, and through us; 2.. rings at both, 3.. goes by way of Kamailio."""
    outbound = await scene.kamailio(desk.port)
    plans = {
        "1": {"targets": [desk.uri]},
        "2": {"targets": [desk.uri, mobile.uri], "record_route": True},
        "4": {"targets": [desk.uri], "record_route": True},
        "3": {"targets": [f"sip:bob@127.0.0.1:{outbound.port}"], "record_route": True},
    }

    async def proxy(event: Event) -> web.StreamResponse:
        return actions({"action": "proxy", **plans[event["data"]["call"]["to"]["user"][0]]})

    return await scene.application(proxy)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest.fixture(autouse=True)
def anew(application: Application, desk: Callee, mobile: Callee) -> None:
    application.streams.clear()
    desk.calls.clear()
    mobile.calls.clear()
    desk.behaviour, mobile.behaviour = answers, rings


async def test_many_calls_by_the_route_that_we_record(
    scene: Scene, bridge: Served, application: Application, desk: Callee
) -> None:
    run = scene.sipp(bridge, scenario="proxied.xml", calls=CALLS, rate=CALLS, user="400")
    done = await run.done()
    assert (done.successful, done.failed, done.code) == (CALLS, 0, 0), str(done)
    await application.all_ended(CALLS)
    application.judge()
    assert Counter(tuple(each.types) for each in application.streams.values()) == {
        ("call.incoming", "call.proxied", "call.ended"): CALLS
    }
    for call in desk.calls.values():
        (bye,) = call.asked("BYE")
        assert len(bye.all("via")) == 2, "through us"


async def test_the_rest_of_the_dialog_goes_past_us(
    scene: Scene, bridge: Served, application: Application, desk: Callee
) -> None:
    phone = await scene.baresip()
    await phone.command("dial", f"sip:100@127.0.0.1:{bridge.sip_port}")
    await phone.event("CALL_ESTABLISHED")
    into = await desk.called()
    await into.up()
    await phone.command("hangup")
    bye = await into.hung_up()
    assert len(bye.all("via")) == 1, "straight from the caller"
    await application.all_ended(1)


async def test_the_first_who_answers_has_the_call_and_hangs_up(
    scene: Scene, bridge: Served, application: Application, desk: Callee, mobile: Callee
) -> None:
    desk.behaviour = rings
    call = (await scene.caller(bridge)).call("200")
    invite = call.begin()
    ringing = [await desk.called(), await mobile.called()]
    ringing[1].accept()
    assert (await call.answer(invite)).status == 200
    await until(lambda: ringing[0].is_canceled, "the other one is given up")
    assert "cause=200" in ringing[0].asked("CANCEL")[0]["reason"]
    await application.all_ended(1)
    (stream,) = application.streams.values()
    assert stream.types == ["call.incoming", "call.ringing", "call.proxied", "call.ended"]
    assert stream.call["ended"]["reason"] == "proxied"


async def test_it_hangs_up_through_us(scene: Scene, bridge: Served, application: Application, mobile: Callee) -> None:
    call = (await scene.caller(bridge)).call("200")
    mobile.behaviour = rings
    answer = await call.invite()
    assert answer.status == 200
    assert f"127.0.0.1:{bridge.sip_port}" in answer["record-route"]
    await application.all_ended(1)
    held = await call.reinvite("sendonly")
    assert held.status == 200
    assert (await call.bye()).status == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far_away(scene: Scene, bridge: Served) -> Caller:
    """Whose way to the bridge leads through a record-routing proxy."""
    inbound = await scene.kamailio(bridge.sip_port)
    caller = Caller(("127.0.0.1", inbound.port))
    scene.stack.callback(caller.close)
    await caller.open()
    return caller


async def test_between_two_proxies(far_away: Caller, application: Application, desk: Callee) -> None:
    call = far_away.call("300")
    assert (await call.invite()).status == 200
    into = await desk.called()
    await into.up()
    assert len(into.invite.all("record-route")) == 3
    assert len(into.invite.all("via")) == 4
    assert (await into.reinvite("sendonly")).status == 200
    assert (await call.bye()).status == 200
    bye = await into.hung_up()
    assert len(bye.all("via")) == 4, "it came through all three"
    await application.all_ended(1)


async def test_the_caller_gives_up(far_away: Caller, application: Application, desk: Callee) -> None:
    desk.behaviour = rings
    call = far_away.call("300")
    invite = call.begin()
    await until(lambda: 180 in [each.status for each in call.responses], "it rings")
    assert (await call.cancel()).status == 200
    assert (await call.answer(invite)).status == 487
    assert (await desk.called()).is_canceled
    await application.all_ended(1)
    (stream,) = application.streams.values()
    assert (stream.types[-1], stream.call["ended"]["reason"]) == ("call.ended", "canceled")
