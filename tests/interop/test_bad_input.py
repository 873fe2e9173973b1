"""What bad input gets, asked on real sockets (contract §6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions, answering
from tests.support.bad_messages import BAD, Bad, garbage, request, sdp
from tests.support.caller import Caller
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("bad")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> Caller:
    return await scene.caller(bridge)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
async def test_a_bad_request_is_answered(caller: Caller, bad: Bad) -> None:
    answer = await caller.ask(bad.text)
    assert answer.status == bad.status
    assert bad.reason in answer.reason
    for name, word in bad.headers:
        assert word in answer[name], f"{name}: {answer[name]!r}"
    assert answer.tag("to"), "every final answer has a To tag (§8.2.6.2)"


async def test_a_keep_alive_is_answered_and_garbage_is_not(bridge: Served) -> None:
    loop = asyncio.get_running_loop()
    heard: list[bytes] = []

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            heard.append(data)

    transport, _ = await loop.create_datagram_endpoint(Ear, remote_addr=("127.0.0.1", bridge.sip_port))
    try:
        for datagram in garbage(50, seed=6):
            transport.sendto(datagram)
        transport.sendto(b"\r\n\r\n")  # datagrams of one socket are read in order: this one comes last
        await until(lambda: heard, "the keep-alive is answered")
        assert heard == [b"\r\n"]
    finally:
        transport.close()


async def test_an_ack_is_never_answered_and_a_stray_response_is_dropped(bridge: Served, caller: Caller) -> None:
    before = await bridge.metrics()
    ack = request("ACK", to_tag=";tag=nobody").replace("\n", "\r\n")
    caller.send(ack.format(port=caller.port, branch="z9hG4bKack", call_id="ack@tests", tag="a"))
    caller.send(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKnobody\r\nFrom: <sip:a@b>;tag=1\r\n"
        "To: <sip:c@d>;tag=2\r\nCall-ID: stray@tests\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
    )

    async def counted() -> bool:
        now = await bridge.metrics()
        keys = ('bridge_dropped_total{reason="stray_ack"}', 'bridge_dropped_total{reason="stray_response"}')
        return all(now.get(key, 0) == before.get(key, 0) + 1 for key in keys)

    await until_awaited(counted, "both are counted")
    assert not [each for each in caller.strays if each["call-id"] in ("ack@tests", "stray@tests")]


async def test_max_forwards_0_is_processed(caller: Caller) -> None:
    answer = await caller.ask(request("OPTIONS", max_forwards="0"))
    assert answer.status == 200  # a user agent server is the end of the way (§8.2.2.1 does not look at it)
    assert "INVITE" in answer["allow"]
    assert "application/sdp" in answer["accept"]


async def test_a_request_that_came_on_two_ways_is_merged(scene: Scene, bridge: Served) -> None:
    """§8.2.2.2: the same Call-ID, From tag and CSeq on another branch while the first is going on."""
    caller = await scene.caller(bridge)
    text = request(body=sdp()).replace("{call_id}", "merged@tests").replace("{tag}", "merged")
    first = asyncio.create_task(caller.ask(text))
    await until(lambda: [each for each in caller.strays if each.status], "the first is being answered")
    caller.strays.clear()
    assert (await caller.ask(text)).status == 482
    await first


async def test_compact_forms_folding_and_strange_order_are_fine(caller: Caller) -> None:
    answer = await caller.ask(
        "OPTIONS sip:100@127.0.0.1 SIP/2.0\ni: {call_id}\nCSEQ  :  1\n OPTIONS\nl: 0\n"
        'f: "A \\"quoted\\" one" <sip:a@127.0.0.1>\n ;tag={tag}\nt: <sip:100@127.0.0.1>\n'
        "v: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\nMax-Forwards: 70\n\n"
    )
    assert answer.status == 200
    assert f"rport={caller.port}" in answer["via"]
    assert "received=127.0.0.1" in answer["via"]


class TestFull:
    """Own caps: 503 with Retry-After, and a place is free again when a call has ended."""

    async def test_too_many_calls(self, scene: Scene, application: Application) -> None:
        full = await scene.bridge(application, store="memory://", config={"limits": {"max_calls": 2}})
        await self._third_is_turned_away(scene, full)

    async def test_every_port_taken(self, scene: Scene, application: Application) -> None:
        full = await scene.bridge(application, store="memory://", media_pairs=2)
        await self._third_is_turned_away(scene, full)

    async def _third_is_turned_away(self, scene: Scene, full: Served) -> None:
        caller = await scene.caller(full)
        calls = [caller.call() for _ in range(2)]
        for call in calls:
            assert (await call.invite()).status == 200
        answer = await caller.call().invite()
        assert answer.status == 503
        assert int(answer["retry-after"]) > 0
        assert (await calls[0].bye()).status == 200

        async def has_room() -> bool:
            return (await caller.call().invite()).status == 200

        await until_awaited(has_room, "there is room for a call again")  # its ports rest for some seconds


async def test_who_nobody_answers_for_gets_404(scene: Scene) -> None:
    application = await scene.application()
    hook = {"id": "desk", "url": application.url, "decision": True}
    desk = {"name": "desk", "match": {"users": ["1*"]}, "webhooks": [hook]}
    bridge = await scene.node(application, store="memory://", config={"applications": [desk]})
    bridge.config["webhooks"].pop("url")
    await bridge.start()
    caller = await scene.caller(bridge)
    assert (await caller.call("200").invite()).status == 404
    assert (await caller.call("100").invite()).status == 200
    assert len(application.streams) == 1


async def test_a_callee_may_refuse_in_its_own_words(scene: Scene, bridge: Served, application: Application) -> None:
    async def reply(event: Event) -> web.StreamResponse:
        if event["type"] != "call.incoming":
            return await answering(event)
        return actions({"action": "reject", "code": 603, "reason": "Not Today"})

    application.reply = reply
    try:
        caller = await scene.caller(bridge)
        call = caller.call()
        answer = await call.invite()
        assert (answer.status, answer.reason) == (603, "Not Today")
    finally:
        application.reply = answering
