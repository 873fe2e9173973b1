"""JsSIP over WebSocket: web phones register, call and are called where nobody can connect to, and hang up.

Their media is plain RTP, said by a stand-in for the browser's WebRTC: with that one itself there is no call, which is shown too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions, answering
from tests.support.certificates import Authority
from tests.support.jssip import JsSip
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

PAGE = "https://app.example.com"
Start = Callable[..., Awaitable[JsSip]]


async def to_bob(event: Event) -> web.StreamResponse:
    if event["type"] == "call.incoming" and event["data"]["call"]["to"]["user"] == "bob":
        return actions({"action": "dial", "to": "sip:bob@example.com"})
    return await answering(event)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("jssip")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(to_bob)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"ws": PORTS.one(), "wss": PORTS.one()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, authority: Authority, ports: dict[str, int]) -> Served:
    pair = authority.pair(dns=["localhost"], addresses=["127.0.0.1"])
    config: dict[str, Any] = {
        "sip": {
            "listen": [f"{transport}:127.0.0.1:{port}" for transport, port in ports.items()],
            "domains": ["example.com"],
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            "websocket": {"origins": [PAGE]},
        },
        "users": [{"username": name, "password": "secret"} for name in ("alice", "bob")],
    }
    return await scene.bridge(application, store="memory://", config=config)


@pytest_asyncio.fixture(loop_scope="module")
async def start(bridge: Served, authority: Authority, ports: dict[str, int]) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def started(name: str, transport: str = "ws", *, origin: str = PAGE) -> JsSip:
            url = f"{transport}://127.0.0.1:{ports[transport]}"
            phone = await JsSip.started(url, f"sip:{name}@example.com", "secret", ca=authority.path, origin=origin)
            stack.push_async_callback(phone.stop)
            return phone

        yield started


async def test_two_web_phones_call_hear_and_leave_each_other(
    application: Application, bridge: Served, start: Start
) -> None:
    alice, bob = await start("alice"), await start("bob", "wss")
    for phone in (alice, bob):
        await phone.said("connected")
        phone.do("register")
        await phone.said("registered")
    bound = {each["aor"]: each for each in (await bridge.read("/v1/registrations"))["data"]}
    assert bound.keys() == {"sip:alice@example.com", "sip:bob@example.com"}
    alice.do("call", to="sip:bob@example.com")
    called = await bob.said("called")
    assert ".invalid" in called["contact"]  # nobody could connect to that
    for phone in (alice, bob):
        await phone.said("confirmed")
        await phone.said("heard")
    bob.do("hang_up")
    assert (await alice.said("ended"))["by"] == "remote"
    assert (await bob.said("ended"))["by"] == "local"
    incoming = await application.event("call.incoming")
    assert incoming["data"]["call"]["authenticated_as"] == "alice"
    ended = await application.event("call.ended", call=incoming["data"]["call_id"])
    assert ended["data"]["call"]["ended"]["reason"] == "peer_ended"


async def test_a_phone_is_called_by_rest_and_hung_up_on(application: Application, bridge: Served, start: Start) -> None:
    bob = await start("bob", "wss")
    await bob.said("connected")
    bob.do("register")
    await bob.said("registered")
    async with bridge.rest("POST", "/v1/calls", json={"to": "sip:bob@example.com"}) as answer:
        assert answer.status == 201, await answer.text()
        name = (await answer.json())["id"]
    await bob.said("confirmed")
    await application.event("call.answered", call=name)
    async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status in (200, 202)
    assert (await bob.said("ended"))["by"] == "remote"
    bob.do("unregister")
    await bob.said("unregistered")


async def test_what_a_browser_would_offer_is_refused_and_says_why(application: Application, start: Start) -> None:
    alice = await start("alice")
    await alice.said("connected")
    alice.do("call", to="sip:100@example.com", webrtc=True)
    failed = await alice.said("failed")
    assert (failed["status"], failed["cause"]) == (488, "Incompatible SDP")
    assert "UDP/TLS/RTP/SAVPF" in failed["warning"]


async def test_a_phone_on_a_foreign_page_does_not_come_in(bridge: Served, start: Start) -> None:
    stranger = await start("alice", origin="https://evil.example")
    await stranger.said("disconnected")

    async def refused() -> bool:
        return (await bridge.metrics()).get('bridge_dropped_total{reason="websocket_refused"}', 0) >= 1

    await until_awaited(refused, "it is counted")
    assert not any(each["event"] == "connected" for each in stranger.events)
