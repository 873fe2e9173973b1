"""One node's lease, and what it takes over of those that have lost theirs: real nodes over the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge import membership
from bridge.engine.commit import HandOver
from bridge.engine.effects import Yielded
from bridge.engine.inputs import Former, Yield
from bridge.errors import StoreUnavailable
from bridge.membership import heir_of
from bridge.store import Lease, Whereabouts
from tests.support.linked import Linked, Wire
from tests.support.waiting import until, until_awaited


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(membership, "RENEW_S", 0.01)
    wire = Wire()
    yield wire
    await wire.close()


async def pair(wire: Wire) -> tuple[Linked, Linked]:
    first, second = await wire.add("n1:a"), await wire.add("n2:b")
    await wire.announce()
    return first, second


class Keeping:
    """A node renews its lease for ever, while this lasts."""

    def __init__(self, node: Linked) -> None:
        self._node = node

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._node.membership.keep())

    async def __aexit__(self, *_: object) -> None:
        assert not self._task.done(), "it never ends by itself"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_what_the_dead_leave_is_carried_on(wire: Wire) -> None:
    first, second = await pair(wire)
    call, _ = await first.talking("one")
    await wire.kill(first)
    async with Keeping(second):
        await until(lambda: second.pump.node.call(call), "it is carried on")
    assert wire.keyspace.whereabouts(call) == Whereabouts(second.conversation(call), "n2:b")


async def test_a_name_that_has_woken_up_and_died_again_leaves_something_again(wire: Wire) -> None:
    first, second = await pair(wire)
    await wire.kill(first)
    async with Keeping(second):
        await until(lambda: "n1:a" in second.membership._legacies, "it is noticed")
        second.membership._legacies["n1:a"].noticed_at -= 10.0
        await until(lambda: second.membership._legacies["n1:a"].look_at > 0, "nothing is left of it")
        woken = await wire.add("n1:a")
        await until(lambda: second.switchboard.is_leased("n1:a"), "it lives again")
        call, _ = await woken.talking("late")
        await wire.kill(woken)
        await until(lambda: second.pump.node.call(call), "it is carried on")


async def test_an_answer_to_a_claim_that_is_lost_is_asked_for_again(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has done it: by its indexes nobody would ever ask for these again."""
    first, second = await pair(wire)
    call, _ = await first.talking("one")
    await wire.kill(first)
    claim, lost = second.store.claim, []

    async def losing(*asked: object) -> object:
        answer = await claim(*asked)  # type: ignore[arg-type]
        if answer and not lost:
            lost.append(answer)
            raise StoreUnavailable("its answer is lost")
        return answer

    monkeypatch.setattr(second.store, "claim", losing)
    async with Keeping(second):
        await until(lambda: second.pump.node.call(call), "it is carried on")
    assert len(lost) == 1
    assert second.membership._owed == {}


async def test_what_is_handed_over_while_the_store_does_not_answer_is_taken_up_later(wire: Wire) -> None:
    first, second = await pair(wire)
    call, _ = await first.talking("one")
    await wire.kill(first)
    conversation = second.conversation(call)
    second.store.go_away()
    with pytest.raises(StoreUnavailable):
        await second.membership.take(conversation, Former("n1", wire.clock.now()))
    second.store.come_back()
    async with Keeping(second):
        await until(lambda: second.pump.node.call(call), "it is carried on")


async def test_what_has_been_written_over_to_a_node_that_was_never_told_is_taken_up(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that drained could not reach it, and is gone."""
    monkeypatch.setattr(membership, "ADOPT_EVERY_S", 0.05)
    first, second = await pair(wire)
    call, _ = await first.talking("one")
    said = await first.pump.ask(Yield(first.pump.new_request(), first.conversation(call)))
    assert isinstance(said, Yielded)
    given = HandOver(said.conversation, "n1:a", said.epoch, said.version, "n2:b", second.membership.nonce)
    assert await second.store.hand_over(given)
    async with Keeping(second):
        await until(lambda: second.pump.node.call(call), "it is carried on")
    assert wire.keyspace.whereabouts(call) == Whereabouts(said.conversation, "n2:b")


async def test_nothing_is_taken_of_the_living_however_it_is_asked_for(wire: Wire) -> None:
    first, second = await pair(wire)
    call, _ = await first.talking("one")
    assert not await second.membership.claim(Whereabouts(first.conversation(call), "n1:a"))
    assert second.pump.node.call(call) is None


async def test_who_has_departed_says_nothing_more(wire: Wire) -> None:
    first, second = await pair(wire)
    await first.membership.leave()
    with pytest.raises(StoreUnavailable):
        await first.membership.announce()
    lease = await second.membership.announce()
    assert [member.owner for member in lease.dead()] == ["n1:a"]
    assert not second.switchboard.is_leased("n1:a")


async def test_a_node_without_a_store_goes_on_asking(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await pair(wire)
    announce, failed = first.store.announce, []

    async def failing(owner: str, facts: bytes, lease_s: float) -> Lease:
        if len(failed) < 3:
            failed.append(owner)
            raise StoreUnavailable("for a while")
        return await announce(owner, facts, lease_s)

    monkeypatch.setattr(first.store, "announce", failing)
    wire.clock.time += 1.0
    async with Keeping(first):

        async def heard() -> bool:
            lease = await second.membership.announce()
            return all(each.renewed_ms == lease.store_ms for each in lease.members)

        await until_awaited(heard, "it is heard of again")
    assert len(failed) == 3


async def test_a_newer_incarnation_ends_us(wire: Wire) -> None:
    first, _ = await pair(wire)
    wire.clock.time += 1.0
    await wire.add("n1:newer")
    await first.membership.announce()
    assert first.replaced == ["n1:newer"]


def test_everybody_draws_the_same_heir_and_each_gets_a_part() -> None:
    nodes = ["n1", "n2", "n3"]
    drawn = [heir_of(f"conv_{number}", nodes) for number in range(300)]
    assert drawn == [heir_of(f"conv_{number}", reversed(nodes)) for number in range(300)]
    assert min(drawn.count(node) for node in nodes) > 60
    assert heir_of("conv_1", []) is None
