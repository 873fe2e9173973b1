"""`kill -9` of a node whose calls have places on a trunk: nobody counts them twice, and none of them is lost for good."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.cluster import Cluster
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.chaos

TARGET = {"uri": "100", "trunk": "carrier"}


async def call(node: Served, cluster: Cluster) -> tuple[str, str]:
    """What the next call by the trunk is called, and what comes of it."""
    async with node.rest("POST", "/v1/calls", json={"to": TARGET}) as answer:
        shown: dict[str, Any] = await answer.json()
        assert answer.status == 201, shown
    name = str(shown["id"])
    return name, await cluster.application.outcome(name)


async def test_places_are_those_of_the_calls_that_live(scene: Scene) -> None:
    callee = await scene.callee()
    trunk = {"name": "carrier", "targets": [{"uri": f"sip:127.0.0.1:{callee.port}"}], "max_calls": 2}
    cluster = await Cluster.up(scene, nodes=2, config={"trunks": [trunk]})
    first, last = cluster.nodes
    (taken, said), (other, also) = await call(first, cluster), await call(last, cluster)
    assert (said, also) == ("answered", "answered")
    assert (await call(last, cluster))[1] == "Trunk Full"
    first.kill()
    await cluster.application.event("call.recovered", call=taken)
    assert (await call(last, cluster))[1] == "Trunk Full", "its call lives, and keeps its place"
    async with last.rest("DELETE", f"/v1/calls/{taken}") as answer:
        assert answer.status == 202

    async def is_free() -> bool:
        return (await call(last, cluster))[1] == "answered"

    await until_awaited(is_free, "whoever carried it on has given its place back")
    assert (await call(last, cluster))[1] == "Trunk Full", "one place, not two"
    assert other in cluster.application.streams
