"""`/v1/registrations` and `/v1/users`."""

from __future__ import annotations

import pytest

from bridge.contract.models import Problem
from bridge.contract.registrations import Registration, RegistrationList, Removal, User
from bridge.sip.registrar import AddressOfRecord
from tests.api.conftest import Client
from tests.api.fakes import ALICE, FakeService
from tests.api.problems import problem_of

NOBODY = "sip:nobody@example.com"


async def test_a_registration_is_read(client: Client) -> None:
    found = Registration.model_validate_json(await (await client.get(f"/v1/registrations/{ALICE}")).read())
    assert found.aor == ALICE
    assert (await problem_of(await client.get(f"/v1/registrations/{NOBODY}"))).code == "not_found"


@pytest.mark.parametrize(
    "spelled", ["sips:alice@EXAMPLE.com:5061", "sip:%61lice@example.com;user=phone", "sip%3Aalice%40example.com"]
)
async def test_any_spelling_of_the_address_will_do(client: Client, spelled: str) -> None:
    assert (await client.get(f"/v1/registrations/{spelled}")).status == 200


@pytest.mark.parametrize("written", ["alice", "tel:+49123", "sip:example.com"])
async def test_what_is_no_address_is_told_so(client: Client, written: str) -> None:
    for method in ("GET", "DELETE"):
        problem = await problem_of(await client.request(method, f"/v1/registrations/{written}"))
        assert problem.code == "invalid"
        assert _fields(problem) == ["aor"]


async def test_registrations_are_listed_in_pages(client: Client, service: FakeService) -> None:
    resource = service.registered[ALICE]
    names = [AddressOfRecord(f"sip:{user}@example.com") for user in ("b", "é")]
    service.registered |= {aor: {**resource, "aor": aor} for aor in names}
    seen, cursor = [], ""
    while True:
        answer = await client.get(f"/v1/registrations?limit=1{cursor}")
        page = RegistrationList.model_validate_json(await answer.read())
        seen += [it.aor for it in page.data]
        if page.next_cursor is None:
            break
        cursor = f"&cursor={page.next_cursor}"
    assert seen == sorted([ALICE, *names])
    for wrong in ("x", "cDEuY2FsbA", "bg"):
        assert (await problem_of(await client.get(f"/v1/registrations?cursor={wrong}"))).code == "invalid"


async def test_a_registration_is_removed_and_that_may_be_repeated(client: Client, service: FakeService) -> None:
    first = Removal.model_validate_json(await (await client.delete(f"/v1/registrations/{ALICE}")).read())
    second = Removal.model_validate_json(await (await client.delete(f"/v1/registrations/{ALICE}")).read())
    assert (first.removed, second.removed) == (1, 0)
    service.silent = True
    assert (await problem_of(await client.delete(f"/v1/registrations/{ALICE}"))).code == "timeout"


async def test_a_user_is_made_changed_read_and_taken_away(client: Client, service: FakeService) -> None:
    made = await client.put("/v1/users/bob", json={"password": "one", "aor": "sip:100@EXAMPLE.com"})
    assert made.status == 201
    assert User.model_validate_json(await made.read()) == User(username="bob", aor="sip:100@example.com", source="api")
    before = service.users["bob"].ha1
    changed = await client.put("/v1/users/bob", json={"password": "two"})
    assert changed.status == 200
    assert service.users["bob"].ha1 != before
    read = await (await client.get("/v1/users/bob")).text()
    assert "two" not in read
    assert (await client.delete("/v1/users/bob")).status == 200
    assert (await problem_of(await client.delete("/v1/users/bob"))).code == "not_found"
    assert (await problem_of(await client.get("/v1/users/bob"))).code == "not_found"


async def test_what_stands_in_the_file_is_read_only(client: Client) -> None:
    assert (await (await client.get("/v1/users/filed")).json())["source"] == "file"
    assert (await problem_of(await client.put("/v1/users/filed", json={"password": "x"}))).code == "managed_by_file"
    assert (await problem_of(await client.delete("/v1/users/filed"))).code == "managed_by_file"


@pytest.mark.parametrize(
    ("username", "body", "field"),
    [
        ("bob", {}, "password"),
        ("bob", {"password": ""}, "password"),
        ("bob", {"password": "x" * 257}, "password"),
        ("bob", {"password": 17}, "password"),
        ("bob", {"password": "x", "ha1": "y"}, "ha1"),
        ("bob", {"password": "x", "aor": "bob"}, "aor"),
        ("b%20b", {"password": "x"}, "username"),
        ("x" * 65, {"password": "x"}, "username"),
        ("b%22", {"password": "x"}, "username"),
    ],
)
async def test_a_wrong_user_is_told_which_field(
    client: Client, username: str, body: dict[str, object], field: str
) -> None:
    problem = await problem_of(await client.put(f"/v1/users/{username}", json=body))
    assert problem.code == "invalid"
    assert _fields(problem) == [field]


async def test_a_store_that_is_away_is_told(client: Client, service: FakeService) -> None:
    service.store_away = True
    for path in ("/v1/registrations", f"/v1/registrations/{ALICE}", "/v1/users/alice"):
        assert (await problem_of(await client.get(path))).code == "store_unavailable"
    assert (await problem_of(await client.put("/v1/users/bob", json={"password": "x"}))).code == "store_unavailable"


def _fields(problem: Problem) -> list[str]:
    return [it.field for it in problem.errors or ()]
