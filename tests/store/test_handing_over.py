"""One node writes a conversation over to another, and departs; whoever asks hears where a call is. On each store."""

from __future__ import annotations

import asyncio

import pytest

from bridge.calls.facts import CallId
from bridge.engine.commit import HandOver, Release
from bridge.store import Whereabouts
from tests.store.conftest import Place
from tests.store.test_membership import HEIR, LEASE_S, claim, pass_time, stored
from tests.store.writes import CALL, CONVERSATION, OWNER, commit

GIVEN = HandOver(CONVERSATION, OWNER, 1, 1, HEIR, "x")


async def test_it_is_the_next_owner_s_one_epoch_higher(place: Place) -> None:
    first, second = await stored(place)
    assert await first.store.hand_over(GIVEN)
    assert await first.store.owned("n1") == []
    assert await second.store.owned("n2") == [CONVERSATION]
    assert await second.store.whereabouts(CALL) == Whereabouts(CONVERSATION, HEIR)
    (taken,) = await second.store.claim(HEIR, "x", "n2", [CONVERSATION])
    assert (taken.epoch, taken.nonce, taken.version) == (2, "x", 1)
    assert [call.events for call in taken.calls] == [((1, b"event 1"),)]
    assert await second.store.claim(HEIR, "x", "n2", [CONVERSATION]) == [taken], "its answer may have been lost"
    assert await first.write(commit(2)) == "lost"
    assert await second.write(commit(2, epoch=2, nonce="x", owner=HEIR)) == "applied"


async def test_until_its_next_owner_has_written_it_is_known_who_has_carried_it(place: Place) -> None:
    """An heir of the same name that is started meanwhile has none of its ports."""
    first, second = await stored(place)
    assert await first.store.hand_over(GIVEN)
    (taken,) = await second.store.claim("n2:later", "y", "n2", [CONVERSATION])
    assert taken.handed_by == "n1"
    assert await second.write(commit(2, epoch=3, nonce="y", owner="n2:later")) == "applied"
    (again,) = await second.store.claim("n2:latest", "z", "n2", [CONVERSATION])
    assert again.handed_by == ""


async def test_asked_again_it_says_the_same(place: Place) -> None:
    first, _ = await stored(place)
    assert await first.store.hand_over(GIVEN)
    assert await first.store.hand_over(GIVEN)


@pytest.mark.parametrize(
    "given",
    [
        HandOver(CONVERSATION, OWNER, 2, 1, HEIR, "x"),
        HandOver(CONVERSATION, OWNER, 1, 2, HEIR, "x"),
        HandOver(CONVERSATION, "n3:ccc", 1, 1, HEIR, "x"),
        HandOver(CONVERSATION, OWNER, 1, 1, "n2:another", "x"),
    ],
    ids=["epoch", "version", "owner", "an heir that has been started anew"],
)
async def test_what_is_not_so_changes_nothing(place: Place, given: HandOver) -> None:
    first, second = await stored(place)
    assert not await first.store.hand_over(given)
    assert await second.store.whereabouts(CALL) == Whereabouts(CONVERSATION, OWNER)
    assert await first.write(commit(2)) == "applied"


async def test_an_heir_that_the_store_has_forgotten_is_as_good_as_another(place: Place) -> None:
    """An emptied store hears of everybody again within a second; calls are written again at once."""
    first, _ = await stored(place)
    place.empty()
    assert await first.write(commit(1)) == "applied"
    assert await first.store.hand_over(GIVEN)


async def test_what_has_been_released_is_not_handed_over(place: Place) -> None:
    first, _ = await stored(place)
    assert await first.write(commit(2, ends=True)) == "applied"
    first.store.release(Release(CONVERSATION, (CALL,), OWNER))
    async with asyncio.timeout(10):
        while await first.store.owned("n1"):
            await asyncio.sleep(0.01)
    assert not await first.store.hand_over(HandOver(CONVERSATION, OWNER, 1, 2, HEIR, "x"))


async def test_what_a_node_leaves_when_it_departs_is_free_at_once(place: Place) -> None:
    first, second = await stored(place)
    await first.store.depart(OWNER)
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert [(member.owner, member.has_departed) for member in lease.dead()] == [(OWNER, True)]
    assert await claim(second) == [CONVERSATION]


async def test_who_has_been_replaced_departs_for_nobody(place: Place) -> None:
    first, second = await stored(place)
    again = await place.node()
    await again.store.announce("n1:zzz", b"{}", LEASE_S)
    await first.store.depart(OWNER)
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert lease.dead() == ()
    assert await claim(second) == []


async def test_a_node_that_departs_alone_makes_no_quiet_time(place: Place) -> None:
    node = await place.node()
    await node.store.announce(OWNER, b"{}", LEASE_S)
    await node.store.depart(OWNER)
    again = await place.node()
    lease = await again.store.announce("n1:zzz", b"{}", LEASE_S)
    assert lease.quiet_until_ms == 0


async def test_nobody_has_a_call_that_has_ended_or_is_not_known(place: Place) -> None:
    first, second = await stored(place)
    assert await second.store.whereabouts(CallId("call_nobody")) is None
    assert await first.write(commit(2, ends=True)) == "applied"
    assert await second.store.whereabouts(CALL) is None


async def test_what_was_taken_is_found_at_its_heir(place: Place) -> None:
    _, second = await stored(place)
    await pass_time(place, 1.5 * LEASE_S, (second, HEIR))
    assert await claim(second) == [CONVERSATION]
    assert await second.store.whereabouts(CALL) == Whereabouts(CONVERSATION, HEIR)
