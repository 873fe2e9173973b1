"""Two calls at two nodes that shall hear each other, asked for at a third (survival §3, §6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from tests.support.application import Application, Stream
from tests.support.callee import Callee
from tests.support.caller import Caller, OutgoingCall
from tests.support.phone import Leg
from tests.support.redis import RedisServer
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

NODES = 3
SECRET = "a secret that all nodes of the tests share"
CONFIG: dict[str, Any] = {
    "webhooks": {"schedule": QUICK_SCHEDULE},
    "cluster": {"listen": "127.0.0.1:0", "secret": SECRET},
}


class Cluster:
    """Three nodes on one Redis, and somebody who calls each of them."""

    def __init__(self, application: Application, redis: RedisServer) -> None:
        self.application = application
        self.redis = redis
        self.nodes: list[Served] = []
        self.callers: list[Caller] = []
        self.callee: Callee

    @classmethod
    async def up(cls, scene: Scene) -> Cluster:
        cluster = cls(await scene.application(), await scene.redis())
        for _ in range(NODES):
            node = await scene.bridge(cluster.application, store=cluster.redis.url, config=CONFIG)
            cluster.nodes.append(node)
            cluster.callers.append(await scene.caller(node))
        cluster.callee = await scene.callee()
        await asyncio.sleep(1.5)  # each has renewed its lease once since the last of them came
        return cluster

    async def talking(self, node: int) -> tuple[OutgoingCall, Stream]:
        """A call that is up at this node."""
        call = self.callers[node].call()
        assert (await call.invite()).status == 200
        stream = await self.application.stream(call.call_id)
        await until(lambda: "call.answered" in stream.types, "it is answered")
        return call, stream

    async def post(self, node: int, path: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        async with self.nodes[node].rest("POST", path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def join(self, node: int, one: Stream, other: Stream) -> str:
        """The name of the action."""
        path = f"/v1/calls/{one.call['id']}/join"
        status, body = await self.post(node, path, {"call_id": other.call["id"]})
        assert status == 202, body
        return str(body["action_id"])

    async def carried(self) -> list[int]:
        """Calls that are up, by node that lives."""
        found = [await node.metrics() for node in self.nodes]
        return [int(sum(value for name, value in each.items() if name.startswith("bridge_calls{"))) for each in found]

    def owned(self) -> list[bytes]:
        """Whoever owns anything by the store."""
        with Redis(port=self.redis.port) as redis:
            return list(redis.scan_iter(match="*:owned:*"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Scene(tmp_path_factory.mktemp("cluster")) as scene:
        yield await Cluster.up(scene)


async def joined(*streams: Stream) -> None:
    await until(
        lambda: all("call.joined" in stream.types for stream in streams),
        lambda: f"they are joined: {[stream.types for stream in streams]}",
    )


async def hear_each_other(one: Leg, other: Leg) -> None:
    """A packet of each comes out at the other one."""
    for speaker, hearer in ((one, other), (other, one)):
        before = len(hearer.phone.rtp.said[hearer.media_port])
        deadline = time.monotonic() + PATIENCE_S
        while len(hearer.phone.rtp.said[hearer.media_port]) == before:
            assert time.monotonic() < deadline, f"{speaker.call_id} is not heard"
            speaker.phone.rtp.speak(speaker.media_port)
            await asyncio.sleep(0.02)


async def end(cluster: Cluster, *calls: tuple[OutgoingCall, Stream]) -> None:
    """Both hang up; each has one end, and nothing is left in the store that anybody would have to carry."""
    for call, _ in calls:
        assert (await call.bye()).status == 200
    await until(lambda: all(stream.ended for _, stream in calls), "both ends are told")
    for _, stream in calls:
        sequences = [event["data"]["sequence"] for event in stream.events]
        assert sequences == list(range(1, len(sequences) + 1))
        assert stream.types.count("call.ended") == 1
    await until(lambda: cluster.owned() == [], lambda: f"nothing is left: {cluster.owned()}")


async def test_two_callers_of_two_nodes_hear_each_other(cluster: Cluster) -> None:
    one, two = await cluster.talking(0), await cluster.talking(1)
    action = await cluster.join(2, one[1], two[1])
    await joined(one[1], two[1])
    assert await cluster.carried() == [2, 0, 0]
    await hear_each_other(one[0], two[0])
    assert one[1].types == ["call.incoming", "call.answered", "call.joined"]
    assert two[1].types == ["call.incoming", "call.answered", "call.recovered", "call.joined"]
    for (_, stream), (_, peer) in ((one, two), (two, one)):
        told = stream.events[-1]["data"]
        assert (told["peer_call_id"], told["caused_by"]) == (peer.call["id"], action)
    conversations = {stream.call["conversation_id"] for _, stream in (one, two)}
    former = {stream.events[0]["data"]["conversation_id"] for _, stream in (one, two)}
    assert conversations == {min(former)}, "the smaller name stays"
    for node in cluster.nodes:
        shown = await node.read(f"/v1/conversations/{min(former)}")
        assert (shown["joined"], sorted(shown["calls"])) == (True, sorted(s.call["id"] for _, s in (one, two)))
        assert (await node.read(f"/v1/conversations/{max(former)}"))["merged_into"] == min(former)
        async with node.rest("DELETE", f"/v1/conversations/{max(former)}") as answer:
            assert answer.status == 410
        body = {"to": cluster.callee.uri_of("500"), "conversation_id": max(former)}
        async with node.rest("POST", "/v1/calls", json=body) as answer:
            assert answer.status == 410, await answer.text()
    await end(cluster, one, two)


async def test_each_joins_the_other_at_the_same_time(cluster: Cluster) -> None:
    one, two = await cluster.talking(0), await cluster.talking(1)
    await asyncio.gather(cluster.join(0, one[1], two[1]), cluster.join(1, two[1], one[1]))
    await joined(one[1], two[1])
    await hear_each_other(one[0], two[0])
    assert sorted(await cluster.carried()) == [0, 0, 2]
    for _, stream in (one, two):
        assert stream.types.count("call.joined") == 1
        assert stream.types.count("call.recovered") <= 1
    await end(cluster, one, two)


async def test_a_list_that_joins(cluster: Cluster) -> None:
    one, two = await cluster.talking(0), await cluster.talking(1)
    listed = [{"action": "join", "call_id": two[1].call["id"]}, {"action": "mute"}]
    status, body = await cluster.post(2, f"/v1/calls/{one[1].call['id']}/actions", {"actions": listed})
    assert status == 202
    await joined(one[1], two[1])
    done = await cluster.application.event("action.completed", call=one[1].call["id"])
    assert done["data"]["action_id"] == body["action_ids"][1]
    await end(cluster, one, two)


async def test_what_cannot_be_joined_says_why(cluster: Cluster) -> None:
    one, two = await cluster.talking(0), await cluster.talking(1)
    assert (await two[0].bye()).status == 200
    await until(lambda: two[1].ended, "it has ended")
    action = await cluster.join(0, one[1], two[1])
    failed = await cluster.application.event("action.failed", call=one[1].call["id"])
    assert (failed["data"]["code"], failed["data"]["action_id"]) == ("ended", action)
    assert (await one[0].bye()).status == 200
    await until(lambda: one[1].ended, "it has ended")


async def test_a_call_is_made_in_a_conversation_of_another_node_and_all_are_hung_up_from_a_third(
    cluster: Cluster,
) -> None:
    _, stream = one = await cluster.talking(0)
    conversation = stream.call["conversation_id"]
    body = {"to": cluster.callee.uri_of("501"), "conversation_id": conversation}
    made = [await cluster.post(node, "/v1/calls", body, **{"Idempotency-Key": "once"}) for node in (1, 2, 0)]
    assert [status for status, _ in made] == [201, 201, 201], made
    assert len({answer["id"] for _, answer in made}) == 1
    assert made[0][1]["conversation_id"] == conversation
    party = await cluster.application.event("call.answered", call=made[0][1]["id"])
    assert sum("sip:501@" in call.invite.start for call in cluster.callee.calls.values()) == 1
    assert await cluster.carried() == [2, 0, 0]
    async with cluster.nodes[2].rest("DELETE", f"/v1/conversations/{conversation}") as answer:
        assert answer.status == 202, await answer.text()
        assert len((await answer.json())["action_ids"]) == 2
    await one[0].hung_up()
    outbound = cluster.application.streams[party["data"]["call_id"]]
    await until(lambda: stream.ended and outbound.ended, "both have ended")
    async with cluster.nodes[1].rest("POST", "/v1/calls", json=body) as answer:
        assert answer.status == 404, await answer.text()
    await until(lambda: cluster.owned() == [], lambda: f"nothing is left: {cluster.owned()}")


@pytest.mark.parametrize(
    "after_s", [pytest.param(0.0, marks=pytest.mark.slow), 0.01, pytest.param(0.05, marks=pytest.mark.slow)]
)
async def test_the_other_node_is_killed_in_the_middle(tmp_path_factory: pytest.TempPathFactory, after_s: float) -> None:
    async with Scene(tmp_path_factory.mktemp("killed")) as scene:
        cluster = await Cluster.up(scene)
        one, two = await cluster.talking(0), await cluster.talking(1)
        if not after_s:
            cluster.nodes[1].kill()
        await cluster.join(0, one[1], two[1])
        await asyncio.sleep(after_s)
        if after_s:
            cluster.nodes[1].kill()
        await joined(one[1], two[1])
        await hear_each_other(one[0], two[0])
        del cluster.nodes[1]
        assert sum(await cluster.carried()) == 2
        await end(cluster, one, two)
        assert cluster.application.judge()["call.joined"] == 2
