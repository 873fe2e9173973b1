"""Three nodes are restarted one after the other under load, and nobody hears or sees anything of it (survival §4, drain; §5).

While that goes on: joined calls that talk all the time; callers who begin and end calls through a balancer that knows nothing of
SIP and asks nobody who is alive; and a REST client that makes calls, reads and ends them, and retries as docs/rest.md says.
(SIPp is no such caller: it gives a call up when a re-INVITE comes that its scenario does not have.)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count, cycle
from typing import Any

import pytest
from aiohttp import ClientError

from tests.chaos.cluster import ANSWERED_AT_ONCE, LINKED, NODES, Cluster
from tests.chaos.talking import talking
from tests.support.caller import Caller
from tests.support.scene import Scene
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.chaos

HELD_S = 0.5  # each call of those that come and go
AGAIN_S = 0.1  # after an answer that says that it may be asked again


class RestClient:
    """Makes a call, reads it and ends it, over and over, each request at the next node until one of them does it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._nodes = cycle(cluster.nodes)
        self._keys = count()
        self.made: list[str] = []  # by id
        self.retried: Counter[str] = Counter()
        self.errors: list[str] = []
        self.is_done = False

    async def work(self) -> None:
        while not self.is_done:
            key = f"rolling-{next(self._keys)}"
            body = {"to": self._cluster.callee.uri_of(f"9{key}")}
            made = await self.ask("POST", "/v1/calls", {201}, json=body, headers={"Idempotency-Key": key})
            self.made.append(made["id"])
            await self.ask("GET", f"/v1/calls/{made['id']}", {200})
            await asyncio.sleep(0.05)
            await self.ask("DELETE", f"/v1/calls/{made['id']}", {200, 202})

    async def ask(self, method: str, path: str, wanted: set[int], **arguments: Any) -> dict[str, Any]:
        """One request until it is done. What may be asked again: nobody there, 5xx, and nothing else."""
        async with asyncio.timeout(PATIENCE_S):
            for node in self._nodes:
                try:
                    async with node.rest(method, path, **arguments) as answer:
                        if answer.status in wanted:
                            content: dict[str, Any] = await answer.json()
                            return content
                        self.retried[f"{method} {answer.status}"] += 1
                        if answer.status < 500:
                            self.errors.append(f"{method} {path}: {answer.status} {await answer.text()}")
                            return {"id": path}
                except ClientError as error:
                    self.retried[f"{method} {type(error).__name__}"] += 1
                await asyncio.sleep(AGAIN_S)
        raise AssertionError("there is always a next node")


class Visitors:
    """Callers who come and go, each call through the balancer from INVITE to BYE; whatever fails is in `lost`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.calls = 0
        self.lost: list[str] = []
        self.is_done = False

    async def work(self) -> None:
        while not self.is_done:
            call = self._caller.call(ANSWERED_AT_ONCE)
            self.calls += 1
            answer = await call.invite()
            if answer.status != 200:
                self.lost.append(f"{call.call_id}: {answer.start}")
                continue
            await asyncio.sleep(HELD_S)
            over = await call.bye()
            if over.status != 200 or call.is_over:
                self.lost.append(f"{call.call_id}: {over.start}, hung up on: {call.is_over}")


@contextlib.asynccontextmanager
async def working(workers: list[RestClient | Visitors]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.work()) for worker in workers]
    yield
    for worker in workers:
        worker.is_done = True
    await asyncio.gather(*tasks)


async def restart(cluster: Cluster, node: int) -> None:
    """As an orchestrator does it: SIGTERM, wait for the end, start it again under its name, wait until it is ready."""
    served = cluster.nodes[node]
    assert await asyncio.to_thread(served.stop, 60.0) == 0
    await served.start()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pairs", "visitors", "gap_s"), [(4, 3, 1.0), pytest.param(34, 10, 3.0, marks=pytest.mark.slow)]
)
async def test_a_rolling_restart_drops_nobody(scene: Scene, pairs: int, visitors: int, gap_s: float) -> None:
    """`gap_s`: what 95 of 100 ends may have heard nothing at most. The promise is 200 ms on a machine that is not busy, which
    ten thousand packets of Python's a second make this one."""
    cluster = await Cluster.up(scene, config=LINKED, media_pairs=100 + 10 * pairs)
    caller = await scene.caller(cluster.nodes[0])
    caller.target = ("127.0.0.1", (await cluster.balancer()).port)
    everyone = [pair for node in range(NODES) for pair in await cluster.pairs(node, pairs)]
    client, guests = RestClient(cluster), [Visitors(caller) for _ in range(visitors)]
    async with talking(everyone) as gaps, working([client, *guests]):
        for node in random.Random(1).sample(range(NODES), NODES):
            await restart(cluster, node)
    visits, made = sum(guest.calls for guest in guests), len(client.made)
    print(f"{NODES} nodes restarted: {gaps}; {visits} calls came; {made} were made by REST, retried: {client.retried}")
    lost = [each for guest in guests for each in guest.lost]
    assert not lost, f"{len(lost)} of {visits} calls: {lost[:5]}"
    assert not client.errors, client.errors
    cluster.nobody_was_hung_up_on(everyone)
    assert gaps.part(0.95) < gap_s, gaps
    await cluster.hear_each_other(everyone)
    await cluster.end(everyone)
    calls = 2 * len(everyone) + visits + made
    await cluster.application.all_ended(calls)
    events = cluster.application.judge()
    assert events["call.ended"] == calls
    assert events["call.recovered"] >= 2 * len(everyone)
