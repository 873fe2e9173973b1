"""`/livez`, `/readyz`, `/metrics`, and the documents."""

from __future__ import annotations

import pytest

from bridge.api.app import make_app
from bridge.contract.openapi import document
from bridge.contract.operations import HEALTH, OPERATIONS
from bridge.telemetry.metrics import Metrics
from tests.api.conftest import Client
from tests.api.fakes import FakeService
from tests.api.problems import problem_of


async def test_it_lives_and_is_ready(client: Client, health_client: Client) -> None:
    for each in (client, health_client):
        assert (await each.get("/livez")).status == 200
        assert await (await each.get("/readyz")).json() == {"status": "ready"}


async def test_it_lives_without_being_ready(client: Client, service: FakeService) -> None:
    service.not_ready = "draining"
    service.store_away = True
    assert (await client.get("/livez")).status == 200
    problem = await problem_of(await client.get("/readyz"))
    assert (problem.status, problem.code, problem.detail) == (503, "not_ready", "draining")


async def test_a_store_that_is_away_is_no_unreadiness(client: Client, service: FakeService) -> None:
    service.store_away = True
    assert (await client.get("/readyz")).status == 200


async def test_metrics_are_for_prometheus(health_client: Client) -> None:
    response = await health_client.get("/metrics")
    assert response.content_type == "text/plain"
    assert "bridge_calls{" in await response.text()


@pytest.mark.parametrize("path", ["/v1/calls", "/openapi.json", "/docs/errors"])
async def test_the_port_for_health_has_nothing_else(health_client: Client, path: str) -> None:
    assert (await problem_of(await health_client.get(path))).code == "not_found"


async def test_the_documents_are_served(client: Client) -> None:
    openapi = await client.get("/openapi.json")
    assert openapi.content_type == "application/json"
    assert await openapi.json() == document()
    errors = await client.get("/docs/errors")
    assert errors.content_type == "text/markdown"
    assert "## wrong_state" in await errors.text()


def test_every_operation_has_its_handler(service: FakeService) -> None:
    app = make_app(
        control=service,
        reader=service,
        registrations=service,
        trunks=service,
        nodes=service,
        health=service,
        metrics=Metrics(),
    )
    bound = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    headless = {(method, path) for method, path in bound if method != "HEAD"}
    assert headless == {(operation.method, operation.path) for operation in OPERATIONS}
    assert bound - headless == {("HEAD", path) for method, path in headless if method == "GET"}  # RFC 9110 §9.1
    assert {operation.path for operation in HEALTH} == {"/livez", "/readyz", "/metrics"}
