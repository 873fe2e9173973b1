"""A planned stop: every call goes to another node. Real nodes over the memory store, and a wire that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge import draining, handing
from bridge.calls.facts import CallId
from bridge.engine.commit import HandOver
from bridge.errors import PeerGone, StoreUnavailable
from tests.support.linked import Linked, Wire
from tests.support.waiting import until


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(draining, "AGAIN_S", 0.01)
    monkeypatch.setattr(handing, "AGAIN_S", 0.01)
    monkeypatch.setattr(draining, "ALONE_S", 0.1)
    wire = Wire()
    yield wire
    await wire.close()


async def settled(node: Linked, *names: str) -> list[tuple[str, str]]:
    """Calls that are up, and have been for so long that everything is written of them."""
    return [await node.talking(name) for name in names]


async def empty(node: Linked) -> int:
    return await node.draining.run(20.0)


async def nodes(wire: Wire, count: int = 3) -> list[Linked]:
    made = [await wire.add(f"n{number}:x") for number in range(1, count + 1)]
    await wire.announce()
    return made


async def test_every_call_is_carried_on_by_another_node(wire: Wire) -> None:
    first, second, third = await nodes(wire)
    calls = [call for call, _ in await settled(first, "one", "two", "three", "four", "five")]
    assert await empty(first) == 5
    assert first.pump.node.carried == 0
    taken = {call.id for node in (second, third) for call in node.pump.node.calls()}
    assert taken == set(calls)
    assert [each for each in first.sent if each.method == "BYE"] == []
    assert first.switchboard._held == {}
    await until(lambda: not any(call.move for node in (second, third) for call in node.pump.node.calls()), "they move")


async def test_nobody_there_means_that_they_stay_here(wire: Wire) -> None:
    (first,) = await nodes(wire, 1)
    await settled(first, "one")
    assert await empty(first) == 0
    assert first.pump.node.live == 1


async def test_what_finds_no_room_elsewhere_stays_until_there_is(wire: Wire) -> None:
    """A call that is moved to where no port is left ends there."""
    first, second = await nodes(wire, 2)
    second.membership.facts["load"] = {"calls": 7, "conversations": 7, "capacity": 9}
    await wire.announce()
    await settled(first, "one", "two", "three")
    emptying = asyncio.create_task(empty(first))
    await until(lambda: second.pump.node.live == 2, "there is room for two")
    await asyncio.sleep(0.3)
    assert (first.pump.node.live, emptying.done()) == (1, False), "and nobody gives up while somebody is there"
    second.membership.facts["load"] = {"calls": 9, "conversations": 9, "capacity": 12}
    await wire.announce()
    assert await emptying == 3


async def test_each_of_two_gets_no_more_than_it_has_room_for(wire: Wire) -> None:
    """They are chosen again when a call has been let go of, which is here no more then and wants its ports all the same."""
    first, *others = await nodes(wire)
    for each in others:
        each.membership.facts["load"] = {"calls": 0, "conversations": 0, "capacity": 3}
    await wire.announce()
    await settled(first, *(f"caller{number}" for number in range(6)))
    assert await empty(first) == 6
    assert [each.pump.node.live for each in others] == [3, 3]


async def test_somebody_may_come_a_moment_later(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "ALONE_S", 30.0)
    (first,) = await nodes(wire, 1)
    await settled(first, "one")
    emptying = asyncio.create_task(empty(first))
    await wire.add("n2:x")
    await wire.announce()
    assert await emptying == 1


async def test_what_is_busy_keeps_it_until_the_time_is_over(wire: Wire) -> None:
    first, second = await nodes(wire, 2)
    first.answering = False
    first.say("INVITE", "undecided")
    await until(lambda: first.pump.node.live, "it is there")
    assert await first.draining.run(0.2) == 0
    assert (first.pump.node.live, second.pump.node.live) == (1, 0)


async def test_without_a_store_nothing_is_let_go_of(wire: Wire) -> None:
    first, second = await nodes(wire, 2)
    await settled(first, "one")
    first.store.go_away()
    emptying = asyncio.create_task(empty(first))
    for _ in range(5):
        await asyncio.sleep(0)
    assert first.pump.node.live == 1
    first.store.come_back()
    assert await emptying == 1
    assert second.pump.node.live == 1


async def test_an_answer_of_the_store_that_is_lost_is_asked_for_again_of_the_same_heir(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = await nodes(wire)
    await settled(first, "one")
    hand_over, asked = first.store.hand_over, []

    async def losing(given: HandOver) -> bool:
        asked.append(given)
        answer = await hand_over(given)
        if len(asked) == 1:
            raise StoreUnavailable("its answer is lost")
        return answer

    monkeypatch.setattr(first.store, "hand_over", losing)
    assert await empty(first) == 1
    assert asked[0] == asked[1]
    assert sum(node.pump.node.live for node in others) == 1


async def test_an_heir_that_was_started_anew_is_passed_over(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = await nodes(wire)
    await settled(first, "one")
    monkeypatch.setattr(draining, "heir_of", lambda _, names: min(names, default=None))
    wire.clock.time += 1.0
    await wire.add("n2:anew")  # of which the first has not heard yet
    first.membership.facts["draining"] = True  # nor does before it begins
    assert await empty(first) == 1
    assert (second.pump.node.live, third.pump.node.live) == (0, 1)


async def test_an_heir_that_is_hard_to_reach_is_told_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await nodes(wire, 2)
    await settled(first, "one")
    answer, failed = second.switchboard.answer, []

    async def failing(question: bytes) -> bytes:
        if len(failed) < 2:
            failed.append(question)
            raise PeerGone("the link has ended")
        return await answer(question)

    monkeypatch.setattr(second.switchboard, "answer", failing)
    assert await empty(first) == 1
    assert len(failed) == 2
    assert second.pump.node.live == 1


async def test_an_heir_that_dies_in_the_middle_leaves_it_to_its_own_heirs(wire: Wire) -> None:
    first, second, third = await nodes(wire)
    ((call, _),) = await settled(first, "one")
    wire.cut |= {"n2:x", "n3:x"}
    assert await empty(first) == 1
    wire.cut.clear()
    found = wire.keyspace.whereabouts(CallId(call))
    assert found is not None
    heir = next(node for node in (second, third) if node.owner == found.owner)
    other = next(node for node in (second, third) if node is not heir)
    assert first.switchboard._held == {}
    await wire.kill(heir)
    assert await other.membership.claim(found)
    assert other.pump.node.live == 1


async def test_whoever_has_handed_something_over_stays_a_moment_to_relay_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "PARTING_S", 0.1)
    first, _ = await nodes(wire, 2)
    await settled(first, "one")
    await empty(first)
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    await first.draining.part()
    assert loop.time() - moved_at > 0.05
    assert first.ports, "they are open until the process ends"


async def test_who_has_handed_nothing_over_has_nothing_to_stay_for(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "PARTING_S", 1_000_000.0)
    (first,) = await nodes(wire, 1)
    await settled(first, "one")
    await empty(first)
    await first.draining.part()
