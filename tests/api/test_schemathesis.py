"""The API against its own document: schemathesis sends what the schemas allow and what they forbid, a small budget of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Err
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from bridge.api.app import make_app
from bridge.contract.openapi import document
from bridge.contract.operations import OPERATIONS
from bridge.telemetry.metrics import Metrics
from tests.api.fakes import FakeService, call_id

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)
BUDGET = 8  # requests for each operation and mode


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
async def test_the_api_keeps_to_its_document(service: FakeService, aiohttp_server: Any, mode: GenerationMode) -> None:
    server: TestServer = await aiohttp_server(
        make_app(
            control=service,
            reader=service,
            registrations=service,
            trunks=service,
            nodes=service,
            health=service,
            metrics=Metrics(),
        )
    )
    sent = await asyncio.to_thread(explore, str(server.make_url("/")), mode)
    assert sent > BUDGET


def explore(url: str, mode: GenerationMode) -> int:
    described = document()
    for operation in OPERATIONS:
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            del described["paths"][operation.path][operation.method.lower()]  # a path alone cannot be asked for wrongly
    for path in described["paths"].values():
        for method in path.values():
            method.pop("security", None)  # this service has no keys; `test_auth` tries every operation with and without
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=url)
    # 413 is one of the ways to say no: what is too long for a field is at times too long for a body.
    schema.config.checks.negative_data_rejection.expected_statuses = ["4xx"]
    sent = 0
    for found in schema.get_all_operations():
        if isinstance(found, Err):
            raise found.err()
        target = found.ok()

        @settings(
            max_examples=BUDGET,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=target.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            nonlocal sent
            if "call_id" in case.path_parameters and sent % 2:
                case.path_parameters["call_id"] = call_id(sent % 3)
            case.call_and_validate(checks=list(CHECKS))
            sent += 1

        send()
    return sent
