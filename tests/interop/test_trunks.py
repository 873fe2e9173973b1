"""Trunks on real sockets: made by REST at one node and used at another, servers that fail, SIPp behind one, and caps for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.callee import Callee, says
from tests.support.scene import Scene
from tests.support.served import KEY, Served
from tests.support.waiting import until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

NUMBER = "+4930123456"
ADMIN = {"api": {"keys": [{"name": "tests", "key": KEY, "scopes": ["admin"]}]}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("trunks")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(scene: Scene, application: Application) -> list[Served]:
    store = (await scene.redis()).url
    made = [await scene.node(application, store=store, media_pairs=40, config=ADMIN) for _ in range(2)]
    await asyncio.gather(*(node.start() for node in made))
    return made


async def make(nodes: list[Served], name: str, *servers: Callee, **more: Any) -> None:
    """By each of them, for a node knows at once only what it was told itself."""
    targets = [{"uri": f"sip:127.0.0.1:{each.port}", "priority": number} for number, each in enumerate(servers)]
    body = {"targets": targets, "domain": "carrier.example", **more}
    for node in nodes:
        async with node.rest("PUT", f"/v1/trunks/{name}", json=body) as answer:
            assert answer.status in (200, 201), await answer.text()


async def call(node: Served, *targets: dict[str, Any] | str, **more: Any) -> str:
    async with node.rest("POST", "/v1/calls", json={"to": list(targets), **more}) as answer:
        shown: dict[str, Any] = await answer.json()
        assert answer.status == 201, shown
        return str(shown["id"])


async def ended(application: Application, name: str) -> dict[str, Any]:
    event = await application.event("call.ended", call=name)
    shown: dict[str, Any] = event["data"]["call"]
    return shown


async def hang_up(node: Served, name: str) -> None:
    async with node.rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status == 202, await answer.text()


async def test_a_number_reaches_the_next_server_when_the_first_has_failed(
    scene: Scene, application: Application, nodes: list[Served]
) -> None:
    broken, well = await scene.callee(says(500)), await scene.callee()
    await make(nodes, "failing", broken, well)
    name = await call(nodes[0], {"uri": NUMBER, "trunk": "failing"})
    taken = await well.called()
    assert taken.invite.start.split()[1] == f"sip:{NUMBER}@carrier.example;user=phone"
    await taken.up()
    answered = await application.event("call.answered", call=name)
    assert [(each["trunk"], each["code"]) for each in answered["data"]["call"]["attempts"]] == [("failing", 200)]
    assert list(broken.calls) == list(well.calls)
    await hang_up(nodes[0], name)
    await ended(application, name)


async def test_a_busy_party_is_busy_behind_all_of_them(
    scene: Scene, application: Application, nodes: list[Served]
) -> None:
    busy, other = await scene.callee(says(486)), await scene.callee()
    await make(nodes, "busy", busy, other)
    shown = await ended(application, await call(nodes[0], {"uri": NUMBER, "trunk": "busy"}))
    assert shown["ended"]["reason"] == "busy"
    assert not other.calls


async def test_another_node_calls_by_it_too_and_sipp_answers(
    scene: Scene, application: Application, nodes: list[Served]
) -> None:
    server = await scene.sipp_server()
    targets = [{"uri": f"sip:127.0.0.1:{server.port}"}]
    async with nodes[0].rest("PUT", "/v1/trunks/sipp", json={"targets": targets}) as answer:
        assert answer.status == 201

    async def is_called() -> bool:
        name = await call(nodes[1], {"uri": NUMBER, "trunk": "sipp"})
        return await application.outcome(name) == "answered"

    await until_awaited(is_called, "the other node has heard of it")


async def test_the_caps_of_a_trunk_are_those_of_all_nodes(
    scene: Scene, application: Application, nodes: list[Served]
) -> None:
    callee = await scene.callee()
    await make(nodes, "small", callee, max_calls=2)
    up = [await call(node, {"uri": NUMBER, "trunk": "small"}) for node in nodes]
    for name in up:
        await application.event("call.answered", call=name)
    for node in nodes:
        shown = await ended(application, await call(node, {"uri": NUMBER, "trunk": "small"}))
        assert (shown["ended"]["reason"], shown["ended"]["sip_reason"]) == ("overload", "Trunk Full")
    assert len(callee.calls) == 2
    await hang_up(nodes[1], up[1])
    await ended(application, up[1])

    async def is_free() -> bool:
        name = await call(nodes[0], {"uri": NUMBER, "trunk": "small"})
        return await application.outcome(name) == "answered"

    await until_awaited(is_free, "there is a place again")


async def test_a_list_goes_on_by_another_trunk(scene: Scene, application: Application, nodes: list[Served]) -> None:
    first, second = await scene.callee(), await scene.callee()
    await make(nodes, "none", first, max_calls=1)
    await make(nodes, "spare", second)
    held = await call(nodes[0], {"uri": NUMBER, "trunk": "none"})
    await application.event("call.answered", call=held)
    targets = [{"uri": NUMBER, "trunk": each} for each in ("none", "spare")]
    name = await call(nodes[0], *targets, fork="serial")
    answered = await application.event("call.answered", call=name)
    attempts = [(each["trunk"], each["code"]) for each in answered["data"]["call"]["attempts"]]
    assert attempts == [("none", 503), ("spare", 200)]
    assert len(first.calls) == 1


async def test_one_that_is_taken_away_is_gone_for_all(
    scene: Scene, application: Application, nodes: list[Served]
) -> None:
    callee = await scene.callee()
    await make(nodes, "leaving", callee)
    async with nodes[1].rest("DELETE", "/v1/trunks/leaving") as answer:
        assert answer.status == 200

    async def is_gone() -> bool:
        shown = await call(nodes[0], {"uri": NUMBER, "trunk": "leaving"})
        return await application.outcome(shown) == "No Such Trunk"

    await until_awaited(is_gone, "nobody calls by it any more")
