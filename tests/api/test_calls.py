"""`/v1/calls`."""

from __future__ import annotations

import pytest

from bridge.calls.actions import (
    Answer,
    Dial,
    Hangup,
    Hold,
    Join,
    Leave,
    Mute,
    Park,
    Pause,
    Proxy,
    Redirect,
    Reject,
    Ring,
    Target,
    Transfer,
    Unhold,
    Unmute,
)
from bridge.calls.facts import Contact
from bridge.contract.models import Call, CallList, Receipt
from tests.api.conftest import Client, Clients
from tests.api.fakes import FakeService, call_id
from tests.api.problems import problem_of

CALL = call_id(0)
NOBODY = "call_" + "z" * 24


async def test_a_call_is_read(client: Client) -> None:
    response = await client.get(f"/v1/calls/{CALL}")
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert Call.model_validate_json(await response.read()).id == CALL


async def test_an_unknown_call_is_not_found(client: Client) -> None:
    problem = await problem_of(await client.get(f"/v1/calls/{NOBODY}"))
    assert (problem.status, problem.code) == (404, "not_found")


async def test_calls_are_listed_newest_first_and_in_pages(client: Client) -> None:
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        response = await client.get("/v1/calls?limit=1" + cursor)
        page = CallList.model_validate_json(await response.read())
        seen += [call.id for call in page.data]
        cursor = f"&cursor={page.next_cursor}"
    assert seen == [call_id(2), call_id(1), call_id(0)]
    assert page.next_cursor is None


async def test_calls_are_filtered(client: Client, service: FakeService) -> None:
    service.end(CALL)
    ended = await (await client.get("/v1/calls?state=ended")).json()
    assert [call["id"] for call in ended["data"]] == [CALL]
    assert (await (await client.get("/v1/calls?direction=outbound")).json())["data"] == []
    assert len((await (await client.get("/v1/calls?application=front-desk&state=initiated")).json())["data"]) == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=501", "query.limit"),
        ("limit=ten", "query.limit"),
        ("limit=%2B5", "query.limit"),
        ("limit=", "query.limit"),
        ("limit=1&limit=2", "query.limit"),
        ("cursor=", "query.cursor"),
        ("cursor=%00", "query.cursor"),
        ("cursor=nonsense", "query.cursor"),
        ("cursor=cDEuY2FsbF8x%0A", "query.cursor"),
        ("state=busy", "query.state"),
        ("stat=ended", "query.stat"),
    ],
)
async def test_a_wrong_parameter_is_named(client: Client, query: str, field: str) -> None:
    problem = await problem_of(await client.get(f"/v1/calls?{query}"))
    assert (problem.status, problem.code) == (422, "invalid")
    assert problem.errors is not None
    assert [it.field for it in problem.errors] == [field]
    assert problem.detail.startswith(field)


async def test_a_parameter_where_none_is_known_is_named(client: Client) -> None:
    problem = await problem_of(await client.get(f"/v1/calls/{CALL}?verbose=1"))
    assert (problem.status, problem.detail) == (422, "query.verbose: unknown parameter")


async def test_events_are_told_byte_for_byte_and_in_pages(client: Client, service: FakeService) -> None:
    stored = await service.events(CALL)
    assert stored
    body = await (await client.get(f"/v1/calls/{CALL}/events")).read()
    assert body == b'{"data":[' + b",".join(it for _, it in stored) + b'],"next_cursor":null}'

    first = await (await client.get(f"/v1/calls/{CALL}/events?limit=2")).json()
    assert [it["data"]["sequence"] for it in first["data"]] == [1, 2]
    second = await (await client.get(f"/v1/calls/{CALL}/events?limit=2&cursor={first['next_cursor']}")).json()
    assert [it["data"]["sequence"] for it in second["data"]] == [3]
    assert second["next_cursor"] is None


async def test_events_of_nobody_and_from_nowhere(client: Client) -> None:
    assert (await problem_of(await client.get(f"/v1/calls/{NOBODY}/events"))).code == "not_found"
    foreign = (await (await client.get("/v1/calls?limit=1")).json())["next_cursor"]
    assert (await problem_of(await client.get(f"/v1/calls/{CALL}/events?cursor={foreign}"))).code == "invalid"


