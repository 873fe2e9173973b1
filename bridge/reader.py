"""What REST reads and commands: live calls from the node, ended ones from the store, and nothing twice.

Stands beside the pump because it joins two adapters that do not know each other. Any call of this service can be read
here, those that other nodes carry as they were last written; commands reach them there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from bridge.ambient import Seal, Tokens
from bridge.api import CallFilters, Page, Position, Resource
from bridge.calls import snapshot
from bridge.calls.actions import Action
from bridge.calls.call import Call, Identity, Plan
from bridge.calls.facts import CallId, ConversationId
from bridge.contract.originating import OriginateBody
from bridge.contract.render import call_resource, conversation_resource
from bridge.engine.commit import Claim, Remembered
from bridge.engine.effects import CommandAccepted, CommandRefused, Originated, OriginateRefused
from bridge.engine.inputs import Command, Originate
from bridge.errors import StoreUnavailable
from bridge.pump import Pump
from bridge.store import Store

_SCANNED_PER_PAGE = 2_000  # calls looked at for one page of a filtered list: a rare match must not read the whole store
log = structlog.get_logger("bridge.reader")

_NOBODY = Identity(contact="", server="", allow="")  # a call that is only shown names nobody
_READ_AT_ONCE = 200  # and read together then, because what is asked for is seldom what comes first


class Nodes(Protocol):
    """Other nodes, as far as commands go."""

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused: ...
    async def originate(self, wanted: Originate) -> Originated | OriginateRefused: ...


class Reader:
    """`CallReader` and `CallControl` of the API."""

    def __init__(self, *, pump: Pump, store: Store, tokens: Tokens, seal: Seal, nodes: Nodes | None = None) -> None:
        """`nodes`: who carries calls besides us; None: nobody."""
        self._pump = pump
        self._store = store
        self._tokens = tokens
        self._nodes = nodes
        self._seal = seal

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused:
        """Run actions on a live call. Answered at once; events tell the outcome."""
        answer = await self._pump.ask(Command(self._pump.new_request(), call, actions, listed))
        if not isinstance(answer, CommandRefused) or answer.code != "not_found":
            return answer
        if await self._store.final_record(call) is not None:
            return CommandRefused(answer.request, "ended", "the call has ended")
        return answer if self._nodes is None else await self._nodes.command(call, actions, listed=listed)

    async def originate(self, wanted: OriginateBody, claim: Claim | None) -> Originated | OriginateRefused:
        """Call a party. Answered once the call is stored, or nothing was made; events tell what comes of it."""
        call = CallId("call_" + self._tokens.token(24))
        asked = wanted.to_originate(self._pump.new_request(), call, claim)
        said = await self._pump.ask(asked)
        if not isinstance(said, OriginateRefused) or said.code != "not_found" or asked.conversation is None:
            return said
        stored = await self._store.conversation(asked.conversation)
        if stored is not None and stored.merged_into is not None:
            return OriginateRefused(said.request, "merged", f"a join has moved its calls to {stored.merged_into}")
        return said if stored is None or self._nodes is None else await self._nodes.originate(asked)

    async def remembered(self, key: str) -> Remembered | None:
        return await self._store.remembered(key)

    async def call(self, call: CallId) -> Resource | None:
        carried = self._pump.node.call(call)
        if carried is not None and carried.ended is None:
            return call_resource(carried)
        # What is carried of an ended call, for its last events, may be an heir's: the record has its figures.
        try:
            record = await self._store.final_record(call)
        except StoreUnavailable:
            if carried is None:
                raise
            record = None
        if record is not None:
            return _object(record)
        if carried is not None:
            return call_resource(carried)
        try:
            return await self._elsewhere(call)
        except snapshot.UnreadableSnapshot as problem:
            raise StoreUnavailable(str(problem)) from problem

    async def _elsewhere(self, call: CallId) -> Resource | None:
        """A live call that another node carries. Raises UnreadableSnapshot."""
        stored = await self._stored(call)
        return None if stored is None else call_resource(stored)

    async def _stored(self, call: CallId) -> Call | None:
        """A live call, as it was last written. Raises UnreadableSnapshot."""
        place = await self._store.whereabouts(call)
        stored = None if place is None else await self._store.stored_call(call)
        if place is None or stored is None:
            return None
        try:
            fixed, variable = snapshot.read(stored.fixed), snapshot.read(stored.variable)
            return snapshot.revive(
                id=call,
                conversation_id=place.conversation,
                fixed=fixed,
                variable=variable,
                plan=Plan(fixed["application"]),
                identity=_NOBODY,
                seal=self._seal,
            )
        except (snapshot.UnreadableSnapshot, LookupError, ValueError, TypeError) as problem:
            log.warning("snapshot_unreadable", call=call, problem=f"{type(problem).__name__}: {problem}")
            raise snapshot.UnreadableSnapshot(
                f"{call} was written by another release: ask the node that carries it"
            ) from problem

    async def calls(self, filters: CallFilters, *, before: Position | None, limit: int) -> Page:
        found: list[Resource] = []
        at, more, left = before, True, _SCANNED_PER_PAGE
        wanted = limit if filters == CallFilters() else max(limit, _READ_AT_ONCE)
        while more and left > 0:
            rows = await self._store.list_calls(before=at, limit=wanted + 1)  # one more tells whether there is more
            more = len(rows) > wanted
            for created_ms, call, record in rows[:wanted]:
                if len(found) == limit or left == 0:
                    return Page(found, at)
                left, at = left - 1, Position(created_ms, call)
                resource = await self._listed(call, record)
                if resource is not None and _fits(resource, filters):
                    found.append(resource)
            if len(found) == limit:
                break
        return Page(found, at if more else None)

    async def events(self, call: CallId) -> Sequence[tuple[int, bytes]] | None:
        return await self._store.events(call)

    async def conversation(self, conversation: ConversationId) -> Resource | None:
        alive = self._pump.node.conversation(conversation)
        if alive is not None:
            return conversation_resource(alive.id, alive.legs, created_at=alive.created_at, joined=alive.is_joined)
        stored = await self._store.conversation(conversation)
        if stored is None:
            return None
        created_at = float(_object(stored.head)["created_at"])
        try:
            joined = [
                call for each in stored.calls if (call := await self._stored(each)) is not None and call.is_joined
            ]
        except snapshot.UnreadableSnapshot as problem:
            raise StoreUnavailable(str(problem)) from problem
        return conversation_resource(
            conversation,
            stored.calls,
            created_at=created_at,
            joined=bool(joined),
            merged_into=stored.merged_into,
        )

    async def conversations(self, *, before: Position | None, limit: int) -> Page:
        places = sorted(
            (Position(round(each.created_at * 1000), each.id) for each in self._pump.node.conversations()), reverse=True
        )
        wanted = [place for place in places if before is None or place < before][: limit + 1]
        data = []
        for place in wanted[:limit]:
            held = self._pump.node.conversation(ConversationId(place.id))
            if held is not None:
                data.append(
                    conversation_resource(held.id, held.legs, created_at=held.created_at, joined=held.is_joined)
                )
        return Page(data, wanted[limit - 1] if len(wanted) > limit else None)

    async def _listed(self, call: CallId, record: bytes | None) -> Resource | None:
        if record is not None:
            return _object(record)
        carried = self._pump.node.call(call)
        if carried is not None:
            return call_resource(carried)
        try:
            return await self._elsewhere(call)
        except snapshot.UnreadableSnapshot:
            return None  # told of already; it must not hide the others


def _object(record: bytes) -> dict[str, Any]:
    read = json.loads(record)
    if not isinstance(read, dict):
        raise ValueError("a stored record is no JSON object")
    return read


def _fits(resource: Resource, filters: CallFilters) -> bool:
    return (
        filters.state in (None, resource["state"])
        and filters.direction in (None, resource["direction"])
        and filters.application in (None, resource["application"])
    )
