"""SIP over WebSocket against `serve`: a call whose far end cannot be dialed, WebRTC that is refused, and a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until
from tests.support.websocket_caller import WEBRTC, WebSocketCaller

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("websocket")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest.fixture(scope="module")
def port() -> int:
    return PORTS.one()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, port: int) -> Served:
    config: dict[str, Any] = {"sip": {"listen": [f"ws:127.0.0.1:{port}"]}}
    return await scene.bridge(application, store="memory://", config=config)


@pytest_asyncio.fixture(loop_scope="module")
async def caller(bridge: Served, port: int) -> AsyncIterator[WebSocketCaller]:
    caller = WebSocketCaller(("127.0.0.1", port))
    await caller.open()
    yield caller
    await caller.leave()


async def test_a_call_comes_and_is_ended_over_its_own_connection(
    application: Application, bridge: Served, port: int, caller: WebSocketCaller
) -> None:
    call = caller.call()
    answer = await call.invite()
    assert answer.status == 200, answer
    assert call.target == f"sip:127.0.0.1:{port};transport=ws"
    shown = (await application.stream(call.call_id)).call
    assert shown["source"]["transport"] == "ws"
    await application.event("call.answered", call=shown["id"])
    async with bridge.rest("DELETE", f"/v1/calls/{shown['id']}") as deleted:
        assert deleted.status in (200, 202)
    bye = await call.hung_up()
    assert bye["via"].startswith(f"SIP/2.0/WS 127.0.0.1:{port};")


async def test_a_webrtc_offer_is_refused_and_told(application: Application, caller: WebSocketCaller) -> None:
    call = caller.call()
    call.sequence, call.branch = 1, "z9hG4bKwebrtc"
    request = call.write("INVITE", call.branch, body=WEBRTC)
    call.send(request)
    answer = await call.answer(request)
    assert answer.status == 488
    assert "Only RTP/AVP is understood, not UDP/TLS/RTP/SAVPF" in answer["warning"]
    name = (await application.stream(call.call_id)).call["id"]
    ended = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (ended["reason"], ended["sip_code"]) == ("not_acceptable", 488)


async def test_a_target_that_only_a_browser_could_reach_is_not_reachable(
    application: Application, bridge: Served
) -> None:
    async with bridge.rest("POST", "/v1/calls", json={"to": "sip:a@127.0.0.1:9;transport=ws"}) as answer:
        assert answer.status == 201, await answer.text()
        name = (await answer.json())["id"]
    ended = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (ended["reason"], ended["sip_code"]) == ("unreachable", 503)


async def test_a_stop_says_goodbye(bridge: Served, caller: WebSocketCaller) -> None:
    await asyncio.to_thread(bridge.stop)
    await until(lambda: caller.close_code is not None, "the connection is closed")
    assert caller.close_code == 1001