@pytest.mark.parametrize(
    ("path", "body", "action"),
    [
        ("ring", None, Ring()),
        ("ring", {}, Ring()),
        ("answer", {"headers": {"X-A": "1"}}, Answer(headers={"X-A": ("1",)})),
        ("reject", {"code": 486, "reason": "Busy"}, Reject(code=486, reason="Busy")),
        ("proxy", {}, Proxy()),
        (
            "redirect",
            {"contacts": ["sip:b@example.org", {"uri": "sip:c@example.org", "q": 0.5}], "code": 301},
            Redirect(contacts=(Contact("sip:b@example.org"), Contact("sip:c@example.org", 0.5)), code=301),
        ),
        ("park", {"timeout_s": 5, "client_state": "x"}, Park(timeout_s=5.0, client_state="x")),
        ("hangup", {"reason": "closed"}, Hangup(reason="closed")),
        (
            "dial",
            {"to": "sip:b@example.org", "from": "sip:a@b"},
            Dial(to=(Target("sip:b@example.org"),), from_="sip:a@b"),
        ),
        ("join", {"call_id": call_id(1)}, Join(call_id=call_id(1))),
        ("leave", None, Leave()),
        ("hold", None, Hold()),
        ("unhold", {}, Unhold()),
        ("mute", None, Mute()),
        ("unmute", None, Unmute()),
        ("transfer", {"to": "sip:b@example.org"}, Transfer(to="sip:b@example.org")),
    ],
)
async def test_an_action_is_accepted(
    client: Client, service: FakeService, path: str, body: object, action: object
) -> None:
    response = (
        await client.post(f"/v1/calls/{CALL}/{path}", json=body)
        if body is not None
        else await client.post(f"/v1/calls/{CALL}/{path}")
    )
    assert response.status == 202
    receipt = Receipt.model_validate_json(await response.read())
    assert receipt.action_id == f"act_{CALL[5:]}_1"
    assert receipt.call is not None
    assert receipt.call.id == CALL
    assert service.commands == [(CALL, (action,), False)]


async def test_a_list_is_accepted(client: Client, service: FakeService) -> None:
    body = {"actions": [{"action": "ring"}, {"action": "pause", "seconds": 2}, {"action": "answer"}]}
    response = await client.post(f"/v1/calls/{CALL}/actions", json=body)
    assert response.status == 202
    receipt = Receipt.model_validate_json(await response.read())
    assert receipt.action_id == receipt.action_ids[0]
    assert len(receipt.action_ids) == 3
    assert service.commands == [(CALL, (Ring(), Pause(seconds=2.0), Answer()), True)]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("answer", {"loud": True}, "loud"),
        ("answer", {"action": "answer"}, "action"),
        ("answer", {"headers": {"Contact": "<sip:evil@example.org>"}}, "headers.Contact"),
        ("answer", {"headers": {"X-A": "a\r\nVia: b"}}, "headers.X-A.0"),
        ("reject", {"code": 302}, "code"),
        ("proxy", {"targets": []}, "targets"),
        ("proxy", {"targets": ["bob"]}, "targets.0"),
        ("proxy", {"targets": ["sip:b@example.org"] * 21}, "targets"),
        ("proxy", {"timeout_s": 0}, "timeout_s"),
        ("redirect", {}, "contacts"),
        ("redirect", {"contacts": "sip:b@example.org"}, "contacts"),
        ("redirect", {"contacts": [["sip:b@example.org"]]}, "contacts.0"),
        ("redirect", {"contacts": ["b@example.org"]}, "contacts.0"),
        ("redirect", {"contacts": ["sip:b@example.org>, <sip:evil@example.org"]}, "contacts.0"),
        ("redirect", {"contacts": ["sip:b@example.org\r\nVia: x"]}, "contacts.0"),
        ("redirect", {"contacts": ["sip:b:secret@example.org"]}, "contacts.0"),
        ("redirect", {"contacts": [{"uri": "sip:b@example.org?Replaces=x"}]}, "contacts.0.uri"),
        ("redirect", {"contacts": [{"uri": "sip:b@example.org", "q": 1.5}]}, "contacts.0.q"),
        ("redirect", {"contacts": ["sip:b@example.org"] * 11}, "contacts"),
        ("redirect", {"contacts": ["sip:b@example.org"], "code": 304}, "code"),
        ("redirect", {"contacts": ["sip:b@example.org"], "headers": {"Contact": "<sip:c@d>"}}, "headers.Contact"),
        ("park", {"timeout_s": "60"}, "timeout_s"),
        ("actions", None, "actions"),
        ("actions", {"actions": []}, "actions"),
        ("actions", {"actions": [{"action": "dance"}]}, "actions.0.action"),
        (
            "actions",
            {"actions": [{"action": "ring"}, {"action": "play", "to": "sip:b@example.org"}]},
            "actions.1.action",
        ),
        ("actions", {"actions": [{"action": "answer", "headers": {"X": 1}}]}, "actions.0.headers.X"),
        ("dial", {}, "to"),
        ("dial", {"to": {"uri": "sip:b@example.org", "trunk": "a carrier"}}, "to.trunk"),
        ("dial", {"to": ["sip:b@example.org", "b@example.org"]}, "to.1"),
        ("actions", {"actions": [{"action": "dial", "to": [{"uri": "b"}]}]}, "actions.0.to.0.uri"),
        ("actions", {"actions": [{"action": "dial", "to": "+4930", "fork": "all"}]}, "actions.0.to"),
        ("join", {"call_id": "conv_x"}, "call_id"),
        ("hold", {"music": "jazz"}, "music"),
    ],
)
async def test_a_wrong_field_is_named(
    client: Client, service: FakeService, path: str, body: object, field: str
) -> None:
    problem = await problem_of(await client.post(f"/v1/calls/{CALL}/{path}", json=body if body is not None else {}))
    assert (problem.status, problem.code) == (422, "invalid")
    assert problem.errors is not None
    assert problem.errors[0].field == field
    assert service.commands == []


