"""An Idempotency-Key is claimed in the same step as the call it was sent for. The same for every store (survival.md §6)."""

from __future__ import annotations

import asyncio

from bridge.calls.facts import CallId
from bridge.engine.commit import Ack, CallWrite, Claim, Remembered
from bridge.engine.inputs import CommitRefused
from bridge.store import REMEMBERED_S
from tests.store.conftest import Place
from tests.store.writes import CALL, Node, commit

CLAIM = Claim("ops:k1", "print", CALL, b'{"id":"call_a"}')
OTHERS = Claim("ops:k1", "print", CallId("call_b"), b'{"id":"call_a"}')
ANSWER = Remembered("print", CALL, 201, b'{"id":"call_a"}')
OTHER = CallId("call_b")
STRANGER = "n2:ccc"


def refusals(node: Node) -> list[CommitRefused]:
    return [given for given in node.inbox.inputs if isinstance(given, CommitRefused)]


async def test_what_came_of_a_key_is_remembered(place: Place) -> None:
    node = await place.node()
    assert await node.store.remembered(CLAIM.key) is None
    assert await node.write(commit(1, claim=CLAIM, events=(1,))) == "applied"
    reader = await place.node()
    assert await reader.store.remembered(CLAIM.key) == ANSWER
    assert await reader.store.remembered("ops:k2") is None
    assert await reader.store.remembered("desk:k1") is None


async def test_a_key_that_is_taken_refuses_the_other_call_and_says_what_came_of_the_first(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, claim=CLAIM))
    again = Claim(CLAIM.key, "another print", OTHER, b'{"id":"call_b"}')
    second = commit(1, conversation="conv_b", call=OTHER, claim=again, events=(1,), ticket=7)
    assert await node.write(second) == "claimed"
    assert refusals(node) == [CommitRefused(7, "claimed", ANSWER)]
    assert await node.store.stored_call(OTHER) is None
    assert await node.store.events(OTHER) is None
    assert await node.store.conversation(second.conversation) is None
    assert await node.store.list_calls(before=None, limit=5) == [(1000, CALL, None)]
    assert await node.store.remembered(CLAIM.key) == ANSWER
    assert [one.conversation for one in await node.store.claim_predecessors("n1:bbb", "x")] == ["conv_a"]


async def test_a_refused_claim_settles_the_deliveries_it_carried(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, claim=CLAIM, events=(1,)))
    second = commit(1, conversation="conv_b", call=OTHER, claim=OTHERS, acks=(Ack(CALL, "hook", 1),))
    assert await node.write(second) == "claimed"
    stored = await node.store.stored_call(CALL)
    assert stored is not None
    assert stored.cursors == (("hook", 1),)


async def test_a_write_that_is_repeated_is_applied_once_and_keeps_its_claim(place: Place) -> None:
    node, later = await place.node(), await place.node()
    first = commit(1, claim=CLAIM, events=(1,))
    assert await node.write(first) == "applied"
    assert await node.write(first) == "applied"  # its answer was lost
    assert await node.write(commit(2)) == "applied"
    assert await later.write(first) == "applied"  # a late copy
    assert await node.store.remembered(CLAIM.key) == ANSWER
    assert await node.write(commit(3)) == "applied"


async def test_of_two_nodes_racing_with_one_key_one_makes_its_call(place: Place) -> None:
    first, second = await place.node(), await place.node()
    answers = await asyncio.gather(
        first.write(commit(1, claim=CLAIM)),
        second.write(commit(1, conversation="conv_b", call=OTHER, owner=STRANGER, nonce="z", claim=OTHERS)),
    )
    assert sorted(answers) == ["applied", "claimed"]
    winner, loser = (CALL, second) if answers[0] == "applied" else (OTHER, first)
    (refusal,) = refusals(loser)
    assert refusal.remembered == Remembered("print", winner, 201, CLAIM.answer)
    assert [call for _, call, _ in await first.store.list_calls(before=None, limit=5)] == [winner]


async def test_two_requests_in_one_turn_of_one_node_make_one_call(place: Place) -> None:
    node = await place.node()
    both = [commit(1, claim=CLAIM), commit(1, conversation="conv_b", call=OTHER, claim=OTHERS)]
    assert await node.write_all(both) == ["applied", "claimed"]


async def test_a_call_that_is_born_into_a_conversation_claims_too(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1))
    await node.write(commit(1, conversation="conv_b", call=OTHER, claim=OTHERS))
    assert await node.write(commit(2, claim=CLAIM)) == "claimed"
    assert await node.write(commit(3)) == "stale"  # what came behind it does not count either
    assert await node.write(commit(2)) == "applied"
    assert await node.write(commit(3, claim=Claim("ops:k3", "print", CALL))) == "applied"


async def test_the_call_that_is_claimed_for_may_be_any_of_the_conversation(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1))
    made = commit(2, claim=Claim("ops:k4", "print", OTHER, b"{}"))
    made = made._replace(calls=(*made.calls, CallWrite(OTHER, 2000, b"fixed", b"variable")))
    assert await node.write(made) == "applied"
    assert await node.store.remembered("ops:k4") == Remembered("print", OTHER, 201, b"{}")


async def test_a_write_that_is_refused_claims_nothing(place: Place) -> None:
    node = await place.node()
    assert await node.write(commit(3, claim=CLAIM)) == "stale"
    assert await node.store.remembered(CLAIM.key) is None
    await node.write(commit(1, owner=STRANGER, nonce="z"))
    assert await node.write(commit(1, claim=CLAIM)) == "exists"
    assert await node.store.remembered(CLAIM.key) is None


async def test_an_emptied_store_is_told_the_claim_again(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, claim=CLAIM))
    place.empty()
    assert await node.write(commit(2, claim=CLAIM)) == "stale"
    assert await node.write(commit(3, epoch=2, whole=True, claim=CLAIM)) == "applied"
    assert await node.store.remembered(CLAIM.key) == ANSWER


async def test_a_call_that_is_told_anew_lives_whoever_has_its_key(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, claim=CLAIM))
    place.empty()
    assert await node.write(commit(1, conversation="conv_b", call=OTHER, claim=OTHERS)) == "applied"
    assert await node.write(commit(3, epoch=2, whole=True, claim=CLAIM)) == "applied"
    assert await node.store.remembered(CLAIM.key) == Remembered("print", OTHER, 201, CLAIM.answer)


async def test_a_key_is_known_for_a_day_and_longer_than_its_call(place: Place) -> None:
    node = await place.node(retention_s=0.05)
    await node.write(commit(1, claim=CLAIM))
    await node.write(commit(2, ends=True))
    place.clock.time += 60
    assert await node.store.remembered(CLAIM.key) == ANSWER
    if place.server is not None:
        left_ms = int(place.server.ask("PTTL", f"{place.prefix}:idem:{CLAIM.key}")[1:])
        assert REMEMBERED_S * 1000 - 60_000 < left_ms <= REMEMBERED_S * 1000
        return
    place.clock.time += REMEMBERED_S - 61
    assert await node.store.remembered(CLAIM.key) == ANSWER
    place.clock.time += 1
    assert await node.store.remembered(CLAIM.key) is None
    assert await node.write(commit(1, conversation="conv_b", call=OTHER, claim=OTHERS)) == "applied"
