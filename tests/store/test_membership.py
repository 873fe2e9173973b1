"""Who lives, who is dead, and what may be taken from whom (survival §1, §4.2), on each store."""

from __future__ import annotations

import asyncio

import pytest

from bridge.calls.facts import ConversationId
from bridge.engine.commit import Release, StoredConversation, Unreadable
from bridge.store import Lease
from tests.store.conftest import Place
from tests.store.writes import CALL, CONVERSATION, OWNER, Node, commit

LEASE_S = 0.4
HEIR = "n2:bbb"


async def pass_time(place: Place, seconds: float, *living: tuple[Node, str]) -> None:
    """Time passes, and these renew all the while."""
    steps = max(1, round(seconds / 0.05))
    for _ in range(steps):
        if place.server is None:
            place.clock.time += seconds / steps
        else:
            await asyncio.sleep(seconds / steps)
        for node, owner in living:
            await node.store.announce(owner, b"{}", LEASE_S)


async def stored(place: Place) -> tuple[Node, Node]:
    """A node with one conversation, and another one that may be its heir."""
    first, second = await place.node(), await place.node()
    await first.store.announce(OWNER, b'{"release":"1"}', LEASE_S)
    await second.store.announce(HEIR, b"{}", LEASE_S)
    assert await first.write(commit(1, events=(1,))) == "applied"
    return first, second


async def claim(node: Node, owner: str = HEIR, nonce: str = "x") -> list[ConversationId]:
    found = await node.store.claim(owner, nonce, "n1", await node.store.owned("n1"))
    return [each.conversation for each in found]


async def test_everybody_is_heard_of(place: Place) -> None:
    first, second = await stored(place)
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert {member.owner: member.facts for member in lease.members} == {OWNER: b'{"release":"1"}', HEIR: b"{}"}
    assert {member.lease_ms for member in lease.members} == {400}
    assert lease.dead() == ()
    anew = await first.store.announce(OWNER, b"new", LEASE_S)
    assert {member.owner: member.facts for member in anew.members} == {OWNER: b"new", HEIR: b"{}"}


async def test_nothing_is_taken_from_the_living(place: Place) -> None:
    first, second = await stored(place)
    assert await claim(second) == []
    await pass_time(place, 2 * LEASE_S, (first, OWNER), (second, HEIR))
    assert await claim(second) == []
    assert await first.store.owned("n1") == [CONVERSATION]


async def test_what_the_dead_had_is_taken_once_and_one_epoch_higher(place: Place) -> None:
    first, second = await stored(place)
    third = await place.node()
    await pass_time(place, 1.5 * LEASE_S, (second, HEIR), (third, "n3:ccc"))
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert [member.owner for member in lease.dead()] == [OWNER]
    (taken,) = await second.store.claim(HEIR, "x", "n1", [CONVERSATION])
    assert (taken.epoch, taken.nonce, taken.version) == (2, "x", 1)
    assert [call.events for call in taken.calls] == [((1, b"event 1"),)]
    assert await second.store.claim(HEIR, "x", "n1", [CONVERSATION]) == [taken], "its answer may have been lost"
    assert await claim(third, "n3:ccc", "y") == []
    assert await second.store.owned("n1") == []
    assert await second.store.owned("n2") == [CONVERSATION]
    assert await first.write(commit(2)) == "lost"
    assert await first.write(commit(2, whole=True)) == "lost"


async def test_in_quiet_time_nobody_is_dead(place: Place) -> None:
    _, second = await stored(place)
    await pass_time(place, 1.5 * LEASE_S)  # the store was away: all leases lapse together
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert lease.quiet_until_ms > lease.store_ms
    assert lease.dead() == ()
    assert await claim(second) == []
    await pass_time(place, 2 * LEASE_S + 0.1, (second, HEIR))
    lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert lease.quiet_until_ms == 0
    assert [member.owner for member in lease.dead()] == [OWNER]
    assert await claim(second) == [CONVERSATION]


async def test_who_speaks_in_quiet_time_lives(place: Place) -> None:
    first, second = await stored(place)
    await pass_time(place, 1.5 * LEASE_S)
    await second.store.announce(HEIR, b"{}", LEASE_S)
    await pass_time(place, 3 * LEASE_S, (first, OWNER), (second, HEIR))
    assert await claim(second) == []


async def test_what_has_been_released_is_nobodys(place: Place) -> None:
    first, second = await stored(place)
    assert await first.write(commit(2, ends=True)) == "applied"
    first.store.release(Release(CONVERSATION, (CALL,), OWNER))
    async with asyncio.timeout(10):
        while await first.store.owned("n1"):
            await asyncio.sleep(0.01)
    await pass_time(place, 1.5 * LEASE_S, (second, HEIR))
    assert await claim(second) == []
    assert await second.store.owned("n1") == []


async def test_a_name_that_returns_takes_its_own_at_once(place: Place) -> None:
    await stored(place)
    again = await place.node()
    assert await claim(again, "n1:zzz", "z") == [CONVERSATION]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_lease_that_nobody_remembers(place: Place, forgotten: bool) -> None:
    """An emptied store, in which the survivor has written its own again, has nothing of the dead either."""
    _, second = await stored(place)
    if forgotten:
        place.empty()
    lease: Lease = await second.store.announce(HEIR, b"{}", LEASE_S)
    assert len(lease.members) == (1 if forgotten else 2)
    assert await claim(second) == []


async def test_what_the_claimer_does_not_read_stays_where_it_is(place: Place) -> None:
    """The version is the head's first member, whatever else is in there."""
    first, older, newer = await place.node(), await place.node(reads=(1, 11)), await place.node(reads=(11, 12))
    await first.store.announce(OWNER, b"{}", LEASE_S)
    written = commit(1, events=(1,))._replace(head=b'{"v":12,"x":{"v":1}}')
    assert await first.write(written) == "applied"
    await pass_time(place, 2 * LEASE_S, (older, HEIR), (newer, "n3:ccc"))
    for _ in range(2):
        assert await older.store.claim(HEIR, "x", "n1", [CONVERSATION]) == [Unreadable(CONVERSATION, 12)]
    assert await older.store.claim_predecessors("n1:bbb", "y") == [Unreadable(CONVERSATION, 12)]
    assert await older.store.owned("n1") == [CONVERSATION]
    (taken,) = await newer.store.claim("n3:ccc", "z", "n1", [CONVERSATION])
    assert isinstance(taken, StoredConversation)
    assert (taken.epoch, taken.nonce) == (2, "z")
    assert await older.store.claim(HEIR, "x", "n1", [CONVERSATION]) == [], "it is somebody else's now"


async def test_what_lives_is_not_told_to_be_unreadable(place: Place) -> None:
    first, older = await place.node(), await place.node(reads=(1,))
    await first.store.announce(OWNER, b"{}", LEASE_S)
    await older.store.announce(HEIR, b"{}", LEASE_S)
    assert await first.write(commit(1)._replace(head=b'{"v":2}')) == "applied"
    assert await older.store.claim(HEIR, "x", "n1", [CONVERSATION]) == []
