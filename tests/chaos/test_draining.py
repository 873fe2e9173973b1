"""A node among others is emptied, by SIGTERM, by REST or by an operator: its calls go on at the others, and nobody hears of
it (survival §4, drain).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.chaos.cluster import LINKED, Cluster
from tests.chaos.talking import talking
from tests.support.pairs import Pair
from tests.support.scene import Scene
from tests.support.served import KEY, Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.chaos, pytest.mark.load]

OPERATED = {**LINKED, "api": {"keys": [{"name": "operator", "key": KEY, "scopes": ["admin"]}]}}


@pytest.mark.parametrize("count", [5, pytest.param(30, marks=pytest.mark.slow)])
async def test_a_node_that_is_stopped_hands_its_calls_over(scene: Scene, count: int) -> None:
    cluster = await Cluster.up(scene, nodes=3, config=LINKED)
    mine = [await cluster.pairs(node, count) for node in range(3)]
    first = cluster.nodes[0]
    async with talking(mine[0]) as gaps:
        first.program.send(signal.SIGTERM)
        code = await asyncio.to_thread(first.program.wait, 60.0)
        await asyncio.sleep(0.5)
    assert code == 0
    print(f"{2 * count} calls handed over; {gaps}")
    await cluster.recovered(mine[0])
    everyone = [pair for pairs in mine for pair in pairs]
    cluster.nobody_was_hung_up_on(everyone)
    await cluster.hear_each_other(everyone)
    await cluster.end(everyone)
    await cluster.application.all_ended(2 * len(everyone))
    events = cluster.application.judge()
    assert events["call.recovered"] == 2 * count
    assert events["call.ended"] == 2 * len(everyone)


async def test_a_draining_node_sends_new_calls_to_the_others(scene: Scene) -> None:
    cluster = await Cluster.up(scene, nodes=2, config=LINKED)
    first = cluster.nodes[0]
    waiting = cluster.callers[0].call("900")
    cluster.callee.behaviour = lambda call: call.ring()
    request = waiting.begin()
    await until(lambda: any(each.status == 180 for each in waiting.responses), "it rings")
    first.program.send(signal.SIGTERM)  # it cannot go before that call is answered
    await asyncio.sleep(1.5)
    cluster.callee.behaviour = lambda call: call.accept()
    new = await cluster.pairs(0, 3)
    metrics = await cluster.nodes[1].metrics()
    assert sum(value for name, value in metrics.items() if name.startswith("bridge_calls{")) == 6
    ringing = next(iter(cluster.callee.calls.values()))
    ringing.accept()
    assert (await waiting.answer(request)).status == 200
    assert await asyncio.to_thread(first.program.wait, 60.0) == 0
    pair = Pair(waiting, ringing)
    await cluster.recovered([pair])
    # Those that came later have been told by the 200 who carries them, which this caller does not look at.
    cluster.callers[0].target = cluster.callers[1].target
    await cluster.end([pair, *new])
    await cluster.application.all_ended(8)
    cluster.application.judge()


async def name_of(node: Served) -> str:
    """As the others know it."""
    known = (await node.read("/v1/nodes"))["data"]
    (name,) = [each["id"] for each in known if each["answering"]]
    return str(name)


async def is_empty(asked: Served, name: str) -> bool:
    """Whether this node drains and has nothing left. Another one may know only what it carried a second ago."""
    (found,) = [each for each in (await asked.read("/v1/nodes"))["data"] if each["id"] == name]
    return bool(found["draining"]) and found["load"]["conversations"] == 0


async def drain_command(asked: Served, name: str) -> tuple[int | None, str]:
    """`sip-bridge drain --wait`, at a terminal elsewhere. Its exit code, and what it has said."""
    arguments = ("-m", "bridge", "drain", "--node", name, "--url", f"http://127.0.0.1:{asked.api_port}", "--wait")
    environment = os.environ | {"SIP_BRIDGE_KEY": KEY}
    command = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(command.communicate(), 60.0)
    return command.returncode, said.decode()


async def test_nodes_are_emptied_one_after_the_other_from_the_last_one(scene: Scene) -> None:
    """The first by REST, the second at a terminal; each stays up, unready and empty, until it is stopped."""
    cluster = await Cluster.up(scene, nodes=3, config=OPERATED)
    first, second, last = cluster.nodes
    mine = [await cluster.pairs(node, 4) for node in range(3)]
    everyone = [pair for pairs in mine for pair in pairs]
    async with talking(mine[0]) as gaps:
        name = await name_of(first)
        for _ in range(2):
            async with last.rest("POST", f"/v1/nodes/{name}/drain") as answer:
                said = await answer.json()
                assert (answer.status, said.get("draining")) == (202, True), said
        await until_awaited(lambda: is_empty(last, name), "the first one is empty")
        await asyncio.sleep(0.5)
    print(f"8 calls handed over by REST; longest silence {round(1000 * max(gaps.longest))} ms")
    await cluster.recovered(mine[0])
    assert (await first.status("/livez"), await first.status("/readyz")) == (200, 503)

    new = await cluster.pairs(0, 2)  # at the socket of the first, which carries none of them
    assert await is_empty(first, name)

    code, said = await drain_command(last, await name_of(second))
    assert code == 0, said
    assert said.splitlines()[-1].endswith(" is empty"), said
    assert (await second.status("/livez"), await second.status("/readyz")) == (200, 503)
    metrics = await last.metrics()
    assert sum(value for name, value in metrics.items() if name.startswith("bridge_calls{")) == 2 * (len(everyone) + 2)

    await cluster.hear_each_other(everyone)
    assert not any(leg.is_over for pair in [*everyone, *new] for leg in (pair.out, pair.into))
    for node in (first, second):
        assert await asyncio.to_thread(node.stop) == 0
        assert [line["conversations"] for line in node.said("drained")] != []
    cluster.callers[0].target = cluster.callers[2].target  # who has been told by a 200 who carries its call
    await cluster.end([*everyone, *new])
    await cluster.application.all_ended(2 * (len(everyone) + 2))
    assert cluster.application.judge()["call.ended"] == 2 * (len(everyone) + 2)


@pytest.mark.slow
async def test_a_node_that_is_emptied_alone_ends_no_call(scene: Scene) -> None:
    cluster = await Cluster.up(scene, nodes=1, config=OPERATED)
    (alone,) = cluster.nodes
    pairs = await cluster.pairs(0, 2)
    async with alone.rest("POST", f"/v1/nodes/{await name_of(alone)}/drain") as answer:
        assert answer.status == 202
    assert await alone.status("/readyz") == 503
    await asyncio.sleep(6.0)  # longer than a stop waits for another node
    assert not any(leg.is_over for pair in pairs for leg in (pair.out, pair.into))
    await cluster.hear_each_other(pairs)
    store = cluster.nodes[0].config["store"]["url"]
    config = {"webhooks": {"schedule": [0, 0.2, 0.2, 0.2, 0.2], "decision_timeout_s": 30}, **OPERATED}
    await scene.bridge(cluster.application, store=store, config=config, media_pairs=400)
    await cluster.recovered(pairs)
    await cluster.hear_each_other(pairs)
    assert await asyncio.to_thread(alone.stop) == 0
    await cluster.end(pairs)
    await cluster.application.all_ended(4)
    cluster.application.judge()
