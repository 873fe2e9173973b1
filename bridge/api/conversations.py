"""`/v1/conversations`: list, read, hang up all calls of one (contract §2)."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import CallReader
from bridge.api.calls import FOREIGN_CURSOR, Calls, unconfirmed
from bridge.api.cursors import read_position
from bridge.api.exchange import answer, page, read_query
from bridge.api.problems import invalid, no_such, problem_response, refused
from bridge.calls.actions import Hangup
from bridge.calls.facts import ActionId, ConversationId
from bridge.contract.queries import PageQuery
from bridge.engine.effects import CommandAccepted


class Conversations:
    """The handlers of `/v1/conversations`."""

    __slots__ = ("_calls", "_reader")

    def __init__(self, *, calls: Calls, reader: CallReader) -> None:
        self._calls = calls
        self._reader = reader

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {
            "list_conversations": self.list_conversations,
            "read_conversation": self.read_conversation,
            "delete_conversation": self.delete_conversation,
        }

    async def list_conversations(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, PageQuery)
        if not isinstance(query, PageQuery):
            return query
        before = read_position(query.cursor) if query.cursor else None
        if query.cursor and before is None:
            return invalid(FOREIGN_CURSOR)
        return page(await self._reader.conversations(before=before, limit=query.limit))

    async def read_conversation(self, request: web.Request) -> web.StreamResponse:
        resource = await self._reader.conversation(_conversation(request))
        return no_such("conversation") if resource is None else answer(resource)

    async def delete_conversation(self, request: web.Request) -> web.StreamResponse:
        conversation = _conversation(request)
        resource = await self._reader.conversation(conversation)
        if resource is None:
            return no_such("conversation")
        if resource["merged_into"] is not None:
            return problem_response("merged", f"a join has moved its calls to {resource['merged_into']}")
        action_ids: list[ActionId] = []
        for call in resource["calls"]:
            said = await self._calls.command(call, (Hangup(),), listed=False)
            if said is None:
                return unconfirmed(call)
            if isinstance(said, CommandAccepted):
                action_ids += said.action_ids
            elif said.code == "wrong_state":
                return refused(said, call)
            # `ended` or `not_found`: what was asked for is so already.
        body = {"action_ids": action_ids, "conversation": await self._reader.conversation(conversation) or resource}
        return answer(body, status=202 if action_ids else 200)


def _conversation(request: web.Request) -> ConversationId:
    return ConversationId(request.match_info["conversation_id"])
