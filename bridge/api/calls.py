"""`/v1/calls`: call a party, list, read, hang up, act (contract §2).

Commands go to the engine through `CallControl`, which answers once what they change is stored; resources come through
`CallReader`. Knows nothing of the states an action fits: that is the call's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import CallControl, CallFilters, CallReader, Resource
from bridge.api.cursors import read_position, read_sequence, write_sequence
from bridge.api.exchange import answer, page, read_body, read_query
from bridge.api.idempotency import created, read_claim, replay
from bridge.api.problems import invalid, no_such, not_originated, problem_response, refused
from bridge.calls.actions import Action, Hangup
from bridge.calls.facts import ActionId, CallId
from bridge.contract.actions import COMMANDS, ActionList, to_actions
from bridge.contract.bodies import ActionBody
from bridge.contract.originating import OriginateBody
from bridge.contract.queries import CallsQuery, PageQuery
from bridge.contract.refusals import Refusal
from bridge.engine.effects import CommandAccepted, CommandRefused, Originated
from bridge.errors import StoreUnavailable

FOREIGN_CURSOR = (Refusal("query.cursor", "is not a `next_cursor` of this list"),)


class Calls:
    """The handlers of `/v1/calls`."""

    __slots__ = ("_command_timeout_s", "_control", "_reader")

    def __init__(self, *, control: CallControl, reader: CallReader, command_timeout_s: float) -> None:
        self._control = control
        self._reader = reader
        self._command_timeout_s = command_timeout_s

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {
            "list_calls": self.list_calls,
            "originate_call": self.originate_call,
            "read_call": self.read_call,
            "delete_call": self.delete_call,
            "list_call_events": self.list_call_events,
            "run_actions": self.run_actions,
            **{f"{name}_call": self._action(model) for name, model in COMMANDS.items()},
        }

    async def list_calls(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, CallsQuery)
        if not isinstance(query, CallsQuery):
            return query
        before = read_position(query.cursor) if query.cursor else None
        if query.cursor and before is None:
            return invalid(FOREIGN_CURSOR)
        filters = CallFilters(query.state, query.direction, query.application)
        return page(await self._reader.calls(filters, before=before, limit=query.limit))

    async def originate_call(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, OriginateBody)
        if not isinstance(body, OriginateBody):
            return body
        claim = await read_claim(request)
        if isinstance(claim, web.Response):
            return claim
        remembered = None if claim is None else await self._control.remembered(claim.key)
        if claim is not None and remembered is not None:
            return replay(claim, remembered)
        try:
            async with asyncio.timeout(self._command_timeout_s):
                said = await self._control.originate(body, claim)
        except TimeoutError:
            return unconfirmed(None)
        if isinstance(said, Originated):
            return created(said.call, said.body)
        if claim is not None and said.remembered is not None:
            return replay(claim, said.remembered)  # two came at the same time, and the other one was first
        return not_originated(said)

    async def read_call(self, request: web.Request) -> web.StreamResponse:
        resource = await self._reader.call(_call(request))
        return no_such("call") if resource is None else answer(resource)

    async def list_call_events(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, PageQuery)
        if not isinstance(query, PageQuery):
            return query
        after = read_sequence(query.cursor) if query.cursor else 0
        if after is None:
            return invalid(FOREIGN_CURSOR)
        events = await self._reader.events(_call(request))
        if events is None:
            return no_such("call")
        return _events(events, after=after, limit=query.limit)

    async def delete_call(self, request: web.Request) -> web.StreamResponse:
        call = _call(request)
        said = await self.command(call, (Hangup(),), listed=False)
        if isinstance(said, CommandRefused) and said.code == "ended":
            return await self._receipt(call, (), status=200)
        return await self._answer(call, said)

    async def run_actions(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, ActionList)
        if not isinstance(body, ActionList):
            return body
        call = _call(request)
        return await self._answer(call, await self.command(call, to_actions(body.actions), listed=True))

    def _action(self, model: type[ActionBody]) -> Handler:
        async def act(request: web.Request) -> web.StreamResponse:
            body = await read_body(request, model)
            if not isinstance(body, ActionBody):
                return body
            call = _call(request)
            return await self._answer(call, await self.command(call, (body.to_action(),), listed=False))

        return act

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused | None:
        """What the engine says to these actions; None when it says nothing in time."""
        try:
            async with asyncio.timeout(self._command_timeout_s):
                return await self._control.command(call, actions, listed=listed)
        except TimeoutError:
            return None

    async def _answer(self, call: CallId, said: CommandAccepted | CommandRefused | None) -> web.Response:
        match said:
            case CommandAccepted():
                return await self._receipt(call, said.action_ids, status=202)
            case CommandRefused():
                return refused(said, call)
        return unconfirmed(call)

    async def _receipt(self, call: CallId, action_ids: Sequence[ActionId], *, status: int) -> web.Response:
        resource: Resource | None = None
        with suppress(StoreUnavailable):  # the command counts all the same; a 503 now would have it sent again
            resource = await self._reader.call(call)
        first = action_ids[0] if action_ids else None
        return answer({"action_id": first, "action_ids": action_ids, "call": resource}, status=status)


def unconfirmed(call: CallId | None) -> web.Response:
    """503: nobody knows what became of the command."""
    detail = "the command was not confirmed in time and may still be carried out"
    return problem_response("timeout", detail, call_id=call)


def _call(request: web.Request) -> CallId:
    return CallId(request.match_info["call_id"])


def _events(events: Sequence[tuple[int, bytes]], *, after: int, limit: int) -> web.Response:
    left = [it for it in events if it[0] > after]
    shown = left[:limit]
    cursor = f'"{write_sequence(shown[-1][0])}"' if len(left) > len(shown) else "null"
    # Rendered once, when they were stored: what is shown is what was signed and sent, byte for byte.
    body = b'{"data":[' + b",".join([body for _, body in shown]) + b'],"next_cursor":' + cursor.encode("ascii") + b"}"
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
