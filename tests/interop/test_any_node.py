"""Any node takes any message and any command, whichever node carries the call (survival §3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions, answering
from tests.support.balancer import Balancer
from tests.support.caller import Caller
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.sipp import Sipp
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

SECRET = "a secret that all nodes of the tests share"


class Cluster:
    def __init__(self, application: Application, nodes: list[Served], caller: Caller, scene: Scene) -> None:
        self.application = application
        self.nodes = nodes
        self.caller = caller
        self.scene = scene

    def turn_to(self, node: int) -> None:
        """What the caller sends from here on goes there."""
        self.caller.target = "127.0.0.1", self.nodes[node].sip_port

    async def carried_by(self) -> list[float]:
        """Calls that are up, by node."""
        found = [await node.metrics() for node in self.nodes]
        return [sum(value for name, value in each.items() if name.startswith("bridge_calls{")) for each in found]

    async def id_of(self, sip_call_id: str) -> str:
        stream = await self.application.stream(sip_call_id)
        return str(stream.call["id"])


async def ringing(event: Event) -> web.StreamResponse:
    """The caller hears it ring, for ever."""
    return actions("ring", "park") if event["type"] == "call.incoming" else web.Response()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Scene(tmp_path_factory.mktemp("cluster")) as scene:
        application = await scene.application()
        store = (await scene.redis()).url
        nodes = []
        for _ in range(3):
            config: dict[str, Any] = {
                "webhooks": {"schedule": QUICK_SCHEDULE},
                "cluster": {"listen": "127.0.0.1:0", "secret": SECRET},
            }
            nodes.append(await scene.bridge(application, store=store, config=config, media_pairs=400))
        await asyncio.sleep(1.5)  # each has renewed its lease once since the last of them came
        yield Cluster(application, nodes, await scene.caller(nodes[0]), scene)


async def test_a_call_is_answered_held_and_ended_through_three_nodes(cluster: Cluster) -> None:
    cluster.turn_to(0)
    call = cluster.caller.call()
    call.acknowledges = False
    answer = await call.invite()
    assert answer.status == 200
    cluster.turn_to(1)
    call.acknowledges = True
    call.acknowledge(answer)
    stream = await cluster.application.stream(call.call_id)
    await until(lambda: "call.answered" in stream.types, "its ACK has found its call")
    assert (await cluster.carried_by()) == [1, 0, 0]
    cluster.turn_to(2)
    assert (await call.reinvite("sendonly")).status == 200
    await until(lambda: "call.held" in stream.types, "the re-INVITE has found it too")
    cluster.turn_to(1)
    assert (await call.bye()).status == 200
    await until(lambda: stream.ended, "it has ended")
    assert (await cluster.carried_by()) == [0, 0, 0]


async def test_an_invite_that_is_repeated_elsewhere_makes_no_second_call(cluster: Cluster) -> None:
    cluster.turn_to(0)
    call = cluster.caller.call()
    request = call.begin()
    for node in (1, 2):
        cluster.turn_to(node)
        call.send(request)
    assert (await call.answer(request)).status == 200
    await cluster.application.stream(call.call_id)
    assert sum(await cluster.carried_by()) == 1
    assert (await call.bye()).status == 200
    stream = await cluster.application.stream(call.call_id)
    await until(lambda: stream.ended, "it has ended")
    assert stream.types == ["call.incoming", "call.answered", "call.ended"]


async def test_a_cancel_finds_its_call(cluster: Cluster) -> None:
    cluster.application.reply = ringing
    try:
        cluster.turn_to(0)
        call = cluster.caller.call()
        request = call.begin()
        await until(lambda: any(each.status == 180 for each in call.responses), "it rings")
        cluster.turn_to(2)
        assert (await call.cancel()).status == 200
        assert (await call.answer(request)).status == 487
        stream = await cluster.application.stream(call.call_id)
        await until(lambda: stream.ended, "it has ended")
        assert stream.call["ended"]["reason"] == "canceled"
    finally:
        cluster.application.reply = answering


async def test_a_bye_for_a_call_that_nobody_has_gets_481(cluster: Cluster) -> None:
    cluster.turn_to(0)
    call = cluster.caller.call()
    assert (await call.invite()).status == 200
    assert (await call.bye()).status == 200
    stream = await cluster.application.stream(call.call_id)
    await until(lambda: stream.ended, "it has ended")
    cluster.turn_to(1)
    assert (await call.bye()).status == 481


async def test_rest_reads_and_commands_at_any_node(cluster: Cluster) -> None:
    cluster.turn_to(0)
    call = cluster.caller.call()
    assert (await call.invite()).status == 200
    name = await cluster.id_of(call.call_id)
    for node in cluster.nodes:
        stream = await cluster.application.stream(call.call_id)
        await until(lambda stream=stream: "call.answered" in stream.types, "it is answered")  # type: ignore[misc]
        shown = await node.read(f"/v1/calls/{name}")
        assert (shown["id"], shown["state"]) == (name, "answered")
        listed = (await node.read("/v1/calls?state=answered"))["data"]
        assert [each["id"] for each in listed] == [name]
    async with cluster.nodes[2].rest("POST", f"/v1/calls/{name}/hold", json={}) as answer:
        assert answer.status == 202, await answer.text()
        held = await answer.json()
    stream = await cluster.application.stream(call.call_id)
    await until(lambda: "action.completed" in stream.types, "it is on hold")
    done = next(event for event in stream.events if event["type"] == "action.completed")
    assert done["data"]["action_id"] == held["action_id"]
    async with cluster.nodes[1].rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status == 202, await answer.text()
    await call.hung_up()
    await until(lambda: stream.ended, "it has ended")
    async with cluster.nodes[1].rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status == 200
    async with cluster.nodes[1].rest("DELETE", "/v1/calls/call_aaaaaaaaaaaaaaaaaaaaaaaa") as answer:
        assert answer.status == 404


async def test_sipp_through_a_balancer_that_knows_nothing_of_sip(cluster: Cluster) -> None:
    balancer = Balancer([("127.0.0.1", node.sip_port) for node in cluster.nodes])
    await balancer.open()
    try:
        run = Sipp(cluster.scene.place("sipp"), balancer.port, calls=300, rate=50)
        cluster.scene.stack.callback(run.kill)
        outcome = await run.done()
    finally:
        balancer.close()
    assert (outcome.successful, outcome.failed) == (300, 0), outcome
    assert balancer.passed >= 900
