"""The API on a real socket, over a service in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from bridge.api.app import make_app, make_health_app
from bridge.api.auth import ApiKey
from bridge.telemetry.metrics import Metrics
from tests.api.fakes import FakeService

Client: TypeAlias = TestClient[web.Request, web.Application]
Clients: TypeAlias = Callable[..., Awaitable[Client]]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def connect(service: FakeService, aiohttp_client: Clients) -> Clients:
    async def connected(*keys: ApiKey, command_timeout_s: float = 5.0) -> Client:
        app = make_app(
            control=service,
            reader=service,
            registrations=service,
            trunks=service,
            nodes=service,
            health=service,
            metrics=Metrics(),
            keys=keys,
            command_timeout_s=command_timeout_s,
        )
        return await aiohttp_client(app)

    return connected


@pytest.fixture
async def client(connect: Clients) -> Client:
    return await connect()


@pytest.fixture
async def health_client(service: FakeService, aiohttp_client: Clients) -> Client:
    return await aiohttp_client(make_health_app(health=service, metrics=Metrics()))
