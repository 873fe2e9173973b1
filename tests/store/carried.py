"""A real node, whose calls are made by the engine's test world, on a real store: what becomes of calls when that fails over.

Time is the test's own, but for the store, which answers when it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bridge.calls.facts import CallId
from bridge.engine.commit import Commit, Release
from bridge.engine.effects import Acknowledge, Effect, Postpone
from bridge.engine.inputs import Committed, Input, StoreAway, StoreBack, StoreReplaced
from bridge.engine.registrations import ForgetEvents, ReadBindings, WriteRegistration
from bridge.store.redis import RedisStore
from tests.engine.world import ANSWER, World
from tests.support.waiting import until, until_awaited

STEP_S = 0.02


class Carried(World):
    """One node on one store; every call is answered, and what befalls the store is told to the node as it comes."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.strict = False  # what was accepted is not asked of a keyspace in memory
        self.reply = (ANSWER,)
        self.store = RedisStore(url, give=self.hear, retention_s=100.0)
        self.told: list[Input] = []  # of the store's being away, back, another one
        self.unanswered: dict[int, Commit] = {}
        self._calls = 0

    async def __aenter__(self) -> Carried:
        await self.store.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()

    def hear(self, given: Input) -> None:
        """What the store says."""
        if isinstance(given, StoreAway | StoreBack | StoreReplaced):
            self.told.append(given)
        ticket = getattr(given, "ticket", 0)
        made = self.unanswered.pop(ticket, None)
        if made is not None and isinstance(given, Committed):
            self.written.update((event.call, event.sequence) for event in made.events)
        self.give(given)

    def _answer(self, effect: Effect) -> Iterator[Input]:
        match effect:
            case Commit():
                self.unanswered[effect.ticket] = effect
                self.commits.append(effect)
                self.store.commit(effect)
            case Acknowledge(acks):
                self.store.acknowledge(acks)
            case Postpone(postponed):
                self.store.postpone(postponed)
            case Release():
                self.store.release(effect)
            case WriteRegistration():
                self.store.write_registration(effect)
            case ForgetEvents():
                self.store.forget_events(effect)
            case ReadBindings():
                self.store.read_bindings(effect)
            case _:
                yield from super()._answer(effect)

    async def call_in(self) -> str:
        """Somebody calls until a call is answered: new ones get 503 while the store is away for long. How its dialog is
        called."""
        while True:
            self._calls += 1
            name = f"c{self._calls}"
            self.invite(name)
            await self.passes(lambda name=name: self.final(name) is not None, f"{name} is answered")
            self.ack(name)
            if self.final(name) == 200:
                return name
            assert self.final(name) == 503

    def final(self, name: str) -> int | None:
        """What the INVITE of this caller was answered in the end."""
        said = [message.status for message in self.responses() if message.call_id == f"{name}@192.0.2.1"]
        return next((status for status in said if status >= 200), None)

    async def passes(self, condition: Any, what: str) -> None:
        """Let the test's time go on with the real one, until this is so."""

        def look() -> bool:
            self.advance(STEP_S)
            return bool(condition())

        await until(look, what, poll_s=STEP_S)

    async def is_settled(self) -> None:
        """Wait until the store has answered everything, and nothing more is about to be written."""
        self.advance(1.0)  # what is to be written again is written one after the other
        await self.passes(lambda: not self.unanswered and self.told[-1:] != [StoreAway()], "everything is written")

    async def agree(self) -> None:
        """The store has every call that the node has, and nothing else that lives; each with its events in order, but for
        some that the application has had already."""
        carried = {each.id for each in self.node.conversations()}

        async def is_same() -> bool:
            return set(await self.store.owned(self.settings.node_id)) == carried

        await until_awaited(is_same, "the store has what the node has")
        had = {(call, sequence) for _, call, sequence in self.received}
        for holding in self.node.conversations():
            stored = await self.store.conversation(holding.id)
            assert stored is not None
            assert set(stored.calls) == set(holding.legs)
            for call, leg in holding.legs.items():
                sequences = [sequence for sequence, _ in await self.store.events(call) or []]
                missing = set(range(1, leg.call.sequence + 1)) - set(sequences)
                assert {(call, sequence) for sequence in missing} <= had

    def heard(self) -> dict[CallId, list[tuple[int, str]]]:
        """Per call: sequence and type of the events that the application was told, each once, in order."""
        found: dict[CallId, list[tuple[int, str]]] = {}
        for delivery in self.attempts:
            row = (delivery.sequence, json.loads(delivery.body)["type"])
            rows = found.setdefault(CallId(delivery.call), [])
            if row not in rows:
                rows.append(row)
        return found
