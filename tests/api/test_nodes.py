"""`/v1/nodes`."""

from __future__ import annotations

from typing import Literal

import pytest

from bridge.api import DrainRefused
from bridge.api.auth import ApiKey
from bridge.contract.nodes import Node, NodeList
from tests.api.conftest import Client, Clients
from tests.api.fakes import FakeService
from tests.api.problems import problem_of


async def test_nodes_are_listed_in_pages(client: Client) -> None:
    first = NodeList.model_validate_json(await (await client.get("/v1/nodes?limit=2")).read())
    assert [(it.id, it.answering) for it in first.data] == [("n1", True), ("n2", False)]
    rest = NodeList.model_validate_json(await (await client.get(f"/v1/nodes?cursor={first.next_cursor}")).read())
    assert [it.id for it in rest.data] == ["n3"]
    assert rest.next_cursor is None
    assert (await problem_of(await client.get("/v1/nodes?cursor=x"))).code == "invalid"


async def test_they_are_listed_while_the_store_is_away(client: Client, service: FakeService) -> None:
    service.store_away = True
    assert (await client.get("/v1/nodes")).status == 200


async def test_a_drain_may_be_asked_for_again(client: Client) -> None:
    for _ in range(2):
        answer = await client.post("/v1/nodes/n2/drain")
        assert answer.status == 202
        assert Node.model_validate_json(await answer.read()).draining
    assert (await problem_of(await client.post("/v1/nodes/n9/drain"))).code == "not_found"


@pytest.mark.parametrize(("code", "status"), [("node_unreachable", 503), ("wrong_state", 409)])
async def test_a_node_that_cannot_be_asked(
    client: Client, service: FakeService, code: Literal["node_unreachable", "wrong_state"], status: int
) -> None:
    service.drain_refused = DrainRefused(code, "it does not answer")
    answer = await client.post("/v1/nodes/n2/drain")
    assert answer.status == status
    assert ("Retry-After" in answer.headers) == (status == 503)
    problem = await problem_of(answer)
    assert (problem.code, problem.detail) == (code, "it does not answer")


async def test_who_may_read_may_not_drain(connect: Clients) -> None:
    client = await connect(*(ApiKey(name, name * 8, frozenset({name})) for name in ("read", "control", "admin")))
    for name, status in (("read", 403), ("control", 403), ("admin", 202)):
        headers = {"Authorization": f"Bearer {name * 8}"}
        assert (await client.get("/v1/nodes", headers=headers)).status == 200
        assert (await client.post("/v1/nodes/n2/drain", headers=headers)).status == status
