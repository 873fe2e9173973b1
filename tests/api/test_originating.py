"""`POST /v1/calls`, and that the far end is called once."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args, get_type_hints

import pytest

from bridge.api.auth import ApiKey
from bridge.api.problems import NOT_ORIGINATED
from bridge.calls.actions import Hangup, Target
from bridge.calls.facts import ConversationId
from bridge.contract.models import Call
from bridge.engine.commit import Remembered
from bridge.engine.effects import OriginateRefused
from tests.api.conftest import Client, Clients
from tests.api.fakes import FakeService, call_id
from tests.api.problems import problem_of

BOB = "sip:bob@example.org"
NEW = call_id(3)
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
CONVERSATION = "conv_" + "x" * 24


async def test_a_call_is_made(client: Client, service: FakeService) -> None:
    response = await client.post("/v1/calls", json={"to": BOB})
    assert response.status == 201
    assert response.headers["Location"] == f"/v1/calls/{NEW}"
    assert "Idempotency-Replayed" not in response.headers
    call = Call.model_validate_json(await response.read())
    assert (call.id, call.direction, call.source) == (NEW, "outbound", None)
    assert (await client.get(response.headers["Location"])).status == 200
    (asked,) = service.originated
    assert (asked.to, asked.application, asked.claim) == ((Target(BOB),), "default", None)


async def test_everything_that_is_asked_for_is_handed_on(client: Client, service: FakeService) -> None:
    body = {
        "to": [BOB, {"uri": "sips:carol@example.org", "headers": {"X-A": "1"}}],
        "from": '"Desk" <sip:desk@example.com>',
        "application": "front-desk",
        "timeout_s": 20,
        "fork": "serial",
        "client_state": "step=1",
        "tags": ["reminder"],
        "conversation_id": CONVERSATION,
        "actions": [{"action": "hangup"}],
    }
    response = await client.post("/v1/calls", json=body)
    assert response.status == 201
    (asked,) = service.originated
    assert asked.to == (Target(BOB), Target("sips:carol@example.org", None, {"X-A": ("1",)}))
    assert (asked.from_, asked.timeout_s, asked.fork) == ('"Desk" <sip:desk@example.com>', 20.0, "serial")
    assert (asked.conversation, asked.actions) == (ConversationId(CONVERSATION), (Hangup(),))
    assert (await response.json())["tags"] == ["reminder"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid", "to"),
        ({"to": "+4930123456"}, "no_route", "to"),
        ({"to": [BOB, "tel:100"]}, "no_route", "to.1"),
        ({"to": "100", "fork": "all"}, "invalid", "to"),
        ({"to": "bob@example.org"}, "invalid", "to"),
        ({"to": {"uri": BOB, "trunk": "a carrier"}}, "invalid", "to.trunk"),
        ({"to": BOB, "actions": [{"action": "dial", "to": "x y"}]}, "invalid", "actions.0.to"),
        ({"to": BOB, "application": "nobody"}, "invalid", "application"),
    ],
)
async def test_what_cannot_be_asked_for_is_named(
    client: Client, service: FakeService, body: object, code: str, field: str
) -> None:
    problem = await problem_of(await client.post("/v1/calls", json=body))
    assert (problem.status, problem.code) == (422, code)
    assert problem.errors is not None
    assert problem.errors[0].field == field
    assert service.originated == []


REFUSALS = {
    "no_such_application": (422, "invalid"),
    "not_found": (404, "not_found"),
    "merged": (410, "merged"),
    "key_reused": (422, "key_reused"),
    "overload": (503, "overload"),
    "draining": (503, "not_ready"),
    "store_away": (503, "store_unavailable"),
}


def test_every_refusal_of_the_engine_has_its_problem() -> None:
    assert set(REFUSALS) == set(NOT_ORIGINATED) == set(get_args(get_type_hints(OriginateRefused)["code"]))


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refusal_has_its_status(client: Client, service: FakeService, code: Any) -> None:
    service.refusal = OriginateRefused(0, code, "so it is")
    response = await client.post("/v1/calls", json={"to": BOB})
    problem = await problem_of(response)
    assert (problem.status, problem.code) == REFUSALS[code]
    assert "so it is" in problem.detail
    assert ("Retry-After" in response.headers) is (problem.status == 503)


async def test_silence_is_told(connect: Clients, service: FakeService) -> None:
    client = await connect(command_timeout_s=0.01)
    service.silent = True
    response = await client.post("/v1/calls", json={"to": BOB})
    assert ((await problem_of(response)).code, response.headers["Retry-After"]) == ("timeout", "2")


async def test_it_needs_control(connect: Clients, service: FakeService) -> None:
    client = await connect(ApiKey("reader", "r" * 20, frozenset({"read"})))
    response = await client.post("/v1/calls", json={"to": BOB}, headers={"Authorization": "Bearer " + "r" * 20})
    assert (await problem_of(response)).status == 403
    assert service.originated == []


class TestIdempotency:
    async def test_the_same_request_again_gets_the_first_answer_again(
        self, client: Client, service: FakeService
    ) -> None:
        first = await client.post("/v1/calls", data=b'{"to": "%b", "fork": "serial"}' % BOB.encode(), headers=_JSON)
        service.end(NEW)  # what has come of it since is not what is answered
        again = await client.post("/v1/calls", data=b'{"fork":"serial", "to":"%b"}' % BOB.encode(), headers=_JSON)
        assert (first.status, again.status) == (201, 201)
        assert await first.read() == await again.read()
        assert first.headers["Location"] == again.headers["Location"]
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(service.originated) == 1

    async def test_another_request_with_the_same_key_is_refused(self, client: Client, service: FakeService) -> None:
        await client.post("/v1/calls", json={"to": BOB}, headers=KEY)
        problem = await problem_of(await client.post("/v1/calls", json={"to": BOB, "timeout_s": 5}, headers=KEY))
        assert (problem.status, problem.code) == (422, "key_reused")
        assert len(service.originated) == 1

    @pytest.mark.parametrize("same", [True, False])
    async def test_two_at_the_same_time_make_one_call(self, client: Client, service: FakeService, same: bool) -> None:
        service.race = asyncio.Barrier(2)
        bodies = ({"to": BOB}, {"to": BOB} if same else {"to": "sip:carol@example.org"})
        first, second = sorted(
            await asyncio.gather(*(client.post("/v1/calls", json=body, headers=KEY) for body in bodies)),
            key=lambda response: (response.status, "Idempotency-Replayed" in response.headers),
        )
        assert first.status == 201
        assert len(service.originated) == 1
        if same:
            assert (second.status, second.headers["Idempotency-Replayed"]) == (201, "true")
            assert await first.read() == await second.read()
        else:
            assert (await problem_of(second)).code == "key_reused"

    async def test_a_key_is_its_sender_s_own(self, connect: Clients, service: FakeService) -> None:
        keys = {name: ApiKey(name, name * 20, frozenset({"control"})) for name in ("a", "b")}
        client = await connect(*keys.values())
        for name in keys:
            headers = {**KEY, "Authorization": "Bearer " + name * 20}
            assert (await client.post("/v1/calls", json={"to": BOB, "tags": [name]}, headers=headers)).status == 201
        assert [asked.claim and asked.claim.key.partition(":")[0] for asked in service.originated] == ["a", "b"]

    @pytest.mark.parametrize("refusal", ["overload", "draining", "store_away"])
    async def test_what_made_no_call_is_not_remembered(
        self, client: Client, service: FakeService, refusal: Any
    ) -> None:
        service.refusal = OriginateRefused(0, refusal, "not now")
        assert (await client.post("/v1/calls", json={"to": BOB}, headers=KEY)).status == 503
        service.refusal = None
        response = await client.post("/v1/calls", json={"to": BOB}, headers=KEY)
        assert response.status == 201
        assert "Idempotency-Replayed" not in response.headers

    async def test_what_nobody_confirmed_is_found_again(self, connect: Clients, service: FakeService) -> None:
        client = await connect(command_timeout_s=0.01)
        service.silent = True
        assert (await client.post("/v1/calls", json={"to": BOB}, headers=KEY)).status == 503
        service.silent = False
        (made,) = [await client.post("/v1/calls", json={"to": BOB}, headers=KEY)]
        assert made.status == 201

    async def test_nobody_is_called_while_it_is_not_known_whether_the_key_is_new(
        self, client: Client, service: FakeService
    ) -> None:
        service.store_away = True
        response = await client.post("/v1/calls", json={"to": BOB}, headers=KEY)
        assert (await problem_of(response)).code == "store_unavailable"
        assert response.headers["Retry-After"]
        assert service.originated == []

    @pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256])
    async def test_a_key_is_a_short_word(self, client: Client, service: FakeService, key: str) -> None:
        problem = await problem_of(await client.post("/v1/calls", json={"to": BOB}, headers={"Idempotency-Key": key}))
        assert (problem.status, problem.code) == (422, "invalid")
        assert problem.errors is not None
        assert problem.errors[0].field == "Idempotency-Key"
        assert service.originated == []

    async def test_one_key_is_enough(self, client: Client) -> None:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        problem = await problem_of(await client.post("/v1/calls", json={"to": BOB}, headers=headers))
        assert "more than once" in problem.detail

    async def test_what_is_remembered_is_what_the_store_has(self, client: Client, service: FakeService) -> None:
        await client.post("/v1/calls", json={"to": BOB}, headers=KEY)
        (key, remembered), *_ = service.claims.items()
        assert key == f"anybody:{KEY['Idempotency-Key']}"
        assert isinstance(remembered, Remembered)
        assert json.loads(remembered.body)["id"] == NEW


_JSON = {**KEY, "Content-Type": "application/json"}
