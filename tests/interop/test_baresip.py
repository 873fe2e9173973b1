"""baresip calls, without a registration, as the README tells a newcomer to (with RTP both ways)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, Listed, actions
from tests.support.baresip import Baresip
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

Dial = Callable[..., Awaitable[Baresip]]


async def desk(event: Event) -> web.StreamResponse:
    """100 is answered, 200 is busy, 300 rings for ever."""
    decisions: dict[str, list[Listed]] = {
        "200": [{"action": "reject", "code": 486}],
        "300": ["ring", {"action": "park", "timeout_s": 600}],
    }
    return actions(*decisions.get(event["data"]["call"]["to"]["user"], ["ring", "answer"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("baresip")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest_asyncio.fixture(loop_scope="module")
async def dial(scene: Scene, bridge: Served, application: Application) -> AsyncIterator[Dial]:
    """Start a phone that calls a number."""
    phones: list[Baresip] = []

    async def start(number: str, *, at_once: bool = False) -> Baresip:
        phone, uri = Baresip(scene.place("baresip")), f"sip:{number}@127.0.0.1:{bridge.sip_port}"
        phones.append(phone)
        await phone.start(uri if at_once else None)
        if not at_once:
            await phone.command("dial", uri)
        return phone

    application.streams.clear()
    yield start
    for phone in phones:
        await phone.stop()


async def ended(application: Application) -> Event:
    """The end of the one call."""
    await application.all_ended(1)
    application.judge()
    return await application.event("call.ended")


async def test_the_line_of_the_readme_is_answered(dial: Dial, application: Application) -> None:
    phone = await dial("100", at_once=True)
    await application.event("call.answered")
    await until(lambda: "Call established" in phone.said(), phone.said)
    await phone.command("hangup")
    await ended(application)


async def test_it_is_answered_talks_holds_comes_back_and_hangs_up(dial: Dial, application: Application) -> None:
    phone = await dial("100")
    await phone.event("CALL_ESTABLISHED")
    (name,) = application.streams
    await application.event("call.answered", call=name)
    await phone.command("hold")
    await application.event("call.held", call=name)
    await phone.command("resume")
    await application.event("call.resumed", call=name)
    await phone.event("CALL_RTPESTAB")  # it hears us
    await phone.command("hangup")
    end = (await ended(application))["data"]
    assert end["call"]["ended"] | {"by": "remote", "reason": "hangup"} == end["call"]["ended"]
    assert end["call"]["media"]["codec"] == "PCMU/8000"
    assert "baresip" in end["call"]["sip"]["user_agent"]
    assert end["quality"]["packets_received"] > 0  # and we hear it
    assert end["quality"]["packets_sent"] > 0
    assert end["quality"]["packets_lost"] == end["quality"]["strangers"] == end["quality"]["invalid"] == 0


async def test_we_hang_up(dial: Dial, application: Application, bridge: Served) -> None:
    phone = await dial("100")
    await phone.event("CALL_ESTABLISHED")
    (name,) = application.streams
    async with bridge.rest("POST", f"/v1/calls/{name}/hangup", json={"reason": "closing time"}) as answer:
        assert answer.status == 202
    closed = await phone.event("CALL_CLOSED")
    end = (await ended(application))["data"]["call"]["ended"]
    assert end["by"] == "local"
    assert closed["param"]


async def test_busy(dial: Dial, application: Application) -> None:
    phone = await dial("200")
    assert "486" in (await phone.event("CALL_CLOSED"))["param"]
    assert (await ended(application))["data"]["call"]["ended"]["reason"] == "busy"


async def test_it_gives_up_while_it_rings(dial: Dial, application: Application) -> None:
    phone = await dial("300")
    await phone.event("CALL_RINGING")
    await phone.command("hangup")
    end = (await ended(application))["data"]["call"]["ended"]
    assert (end["by"], end["reason"]) == ("remote", "canceled")


async def test_it_hears_ringing_before_the_answer(dial: Dial, application: Application, bridge: Served) -> None:
    phone = await dial("300")
    await phone.event("CALL_RINGING")
    await until(lambda: application.streams, "the application knows")
    (name,) = application.streams
    async with bridge.rest("POST", f"/v1/calls/{name}/answer", json={}) as answer:
        assert answer.status == 202
    await phone.event("CALL_ESTABLISHED")
    await phone.command("hangup")
    await ended(application)
