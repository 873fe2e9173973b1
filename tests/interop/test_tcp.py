"""SIP over TCP against `serve`: many calls of SIPp on one connection and on one each, and peers that lose theirs on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions, answering
from tests.support.caller import OutgoingCall
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.stream_caller import StreamCaller
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

CALLS = 200
RATE = 100
WAITS = "300"  # this callee is parked until REST says something


async def desk(event: Event) -> web.StreamResponse:
    waits = event["type"] == "call.incoming" and event["data"]["call"]["to"]["user"] == WAITS
    return actions({"action": "park", "timeout_s": 600}) if waits else await answering(event)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("tcp")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, media_pairs=600, config={"media": {"timeout_s": 3600}})


@pytest_asyncio.fixture(loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> AsyncIterator[StreamCaller]:
    caller = await scene.stream_caller(bridge)
    yield caller
    caller.close()


async def connections(bridge: Served) -> float:
    return (await bridge.metrics())["bridge_sip_connections"]


@pytest.mark.parametrize("mode", ["t1", "tn"])
async def test_two_hundred_calls(scene: Scene, application: Application, bridge: Served, mode: str) -> None:
    """t1: all on one connection; tn: each on its own."""
    known = len(application.streams)
    run = await scene.sipp(
        bridge, calls=CALLS, rate=RATE, pause_ms=500, options=["-t", mode, "-max_socket", "500"]
    ).done()
    assert (run.created, run.successful, run.failed, run.code) == (CALLS, CALLS, 0, 0), str(run)
    assert run.retransmissions == 0
    await application.all_ended(known + CALLS)
    application.judge()
    assert bridge.complaints() == []

    async def none_left() -> bool:
        return await connections(bridge) == 0

    await until_awaited(none_left, "SIPp's connections are gone")


async def up(application: Application, caller: StreamCaller) -> tuple[OutgoingCall, str]:
    """An answered call, and its id."""
    call = caller.call()
    assert (await call.invite()).status == 200
    name = (await application.stream(call.call_id)).call["id"]
    await application.event("call.answered", call=name)
    return call, name


async def hang_up(bridge: Served, name: str) -> None:
    async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status in (200, 202), await answer.text()


async def test_the_contact_of_a_call_over_tcp_says_so(application: Application, caller: StreamCaller) -> None:
    call, name = await up(application, caller)
    assert call.target == f"sip:127.0.0.1:{caller.target[1]};transport=tcp"
    event = await application.event("call.incoming", call=name)
    assert event["data"]["call"]["source"] == {"address": f"127.0.0.1:{caller.local_ports[0]}", "transport": "tcp"}
    assert (await call.bye()).status == 200
    assert caller.called_back == 0


async def test_we_hang_up_by_the_connection_that_the_call_came_by(
    application: Application, bridge: Served, caller: StreamCaller
) -> None:
    call, name = await up(application, caller)
    await hang_up(bridge, name)
    bye = await call.hung_up()
    assert bye["via"].startswith("SIP/2.0/TCP ")
    assert caller.called_back == 0


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_peer_that_reconnects_between_invite_and_bye(
    application: Application, caller: StreamCaller, abruptly: bool
) -> None:
    call, name = await up(application, caller)
    caller.disconnect(abruptly=abruptly)
    await caller.connect()
    assert (await call.reinvite("sendonly")).status == 200
    await application.event("call.held", call=name)
    caller.disconnect(abruptly=abruptly)
    await caller.connect()
    assert (await call.bye()).status == 200
    await application.event("call.ended", call=name)
    assert caller.called_back == 0


async def test_a_200_reaches_a_peer_whose_connection_has_gone(
    application: Application, bridge: Served, caller: StreamCaller
) -> None:
    """§18.2.2: where its Via says that it listens."""
    call = caller.call(WAITS)
    call.begin()
    name = (await application.stream(call.call_id)).call["id"]
    await until(lambda: 180 in [each.status for each in call.responses], "it rings")
    caller.disconnect()
    async with bridge.rest("POST", f"/v1/calls/{name}/answer") as answer:
        assert answer.status == 202, await answer.text()
    await application.event("call.answered", call=name)
    assert caller.called_back == 1
    assert (await call.bye()).status == 200
    assert caller.called_back == 1  # the new connection is used both ways


async def test_a_bye_reaches_a_peer_whose_connection_has_gone(
    application: Application, bridge: Served, caller: StreamCaller
) -> None:
    call, name = await up(application, caller)
    caller.disconnect()
    await hang_up(bridge, name)
    await call.hung_up()
    assert caller.called_back == 1


async def test_calls_outlive_a_killed_signalling_process_and_their_connections_with_it(
    application: Application, bridge: Served, caller: StreamCaller
) -> None:
    first, _ = await up(application, caller)
    second, name = await up(application, caller)
    await bridge.next_pid_of("signalling", bridge.kill_child("signalling"))
    await bridge.ready()
    await hang_up(bridge, name)
    await second.hung_up()  # at our Contact: the port that we had connected from means nothing any more
    assert caller.called_back == 1
    await caller.connect()
    assert (await first.bye()).status == 200


async def test_a_stop_says_bye_over_every_connection(scene: Scene, application: Application) -> None:
    bridge = await scene.bridge(application, store="memory://", config={"media": {"timeout_s": 3600}})
    callers = [await scene.stream_caller(bridge) for _ in range(5)]
    calls = [(await up(application, each))[0] for each in callers]
    stopped = asyncio.get_running_loop().run_in_executor(None, bridge.stop)
    for call in calls:
        await call.hung_up()
    assert await stopped == 0
