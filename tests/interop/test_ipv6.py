"""SIP and media over IPv6 against `serve`: SIPp over UDP and TCP, a call of ours whose every address is looked at, TLS and WebSocket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from tests.support.application import Application, Event, actions, answering
from tests.support.caller import Caller
from tests.support.certificates import Authority
from tests.support.namespaces import LOOPBACK6
from tests.support.phone import read_message
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.sipp import Sipp
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

OPTIONS = (
    "OPTIONS sip:100@[::1] SIP/2.0\r\nVia: SIP/2.0/{via} [::1]:9;branch=z9hG4bKoptions;rport\r\nMax-Forwards: 70\r\n"
    "From: <sip:tests@[::1]>;tag=1\r\nTo: <sip:100@[::1]>\r\nCall-ID: {via}@tests\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


async def dialing(event: Event) -> web.StreamResponse:
    """Whoever calls 2… is sent on to the number's user, at the port that stands behind it."""
    to = event["data"].get("call", {}).get("to", {}).get("user", "")
    if event["type"] == "call.incoming" and to.startswith("2"):
        return actions({"action": "dial", "to": f"sip:bob@[::1]:{to[1:]}"})
    return await answering(event)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("ipv6")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(dialing)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {transport: PORTS.one() for transport in ("udp", "tcp", "tls", "ws")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, authority: Authority, ports: dict[str, int]) -> Served:
    pair = authority.pair(addresses=["::1"])
    config: dict[str, Any] = {
        "sip": {
            "listen": [f"{transport}:[::1]:{port}" for transport, port in ports.items()],
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
        }
    }
    node = await scene.node(application, store="memory://", config=config)
    node.config["sip"]["listen"] = config["sip"]["listen"]  # Served adds one of TLS, of IPv4
    await node.start()
    return node


@pytest.mark.parametrize(("transport", "options"), [("udp", ()), ("tcp", ("-t", "t1"))])
async def test_sipp(
    scene: Scene, bridge: Served, ports: dict[str, int], transport: str, options: tuple[str, ...]
) -> None:
    run = Sipp(scene.place("sipp"), ports[transport], calls=20, rate=50, target="::1", host=LOOPBACK6, options=options)
    scene.stack.callback(run.kill)
    statistics = await run.done()
    assert (statistics.code, statistics.successful) == (0, 20), statistics


async def test_two_phones_call_and_hear_each_other(
    scene: Scene, application: Application, bridge: Served, ports: dict[str, int]
) -> None:
    callee = await scene.callee(host=LOOPBACK6)
    caller = Caller(("::1", ports["udp"]), LOOPBACK6)
    scene.stack.callback(caller.close)
    await caller.open()
    call = caller.call(f"2{callee.port}")
    answer = await call.invite()
    assert answer.status == 200, answer
    assert call.target == f"sip:[::1]:{ports['udp']}"
    assert answer["via"].count("received=") == answer["via"].count("rport=") == 1
    assert "\r\nc=IN IP6 ::1\r\n" in answer.body
    assert (answer.media_host(), answer.body.splitlines()[1].endswith(" IN IP6 ::1")) == ("::1", True)
    (party,) = callee.calls.values()
    invite = party.invite
    assert invite["via"].startswith(f"SIP/2.0/UDP [::1]:{ports['udp']};")
    assert invite["contact"] == f"<sip:[::1]:{ports['udp']}>"
    name = (await application.stream(call.call_id)).call["id"]
    await application.event("call.joined", call=name)
    await caller.rtp.talk([call.media_port], 20)
    await until(lambda: callee.rtp.heard.total() >= 20, "bob hears alice")
    shown = (await application.event("call.incoming", call=name))["data"]["call"]
    assert shown["source"] == {"address": f"[::1]:{caller.port}", "transport": "udp"}
    assert (await call.bye()).status == 200
    await party.hung_up()


async def test_options_over_tls_and_websocket(bridge: Served, authority: Authority, ports: dict[str, int]) -> None:
    context = ssl.create_default_context(cafile=str(authority.path))
    reader, writer = await asyncio.open_connection("::1", ports["tls"], ssl=context)
    writer.write(OPTIONS.format(via="TLS").encode())
    assert read_message(await reader.readuntil(b"\r\n\r\n")).status == 200
    writer.close()
    await writer.wait_closed()
    async with (
        ClientSession() as session,
        session.ws_connect(
            f"ws://[::1]:{ports['ws']}", protocols=("sip",), origin=f"http://[::1]:{ports['ws']}"
        ) as page,
    ):
        await page.send_str(OPTIONS.format(via="WS"))
        assert read_message((await page.receive_str()).encode()).status == 200


async def test_media_of_the_other_version_is_refused(scene: Scene, bridge: Served, ports: dict[str, int]) -> None:
    caller = Caller(("::1", ports["udp"]), LOOPBACK6)
    scene.stack.callback(caller.close)
    await caller.open()
    call = caller.call()
    offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
    call.sequence, call.branch = 1, "z9hG4bKother"
    request = call.write("INVITE", call.branch, body=offer)
    call.send(request)
    answer = await call.answer(request)
    assert answer.status == 488
    assert answer["warning"].startswith("301 ")
