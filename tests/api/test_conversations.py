"""`/v1/conversations`."""

from __future__ import annotations

from bridge.calls.actions import Hangup
from bridge.contract.models import Conversation, ConversationList, ConversationReceipt
from tests.api.conftest import Client, Clients
from tests.api.fakes import FakeService, call_id
from tests.api.problems import problem_of

CALL = call_id(0)
CONVERSATION = FakeService.conversation_of(CALL)
NOBODY = "conv_" + "z" * 24


async def test_a_conversation_is_read(client: Client) -> None:
    found = Conversation.model_validate_json(await (await client.get(f"/v1/conversations/{CONVERSATION}")).read())
    assert (found.id, found.calls) == (CONVERSATION, [CALL])
    assert (await problem_of(await client.get(f"/v1/conversations/{NOBODY}"))).code == "not_found"


async def test_conversations_are_listed_in_pages(client: Client) -> None:
    first = ConversationList.model_validate_json(await (await client.get("/v1/conversations?limit=2")).read())
    assert len(first.data) == 2
    second = await (await client.get(f"/v1/conversations?limit=2&cursor={first.next_cursor}")).json()
    assert [it["id"] for it in second["data"]] == [CONVERSATION]
    assert second["next_cursor"] is None
    assert (await problem_of(await client.get("/v1/conversations?cursor=x"))).code == "invalid"


async def test_delete_hangs_up_every_call_and_may_be_repeated(client: Client, service: FakeService) -> None:
    first = await client.delete(f"/v1/conversations/{CONVERSATION}")
    assert first.status == 202
    assert len(ConversationReceipt.model_validate_json(await first.read()).action_ids) == 1
    assert service.commands == [(CALL, (Hangup(),), False)]
    second = await client.delete(f"/v1/conversations/{CONVERSATION}")
    assert second.status == 200
    assert ConversationReceipt.model_validate_json(await second.read()).action_ids == []
    assert (await problem_of(await client.delete(f"/v1/conversations/{NOBODY}"))).code == "not_found"


async def test_one_that_a_join_took_over_says_where_its_calls_are_and_takes_no_command(
    client: Client, service: FakeService
) -> None:
    other = FakeService.conversation_of(call_id(1))
    service.merged[CONVERSATION] = other
    response = await client.get(f"/v1/conversations/{CONVERSATION}")
    assert response.status == 200
    found = Conversation.model_validate_json(await response.read())
    assert (found.calls, found.merged_into) == ([], other)
    problem = await problem_of(await client.delete(f"/v1/conversations/{CONVERSATION}"))
    assert (problem.status, problem.code) == (410, "merged")
    assert other in problem.detail
    assert service.commands == []


async def test_silence_is_told(connect: Clients, service: FakeService) -> None:
    client = await connect(command_timeout_s=0.01)
    service.silent = True
    problem = await problem_of(await client.delete(f"/v1/conversations/{CONVERSATION}"))
    assert (problem.code, problem.call_id) == ("timeout", CALL)
