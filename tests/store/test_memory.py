"""The memory store on a virtual clock, failing as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush

import pytest

from bridge.engine.inputs import CommitRefused, Committed, Input, StoreAway, StoreBack
from bridge.errors import StoreUnavailable
from bridge.store.keyspace import Keyspace
from bridge.store.memory import RECONNECT_S, MemoryStore
from tests.store.test_claiming import CLAIM, OTHERS
from tests.store.test_taking import JOIN as TAKES_VERSION_3
from tests.store.test_taking import THERE
from tests.store.writes import CALL, CONVERSATION, OWNER, commit

JOIN = TAKES_VERSION_3._replace(takes=tuple(replace(take, version=2) for take in TAKES_VERSION_3.takes))


class World:
    """A clock, a heap of what comes later, a keyspace, and what each store gave when."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.keyspace = Keyspace(self, history_s=60.0)
        self.given: list[tuple[float, Input]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._turn = 0

    def now(self) -> float:
        return self.time

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._turn += 1
        heappush(self._heap, (self.time + delay_s, self._turn, call))

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            self.time, _, call = heappop(self._heap)
            call()
        self.time = end

    def store(self) -> MemoryStore:
        began = self.time
        return MemoryStore(
            give=lambda given: self.given.append((round(self.time - began, 6), given)),
            clock=self,
            keyspace=self.keyspace,
            later=self.later,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(world: World) -> MemoryStore:
    return world.store()


def test_a_slow_store_answers_late_and_in_order(world: World, store: MemoryStore) -> None:
    store.latency_s = 0.3
    store.commit(commit(1, ticket=1))
    world.advance(0.1)
    store.commit(commit(2, ticket=2))
    assert world.given == []
    world.advance(1.0)
    assert world.given == [(0.3, Committed(1)), (0.4, Committed(2))]


def test_a_very_slow_store_is_away_until_it_has_answered(world: World, store: MemoryStore) -> None:
    store.latency_s = 1.5
    store.commit(commit(1, ticket=1))
    store.commit(commit(2, ticket=2))
    world.advance(5.0)
    assert world.given == [(1.0, StoreAway()), (1.5, Committed(1)), (1.5, Committed(2)), (1.5, StoreBack())]


def test_what_finds_the_store_away_is_written_when_it_is_back(world: World, store: MemoryStore) -> None:
    store.commit(commit(1, ticket=1))
    store.go_away()
    store.commit(commit(2, ticket=2))
    world.advance(3.0)
    assert world.given == [(0.0, StoreAway())]
    assert world.keyspace.stored_call(CALL) is None
    store.come_back()
    world.advance(0.0)
    assert world.given[1:] == [(3.0, Committed(1)), (3.0, Committed(2)), (3.0, StoreBack())]


async def test_reads_say_that_it_is_away(store: MemoryStore, world: World) -> None:
    store.go_away()
    with pytest.raises(StoreUnavailable):
        await store.claim_predecessors(OWNER, "x")
    store.come_back()
    assert await store.claim_predecessors(OWNER, "x") == []


def test_a_lost_answer_is_asked_for_again(world: World, store: MemoryStore) -> None:
    store.lose_replies()
    store.commit(commit(1, ticket=1, events=(1,)))
    store.commit(commit(2, ticket=2, events=(2,)))
    world.advance(0.0)
    assert world.given == [(0.0, StoreAway())]
    stored = world.keyspace.stored_call(CALL)
    assert stored is not None
    assert stored.variable == b"variable 1m1"  # applied all the same
    world.advance(1.0)
    assert world.given[1:] == [(RECONNECT_S, Committed(1)), (RECONNECT_S, Committed(2)), (RECONNECT_S, StoreBack())]
    assert world.keyspace.events(CALL) == [(1, b"event 1"), (2, b"event 2")]


def test_a_claim_and_a_move_whose_answers_were_lost_are_made_once(world: World, store: MemoryStore) -> None:
    store.lose_replies(2)
    there = commit(1, ticket=1, conversation=THERE, call="call_b", claim=OTHERS)
    for made in (there, commit(1, ticket=2), JOIN._replace(ticket=3)):
        store.commit(made)
        world.advance(1.0)
    store.lose_replies()
    store.commit(commit(3, ticket=4, conversation=THERE, call="call_b"))
    world.advance(1.0)
    assert [given for _, given in world.given if isinstance(given, Committed | CommitRefused)] == [
        Committed(ticket) for ticket in (1, 2, 3, 4)
    ]
    assert world.keyspace.remembered(CLAIM.key) is not None
    assert world.keyspace.conversation(CONVERSATION) == (b"head taken", (), THERE)


def test_a_rollback_undoes_a_claim_and_a_move(world: World, store: MemoryStore) -> None:
    store.commit(commit(1, ticket=1))
    world.advance(1.0)
    for made in (commit(1, ticket=2, conversation=THERE, call="call_b", claim=OTHERS), JOIN):
        store.commit(made)
        world.advance(0.1)
    world.keyspace.roll_back(0.5)
    assert world.keyspace.remembered(CLAIM.key) is None
    assert world.keyspace.conversation(CONVERSATION) == (b"head 1m1", (CALL,), None)
    assert world.keyspace.conversation(THERE) is None


def test_after_a_rollback_the_store_is_older_than_its_writer(world: World, store: MemoryStore) -> None:
    for version in (1, 2, 3):
        store.commit(commit(version, ticket=version, events=(version,)))
        world.advance(1.0)
    world.keyspace.roll_back(2.5)
    assert world.keyspace.events(CALL) == [(1, b"event 1")]
    store.commit(commit(4, ticket=4))
    store.commit(commit(5, ticket=5, epoch=2, whole=True, events=(2, 3)))
    world.advance(1.0)
    assert [given for _, given in world.given[3:]] == [CommitRefused(4, "stale"), Committed(5)]
    assert world.keyspace.events(CALL) == [(1, b"event 1"), (2, b"event 2"), (3, b"event 3")]


def test_after_a_rollback_behind_a_claim_the_higher_pair_wins(world: World, store: MemoryStore) -> None:
    store.commit(commit(1, ticket=1))
    world.advance(1.0)
    heir = world.store()
    assert len(world.keyspace.claim_predecessors("n1:bbb", "x")) == 1
    world.keyspace.roll_back(0.5)
    heir.commit(commit(2, ticket=2, epoch=2, nonce="x", owner="n1:bbb"))
    heir.commit(commit(3, ticket=3, epoch=3, nonce="x", owner="n1:bbb", whole=True))
    store.commit(commit(2, ticket=4))
    world.advance(1.0)
    answers = [given for _, given in world.given]
    assert answers == [Committed(1), CommitRefused(2, "stale"), Committed(3), CommitRefused(4, "lost")]


def test_an_emptied_store_knows_nobody(world: World, store: MemoryStore) -> None:
    store.commit(commit(1, ticket=1))
    world.advance(1.0)
    world.keyspace.empty()
    store.commit(commit(2, ticket=2))
    world.advance(1.0)
    assert world.given[-1][1] == CommitRefused(2, "stale")
    world.keyspace.roll_back(1.5)  # that, too, can be undone
    assert world.keyspace.stored_call(CALL) is not None


async def test_without_a_virtual_clock_it_answers_through_the_running_loop(world: World) -> None:
    given: list[Input] = []
    store = MemoryStore(give=given.append, clock=world)
    await store.open()
    store.commit(commit(1, ticket=1))
    assert given == []
    await asyncio.sleep(0)
    assert given == [Committed(1)]
    store.commit(commit(2, ticket=2))
    await store.close()  # writes what is left
    assert given == [Committed(1), Committed(2)]
