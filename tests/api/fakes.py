"""A service in memory: what the API asks for, as small as it can be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridge.api import CallFilters, DrainRefused, NotReady, Page, Position, Ready, Resource
from bridge.calls.actions import Action, Answer, Hangup
from bridge.calls.events import CallHeld
from bridge.calls.facts import ActionId, CallId, ConversationId, Ended, EventId
from bridge.contract import examples
from bridge.contract.originating import OriginateBody
from bridge.contract.registered import user_resource
from bridge.contract.render import call_resource, conversation_resource, render, render_event
from bridge.contract.trunks import TrunkBody, trunk_resource
from bridge.engine.commit import Claim, Remembered
from bridge.engine.effects import CommandAccepted, CommandRefused, Originated, OriginateRefused
from bridge.engine.inputs import Originate
from bridge.engine.registrations import User
from bridge.errors import StoreUnavailable
from bridge.sip.digest import make_ha1
from bridge.sip.registrar import AddressOfRecord
from tests.contract.samples import NOW, SampleCall


def call_id(number: int) -> CallId:
    return CallId("call_" + chr(ord("a") + number) * 24)


ALICE = AddressOfRecord("sip:alice@example.com")
FILED = User("filed", make_ha1("filed", "r", "secret"))


class FakeService:
    """`CallControl`, `CallReader`, `Registrations`, `Trunks`, `Nodes` and `Health` over a few calls, each alone in its conversation."""

    def __init__(self) -> None:
        self.calls_by_id: dict[CallId, SampleCall] = {}
        self.commands: list[tuple[CallId, tuple[Action, ...], bool]] = []
        self.store_away = False
        self.silent = False
        self.not_ready: str | None = None
        self.originated: list[Originate] = []
        self.refusal: OriginateRefused | None = None
        self.claims: dict[str, Remembered] = {}
        self.race: asyncio.Barrier | None = None  # how many have asked for a key before any of them claims it
        self.merged: dict[ConversationId, ConversationId] = {}
        self.defect: Callable[[], None] | None = None
        self.registered: dict[AddressOfRecord, Resource] = {ALICE: examples.SCHEMAS["Registration"][0]}
        self.trunks_by_name: dict[str, Resource] = {"carrier": examples.SCHEMAS["Trunk"][0]}
        self.nodes_by_id = {
            name: {**examples.SCHEMAS["Node"][0], "id": name, "answering": name == "n1"} for name in ("n1", "n2", "n3")
        }
        self.drain_refused: DrainRefused | None = None
        self.users = {"alice": User("alice", make_ha1("alice", "r", "secret")), "filed": FILED}
        for number in range(3):
            call = SampleCall(
                id=call_id(number), conversation_id=self.conversation_of(call_id(number)), created_at=NOW + number
            )
            self.calls_by_id[call.id] = call

    @staticmethod
    def conversation_of(call: CallId) -> ConversationId:
        return ConversationId("conv_" + call[5:])

    def end(self, call: CallId) -> None:
        ended = Ended("remote", "hangup")
        self.calls_by_id[call] = replace(self.calls_by_id[call], state="ended", ended=ended, ended_at=NOW + 60)

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused:
        if self.silent:
            await asyncio.Event().wait()
        if self.defect:
            self.defect()
        known = self.calls_by_id.get(call)
        if known is None:
            return CommandRefused(0, "not_found", "there is no such call")
        if known.state == "ended":
            return CommandRefused(0, "ended", "the call has ended")
        if known.state == "answered" and any(isinstance(action, Answer) for action in actions):
            return CommandRefused(0, "wrong_state", "the call is answered already")
        self.commands.append((call, actions, listed))
        if any(isinstance(action, Answer) for action in actions):
            self.calls_by_id[call] = replace(known, state="answered", answered_at=NOW + 1)
        if any(isinstance(action, Hangup) for action in actions):
            self.end(call)
        return CommandAccepted(0, tuple(ActionId(f"act_{call[5:]}_{number}") for number, _ in enumerate(actions, 1)))

    async def originate(self, wanted: OriginateBody, claim: Claim | None) -> Originated | OriginateRefused:
        if self.silent:
            await asyncio.Event().wait()
        if self.defect:
            self.defect()
        if self.refusal is not None:
            return self.refusal
        if wanted.application not in ("default", "front-desk"):
            return OriginateRefused(0, "no_such_application", "there is no such application")
        if claim is not None and claim.key in self.claims:
            return OriginateRefused(0, "key_reused", "the key was claimed before", self.claims[claim.key])
        asked = wanted.to_originate(len(self.originated) + 1, call_id(3 + len(self.originated) % 20), claim)
        self.originated.append(asked)
        call = SampleCall(
            id=asked.call,
            conversation_id=asked.conversation or self.conversation_of(asked.call),
            application=asked.application,
            direction="outbound",
            source=None,
            client_state=asked.client_state,
            tags=asked.tags,
            created_at=NOW + len(self.originated),
        )
        self.calls_by_id[call.id] = call
        body = render(call_resource(call))
        if claim is not None:
            self.claims[claim.key] = Remembered(claim.fingerprint, call.id, 201, body)
        return Originated(0, call.id, body)

    async def remembered(self, key: str) -> Remembered | None:
        self._check()
        found = self.claims.get(key)
        if self.race is not None:
            await self.race.wait()
        return found

    async def call(self, call: CallId) -> Resource | None:
        self._check()
        known = self.calls_by_id.get(call)
        return None if known is None else self._resource(known)

    async def calls(self, filters: CallFilters, *, before: Position | None, limit: int) -> Page:
        self._check()
        found = [
            it
            for it in self._newest_first(before)
            if filters.state in (None, it.state)
            and filters.direction in (None, it.direction)
            and filters.application in (None, it.application)
        ]
        return self._page(found, [self._resource(it) for it in found], limit)

    async def events(self, call: CallId) -> Sequence[tuple[int, bytes]] | None:
        self._check()
        known = self.calls_by_id.get(call)
        if known is None:
            return None
        return [(number, self._event(known, number)) for number in (1, 2, 3)]

    async def conversation(self, conversation: ConversationId) -> Resource | None:
        self._check()
        if conversation in self.merged:
            return conversation_resource(conversation, [], created_at=NOW, merged_into=self.merged[conversation])
        known = self.calls_by_id.get(CallId("call_" + conversation[5:]))
        return None if known is None else conversation_resource(conversation, [known.id], created_at=known.created_at)

    async def conversations(self, *, before: Position | None, limit: int) -> Page:
        self._check()
        found = self._newest_first(before)
        resources = [conversation_resource(it.conversation_id, [it.id], created_at=it.created_at) for it in found]
        return self._page(found, resources, limit)

    async def registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> tuple[Sequence[Resource], AddressOfRecord | None]:
        self._check()
        names = [aor for aor in sorted(self.registered) if after is None or aor > after]
        found = [self.registered[aor] for aor in names[:limit]]
        return found, names[limit - 1] if len(names) > limit else None

    async def registration(self, aor: AddressOfRecord) -> Resource | None:
        self._check()
        return self.registered.get(aor)

    async def deregister(self, aor: AddressOfRecord) -> int | None:
        if self.silent:
            return None
        self._check()
        gone = self.registered.pop(aor, None)
        return len(gone["bindings"]) if gone else 0

    def is_from_file(self, username: str) -> bool:
        return username == FILED.username

    async def user(self, username: str) -> Resource | None:
        self._check()
        known = self.users.get(username)
        return user_resource(known, "file" if known is FILED else "api") if known else None

    async def put_user(self, username: str, password: str, aor: AddressOfRecord | None) -> tuple[bool, Resource]:
        self._check()
        existed = username in self.users
        self.users[username] = User(username, make_ha1(username, "r", password), aor)
        return existed, user_resource(self.users[username], "api")

    async def delete_user(self, username: str) -> Resource | None:
        self._check()
        gone = self.users.pop(username, None)
        return user_resource(gone, "api") if gone else None

    def is_filed(self, name: str) -> bool:
        return name == "filed"

    async def trunks(self) -> list[Resource]:
        self._check()
        return [self.trunks_by_name[each] for each in sorted(self.trunks_by_name)]

    async def trunk(self, name: str) -> Resource | None:
        self._check()
        return self.trunks_by_name.get(name)

    async def put_trunk(self, name: str, body: TrunkBody) -> tuple[bool, Resource]:
        self._check()
        existed = name in self.trunks_by_name
        self.trunks_by_name[name] = trunk_resource(body.to_trunk(name, body.credentials), "api")
        return existed, self.trunks_by_name[name]

    async def delete_trunk(self, name: str) -> Resource | None:
        self._check()
        return self.trunks_by_name.pop(name, None)

    def nodes(self) -> list[Resource]:
        return [self.nodes_by_id[each] for each in sorted(self.nodes_by_id)]

    async def drain(self, node_id: str) -> Resource | DrainRefused:
        if self.defect:
            self.defect()
        if self.drain_refused is not None:
            return self.drain_refused
        if node_id not in self.nodes_by_id:
            return DrainRefused("not_found", "there is no such node")
        self.nodes_by_id[node_id] = {**self.nodes_by_id[node_id], "draining": True}
        return self.nodes_by_id[node_id]

    def ready(self) -> Ready | NotReady:
        return NotReady(self.not_ready) if self.not_ready else Ready()

    def _check(self) -> None:
        if self.store_away:
            raise StoreUnavailable("no answer within 2 s")
        if self.defect:
            self.defect()

    def _newest_first(self, before: Position | None) -> list[SampleCall]:
        ordered = sorted(self.calls_by_id.values(), key=self._position, reverse=True)
        return [it for it in ordered if before is None or self._position(it) < before]

    @staticmethod
    def _position(call: SampleCall) -> Position:
        return Position(round(call.created_at * 1000), call.id)

    def _page(self, found: list[SampleCall], resources: list[Resource], limit: int) -> Page:
        more = len(found) > limit
        return Page(resources[:limit], self._position(found[limit - 1]) if more else None)

    @staticmethod
    def _event(call: SampleCall, number: int) -> bytes:
        return render_event(
            EventId("evt_" + "e" * 24),
            CallHeld(),
            call,
            sequence=number,
            conversation=call.conversation_id,
            application=call.application,
            caused_by=None,
            now=NOW,
        )

    @staticmethod
    def _resource(call: SampleCall) -> Resource:
        resource: Resource = json.loads(render(call_resource(call)))
        return resource
