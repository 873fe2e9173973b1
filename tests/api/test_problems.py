"""Everything that can go wrong is told as a problem."""

from __future__ import annotations

import gzip
import json
from typing import get_args, get_type_hints

import pytest
from structlog.testing import capture_logs

from bridge.api.problems import REFUSALS
from bridge.contract.problems import KINDS
from bridge.engine.effects import CommandRefused
from tests.api.conftest import Client
from tests.api.fakes import FakeService, call_id
from tests.api.problems import problem_of

CALL = call_id(0)
ACT = f"/v1/calls/{CALL}/actions"
LIST = b'{"actions":[{"action":"ring"}]}'
JSON = {"Content-Type": "application/json"}


def test_whatever_the_engine_refuses_has_its_problem() -> None:
    assert set(REFUSALS) == set(get_args(get_type_hints(CommandRefused)["code"]))
    assert set(REFUSALS.values()) <= set(KINDS)


async def test_unknown_paths(client: Client) -> None:
    for path in ("/", "/v2/calls", "/v1/applications", "/docs", "/asyncapi.json", "/v1/calls/a/b/c"):
        assert (await problem_of(await client.get(path))).code == "not_found"


async def test_unknown_methods_say_which_there_are(client: Client) -> None:
    for method in ("DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"):
        response = await client.request(method, "/v1/calls")
        assert (await problem_of(response)).code == "method_not_allowed"
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_bodies_are_json(client: Client, content_type: str) -> None:
    response = await client.post(ACT, data=LIST, headers={"Content-Type": content_type})
    assert (await problem_of(response)).code == "unsupported_media_type"


async def test_a_body_without_a_type_is_refused(client: Client) -> None:
    response = await client.post(ACT, data=LIST, skip_auto_headers=["Content-Type"])
    assert (await problem_of(response)).code == "unsupported_media_type"


async def test_json_may_say_that_it_is_utf8(client: Client) -> None:
    response = await client.post(ACT, data=LIST, headers={"Content-Type": "application/json; charset=UTF-8"})
    assert response.status == 202


async def test_compressed_bodies_are_refused(client: Client) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    response = await client.post(ACT, data=gzip.compress(LIST), headers=headers)
    assert (await problem_of(response)).code == "unsupported_media_type"


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b'{"actions": NaN', b"[" * 5000, b'{"actions":[{"action":"\\ud800"}]}']
)
async def test_what_is_no_json_is_malformed(client: Client, body: bytes) -> None:
    problem = await problem_of(await client.post(ACT, data=body, headers=JSON))
    assert (problem.status, problem.code) == (400, "malformed")


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"'])
async def test_json_that_is_no_object_is_invalid(client: Client, body: bytes) -> None:
    assert (await problem_of(await client.post(ACT, data=body, headers=JSON))).code == "invalid"


async def test_bodies_are_taken_up_to_64_kib(client: Client) -> None:
    padding = b" " * (64 * 1024 - len(LIST))
    assert (await client.post(ACT, data=LIST + padding, headers=JSON)).status == 202
    problem = await problem_of(await client.post(ACT, data=LIST + padding + b" ", headers=JSON))
    assert (problem.status, problem.code) == (413, "too_large")


async def test_an_expectation_that_nobody_knows(client: Client) -> None:
    response = await client.post(ACT, data=LIST, headers={**JSON, "Expect": "a miracle"})
    assert (await problem_of(response)).code == "expectation_failed"
    assert (await client.post(ACT, data=LIST, headers=JSON, expect100=True)).status == 202


async def test_a_store_that_is_away_is_503_with_a_time(client: Client, service: FakeService) -> None:
    service.store_away = True
    for path in ("/v1/calls", f"/v1/calls/{CALL}", f"/v1/calls/{CALL}/events", "/v1/conversations"):
        response = await client.get(path)
        assert (await problem_of(response)).code == "store_unavailable"
        assert int(response.headers["Retry-After"]) > 0


async def test_a_defect_of_ours_says_nothing_outside_and_everything_inside(
    client: Client, service: FakeService
) -> None:
    def defect() -> None:
        raise ZeroDivisionError("the password is swordfish")

    service.defect = defect
    with capture_logs() as lines:
        response = await client.get(f"/v1/calls/{CALL}")
    assert (await problem_of(response)).code == "internal_error"
    assert b"swordfish" not in await response.read()
    (line,) = [it for it in lines if it["event"] == "api_failed"]
    assert line["call"] == CALL
    assert line["exc_info"]


async def test_the_server_does_not_say_what_it_is_made_of(client: Client) -> None:
    for path in ("/livez", "/nowhere", "/v1/calls"):
        assert (await client.get(path)).headers["Server"] == "sip-bridge"


async def test_what_is_quoted_back_is_short(client: Client) -> None:
    body = json.dumps({"actions": [{"action": "x" * 60_000}]})
    assert len(await (await client.post(ACT, data=body, headers=JSON)).read()) < 1000
