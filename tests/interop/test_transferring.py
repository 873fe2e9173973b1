"""baresip is transferred: a real phone takes our REFER, calls whom it is sent to, and tells us by its NOTIFYs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions
from tests.support.baresip import Baresip
from tests.support.callee import answers, says
from tests.support.scene import Scene
from tests.support.served import Served

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


async def desk(event: Event) -> web.StreamResponse:
    """Answers; what happens then is asked for by REST."""
    return actions("answer") if event["type"] == "call.incoming" else web.Response()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("transferring")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest_asyncio.fixture(loop_scope="module")
async def phone(scene: Scene, bridge: Served, application: Application) -> AsyncIterator[Baresip]:
    """One that has called us, and is answered."""
    application.streams.clear()
    phone = Baresip(scene.place("baresip"))
    await phone.start()
    await phone.command("dial", f"sip:100@127.0.0.1:{bridge.sip_port}")
    await application.event("call.answered")
    yield phone
    await phone.stop()


async def transfer(bridge: Served, application: Application, to: str) -> str:
    call = str((await application.event("call.answered"))["data"]["call_id"])
    async with bridge.rest("POST", f"/v1/calls/{call}/transfer", json={"to": to}) as answer:
        assert answer.status == 202, await answer.text()
    return call


async def test_a_phone_that_reaches_its_target_is_hung_up_on(
    scene: Scene, phone: Baresip, bridge: Served, application: Application
) -> None:
    bob = await scene.callee()
    bob.behaviour = answers
    await transfer(bridge, application, bob.uri)
    await (await bob.called()).up()
    completed = await application.event("transfer.completed")
    assert completed["data"]["code"] == 200
    ended = await application.event("call.ended")
    assert (ended["data"]["ended"]["by"], ended["data"]["ended"]["reason"]) == ("local", "transferred")
    application.judge()


async def test_a_phone_whose_target_is_busy_stays(
    scene: Scene, phone: Baresip, bridge: Served, application: Application
) -> None:
    bob = await scene.callee()
    bob.behaviour = says(486)
    call = await transfer(bridge, application, bob.uri)
    failed = await application.event("transfer.failed")
    assert failed["data"]["code"] == 486
    assert (await bridge.read(f"/v1/calls/{call}"))["state"] == "answered"
    async with bridge.rest("DELETE", f"/v1/calls/{call}") as answer:
        assert answer.status == 202
    await application.event("call.ended")
    application.judge()
