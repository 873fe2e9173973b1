"""Places on a trunk: caps that all nodes share, and what becomes of places whose node was killed."""

from __future__ import annotations

from bridge.calls.facts import CallId
from bridge.store import UNSTORED_MS, Caps
from tests.store.conftest import Place
from tests.store.writes import commit

TWO = Caps(calls=2)


async def forget_since(place: Place, trunk: str, *calls: str) -> None:
    """So much time goes by that these calls, if they were alive, would have been stored long ago."""
    place.clock.time += UNSTORED_MS / 1000 + 1
    if place.server is not None:
        for call in calls:
            place.server.ask("ZADD", f"{place.prefix}:trunk-calls:{trunk}", "1", call)


async def test_all_nodes_share_them(place: Place) -> None:
    here, there = await place.node(), await place.node()
    assert await here.store.take_place("carrier", CallId("call_a"), TWO)
    assert await there.store.take_place("carrier", CallId("call_b"), TWO)
    assert not await here.store.take_place("carrier", CallId("call_c"), TWO)
    assert await here.store.take_place("other", CallId("call_c"), TWO)
    assert await there.store.take_place("carrier", CallId("call_a"), TWO), "asked again it says the same"
    await there.store.leave_place("carrier", CallId("call_a"))
    await there.store.leave_place("carrier", CallId("call_a"))
    assert await here.store.take_place("carrier", CallId("call_c"), TWO)
    assert not await here.store.take_place("carrier", CallId("call_a"), TWO)


async def test_a_cap_that_is_lowered_holds_from_then_on(place: Place) -> None:
    node = await place.node()
    for call in ("call_a", "call_b"):
        assert await node.store.take_place("carrier", CallId(call), TWO)
    assert not await node.store.take_place("carrier", CallId("call_c"), Caps(calls=1))
    assert await node.store.take_place("carrier", CallId("call_c"), Caps(calls=3))


async def test_so_many_may_begin_in_a_second(place: Place) -> None:
    """Wherever the second ends meanwhile: three never fit into two of them."""
    here, there = await place.node(), await place.node()
    taken = [
        await node.store.take_place("carrier", CallId(f"call_{node}"), Caps(per_second=1))
        for node in (here, there, here)
    ]
    assert taken[0]
    assert not all(taken)
    place.clock.time += 1.0
    assert await here.store.take_place("other", CallId("call_a"), Caps(per_second=1))


async def test_whoever_only_counts_seconds_keeps_no_place(place: Place) -> None:
    node = await place.node()
    assert await node.store.take_place("carrier", CallId("call_a"), Caps(per_second=9))
    assert await node.store.take_place("carrier", CallId("call_b"), Caps(calls=1))


async def test_places_of_calls_that_are_over_are_found_once_there_is_none_left(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, call="call_alive"))
    for call in ("call_alive", "call_gone"):
        assert await node.store.take_place("carrier", CallId(call), TWO)
    assert not await node.store.take_place("carrier", CallId("call_next"), TWO), "it may not be stored yet"
    await forget_since(place, "carrier", "call_alive", "call_gone")
    assert await node.store.take_place("carrier", CallId("call_next"), TWO)
    await node.write(commit(1, call="call_next", conversation="conv_next"))
    await forget_since(place, "carrier", "call_alive", "call_next")
    assert not await node.store.take_place("carrier", CallId("call_last"), TWO), "both are still up"


async def test_trunks_and_users_of_one_name_are_two(place: Place) -> None:
    node = await place.node()
    await node.store.put_record("user", "alice", b"user")
    await node.store.put_record("trunk", "alice", b"trunk")
    assert await node.store.record("user", "alice") == b"user"
    assert (await node.store.changed_records("trunk", 0)).records == {"alice": b"trunk"}
    assert await node.store.delete_record("trunk", "alice")
    assert await node.store.record("user", "alice") == b"user"