async def test_an_unknown_action_is_named(client: Client) -> None:
    body = {"actions": [{"action": "dance"}]}
    problem = await problem_of(await client.post(f"/v1/calls/{CALL}/actions", json=body))
    assert 'unknown action "dance"; known: answer, dial' in problem.detail


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("dial", {"to": "+4930123456"}, "to"),
        ("dial", {"to": ["sip:b@example.org", {"uri": "tel:+4930123456"}]}, "to.1.uri"),
        ("actions", {"actions": [{"action": "dial", "to": "100"}]}, "actions.0.to"),
    ],
)
async def test_a_number_without_a_trunk_has_a_code_of_its_own(
    client: Client, service: FakeService, path: str, body: object, field: str
) -> None:
    problem = await problem_of(await client.post(f"/v1/calls/{CALL}/{path}", json=body))
    assert (problem.status, problem.code) == (422, "no_route")
    assert problem.errors is not None
    assert [it.field for it in problem.errors] == [field]
    assert "trunk" in problem.detail
    assert service.commands == []


async def test_no_problem_repeats_a_password(client: Client) -> None:
    to = {"uri": "b@example.org", "auth": {"username": 5, "password": "s3cret"}}
    for path, body in (("dial", {"to": to}), ("actions", {"actions": [{"action": "dial", "to": [to, [to]]}]})):
        response = await client.post(f"/v1/calls/{CALL}/{path}", json=body)
        assert response.status == 422
        assert "s3c" not in await response.text()


@pytest.mark.parametrize("path", ["pause", "play", "dance", "timeline", ""])
async def test_what_is_not_built_is_not_found(client: Client, path: str) -> None:
    assert (await problem_of(await client.post(f"/v1/calls/{CALL}/{path}", json={}))).code == "not_found"


async def test_refusals_have_their_status(client: Client, service: FakeService) -> None:
    await client.post(f"/v1/calls/{CALL}/answer")
    wrong = await problem_of(await client.post(f"/v1/calls/{CALL}/answer"))
    assert (wrong.status, wrong.code, wrong.call_id) == (409, "wrong_state", CALL)
    service.end(CALL)
    over = await problem_of(await client.post(f"/v1/calls/{CALL}/hangup"))
    assert (over.status, over.code, over.call_id) == (410, "ended", CALL)
    unknown = await problem_of(await client.post(f"/v1/calls/{NOBODY}/hangup"))
    assert (unknown.status, unknown.code, unknown.call_id) == (404, "not_found", None)


async def test_delete_hangs_up_and_may_be_repeated(client: Client, service: FakeService) -> None:
    first = await client.delete(f"/v1/calls/{CALL}")
    assert first.status == 202
    assert service.commands == [(CALL, (Hangup(),), False)]
    second = await client.delete(f"/v1/calls/{CALL}")
    assert second.status == 200
    receipt = Receipt.model_validate_json(await second.read())
    assert receipt.action_id is None
    assert receipt.call is not None
    assert receipt.call.state == "ended"
    assert (await problem_of(await client.delete(f"/v1/calls/{NOBODY}"))).code == "not_found"


async def test_an_accepted_command_counts_even_when_the_call_cannot_be_read(
    client: Client, service: FakeService
) -> None:
    service.store_away = True
    response = await client.post(f"/v1/calls/{CALL}/ring")
    assert response.status == 202
    assert Receipt.model_validate_json(await response.read()).call is None


async def test_a_command_that_nobody_confirms_is_told_so(connect: Clients, service: FakeService) -> None:
    client = await connect(command_timeout_s=0.01)
    service.silent = True
    for response in (await client.post(f"/v1/calls/{CALL}/ring"), await client.delete(f"/v1/calls/{CALL}")):
        problem = await problem_of(response)
        assert (problem.status, problem.code, problem.call_id) == (503, "timeout", CALL)
        assert response.headers["Retry-After"]
