"""baresip transfers its partner, blind and attended: a real phone sends its REFER, takes our NOTIFYs, and is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions
from tests.support.baresip import Baresip
from tests.support.callee import Callee, says
from tests.support.phone import Leg
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


class Desk:
    """Puts each caller through to whoever is called by that number, and lets phones transfer."""

    def __init__(self) -> None:
        self.callees: dict[str, Callee] = {}

    async def reply(self, event: Event) -> web.StreamResponse:
        if event["type"] == "transfer.requested":
            return actions("accept")
        if event["type"] != "call.incoming":
            return web.Response()
        if event["data"]["replaces_call_id"] is not None:
            return actions("answer")
        return actions({"action": "dial", "to": self.callees[event["data"]["call"]["to"]["user"]].uri})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("referred")) as scene:
        yield scene


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene, desk: Desk) -> Application:
    return await scene.application(desk.reply)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://", config={"applications": [opted_in(application)]})


def opted_in(application: Application) -> dict[str, object]:
    hook = {"id": "desk.0", "url": application.url, "decision": True}
    return {"name": "desk", "webhooks": [hook], "transfers": True}


@pytest_asyncio.fixture(loop_scope="module")
async def phone(scene: Scene, bridge: Served, application: Application, desk: Desk) -> AsyncIterator[Baresip]:
    """One that talks to bob."""
    application.streams.clear()
    desk.callees = {"100": await scene.callee(), "200": await scene.callee()}
    phone = Baresip(scene.place("baresip"))
    await phone.start()
    await phone.command("dial", f"sip:100@127.0.0.1:{bridge.sip_port}")
    await application.event("call.joined", number=2)
    yield phone
    await phone.stop()


async def reason_of(application: Application, sip_call_id: str) -> str:
    stream = await application.stream(sip_call_id)
    await until(lambda: stream.ended, f"{sip_call_id} ends: {stream.types}")
    return str(stream.call["ended"]["reason"])


async def hear_each_other(one: Leg, other: Leg) -> None:
    """What either of them says comes out at the other one."""
    for speaker, listener in ((one, other), (other, one)):
        heard = listener.phone.rtp.said[listener.media_port]
        before = len(heard)

        def is_heard(speaker: Leg = speaker, heard: list[int] = heard, before: int = before) -> bool:
            speaker.phone.rtp.speak(speaker.media_port)
            return len(heard) > before

        await until(is_heard, f"{speaker.call_id} is heard")


async def test_a_blind_transfer(phone: Baresip, application: Application, desk: Desk) -> None:
    bob, carol = await desk.callees["100"].called(), desk.callees["200"]
    await phone.command("transfer", carol.uri)
    connected = await carol.called()
    await connected.up()
    completed = await application.event("transfer.completed")
    assert (completed["data"]["to"], completed["data"]["code"]) == (carol.uri, 200)
    ended = await application.event("call.ended")
    assert ended["data"]["ended"]["reason"] == "transferred"
    await phone.event("CALL_CLOSED")
    await hear_each_other(bob, connected)
    assert not bob.is_over
    await bob.bye()
    await connected.hung_up()
    await application.all_ended(3)
    application.judge()


async def test_a_target_that_is_busy(phone: Baresip, application: Application, desk: Desk) -> None:
    """This phone gives up its partner then, too."""
    bob, carol = await desk.callees["100"].called(), desk.callees["200"]
    carol.behaviour = says(486)
    await phone.command("transfer", carol.uri)
    failed = await application.event("transfer.failed")
    assert failed["data"]["code"] == 486
    await application.event("call.joined", number=4)
    await bob.hung_up()
    assert "transfer failed: 486 Busy Here" in phone.said()
    await application.all_ended(3)
    ended = application.streams[failed["data"]["call_id"]].call["ended"]
    assert (ended["by"], ended["reason"]) == ("remote", "hangup")
    application.judge()


async def test_an_attended_transfer(scene: Scene, bridge: Served, application: Application, desk: Desk) -> None:
    """This release of baresip knows none: a phone of our own."""
    application.streams.clear()
    desk.callees = {"100": await scene.callee(), "200": await scene.callee()}
    caller = await scene.caller(bridge)
    first, second = caller.call("100"), caller.call("200")
    for each in (first, second):
        assert (await each.invite()).status == 200
    bob, carol = [await desk.callees[user].called() for user in ("100", "200")]
    await application.event("call.joined", number=4)
    named = f"{second.call_id};to-tag={tag_of(second.remote)};from-tag={tag_of(second.local)}"
    target = f"sip:200@127.0.0.1:{bridge.sip_port}?Replaces={quote(named, safe='')}"
    assert (await first.request("REFER", headers=f"Refer-To: <{target}>\r\n")).status == 202
    await first.hung_up()
    await second.hung_up()
    assert [each.body.strip() for each in first.asked("NOTIFY")] == ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    assert first.asked("NOTIFY")[-1]["subscription-state"] == "terminated;reason=noresource"
    assert [await reason_of(application, each.call_id) for each in (first, second)] == ["transferred", "replaced"]
    await hear_each_other(bob, carol)
    assert len(desk.callees["200"].calls) == 1, "nobody is called anew"
    await carol.bye()
    await bob.hung_up()
    await application.all_ended(4)
    application.judge()


async def test_a_phone_that_takes_a_call_over(
    scene: Scene, bridge: Served, application: Application, desk: Desk
) -> None:
    """By an INVITE with Replaces."""
    application.streams.clear()
    desk.callees = {"100": await scene.callee()}
    first, other = await scene.caller(bridge), await scene.caller(bridge)
    held = first.call("100")
    assert (await held.invite()).status == 200
    bob = await desk.callees["100"].called()
    await application.event("call.joined", number=2)
    named = f"Replaces: {held.call_id};to-tag={tag_of(held.remote)};from-tag={tag_of(held.local)}\r\n"
    taken = other.call("100")
    assert (await taken.invite(headers=named + "Require: replaces\r\n")).status == 200
    await held.hung_up()
    assert await reason_of(application, held.call_id) == "replaced"
    await hear_each_other(bob, taken)
    await taken.bye()
    await bob.hung_up()
    await application.all_ended(3)
    application.judge()


def tag_of(address: str) -> str:
    return address.rpartition(";tag=")[2]
