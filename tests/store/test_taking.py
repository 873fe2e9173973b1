"""Calls that move from one conversation to another, in one step. The same for every store (survival.md §6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Ack, CallWrite, Commit, Postponed, Release, StoredCall, Take
from bridge.store import ConversationRecord, Store
from tests.store.conftest import Place
from tests.store.writes import CALL, CONVERSATION, NONCE, commit

THERE = ConversationId("conv_b")  # where CALL goes
RESIDENT = CallId("call_b")  # who lives there
STAYS = CallId("call_c")  # who stays behind, where somebody does
HEIR = "n2:bbb"
SUCCESSOR = "n1:bbb"
TAKE = Take(CONVERSATION, 1, NONCE, 3, b"head taken", (CALL,))


def taking(version: int, *takes: Take, epoch: int = 1, whole: bool = False, **more: str) -> Commit:
    """A write of the other conversation that brings CALL in."""
    made = commit(version, epoch=epoch, whole=whole, conversation=THERE, call=RESIDENT, **more)
    moved = tuple(CallWrite(call, 1000, fixed=b"fixed moved", variable=b"variable moved") for call in (CALL,))
    return made._replace(calls=(*made.calls, *moved), takes=takes)


def with_another(made: Commit) -> Commit:
    """The same write, with somebody else in that conversation."""
    fixed = b"fixed stays" if made.version == 1 or made.whole else None
    return made._replace(calls=(*made.calls, CallWrite(STAYS, 900, fixed=fixed, variable=b"variable stays")))


JOIN = taking(2, TAKE)  # into a conversation that is there already
LEAVE = taking(1, TAKE)._replace(calls=taking(1, TAKE).calls[1:])  # into one of its own
ANEW = taking(3, epoch=2, whole=True)  # the store was older, or has forgotten

FROM = [commit(1, events=(1,)), commit(2, events=(2,))]
TO = [commit(1, conversation=THERE, call=RESIDENT)]
THERE_ENDED = commit(2, ends=True)


def _by(epoch: int, nonce: str) -> list[Commit | Release]:
    """CALL's conversation, written by somebody else."""
    return [commit(2, epoch=epoch, nonce=nonce, owner=HEIR, whole=True)]


STATES: dict[str, list[Commit | Release]] = {
    "nothing": [],
    "ours, as expected": [*FROM],
    "ours, as expected, with another call": [with_another(each) for each in FROM],
    "ours, one behind": FROM[:1],
    "ours, at a lower epoch": [commit(2, epoch=1, nonce="a", whole=True)],
    "ours, at a higher epoch": [commit(2, epoch=2, whole=True)],
    "another's, lower nonce": _by(1, "a"),
    "another's, higher nonce": _by(1, "z"),
    "another's, next epoch": _by(2, "a"),
}

# `older`: applied, and what the store did not know as we do keeps its fence.
TABLE: list[tuple[str, str, str, str]] = [
    #                                        join       leave      whole
    ("nothing", "stale", "stale", "applied"),
    ("ours, as expected", "applied", "applied", "older"),
    ("ours, as expected, with another call", "applied", "applied", "older"),
    ("ours, one behind", "stale", "stale", "older"),
    ("ours, at a lower epoch", "stale", "stale", "older"),
    ("ours, at a higher epoch", "stale", "stale", "older"),
    ("another's, lower nonce", "stale", "stale", "lost"),
    ("another's, higher nonce", "lost", "lost", "lost"),
    ("another's, next epoch", "lost", "lost", "lost"),
]
CASES = [
    pytest.param(state, write, outcome, id=f"{state} - {name}")
    for state, *outcomes in TABLE
    for name, write, outcome in zip(("join", "leave", "whole"), (JOIN, LEAVE, ANEW), outcomes, strict=True)
]


def test_the_table_is_total() -> None:
    assert [row[0] for row in TABLE] == list(STATES)


@dataclass(frozen=True)
class Seen:
    """Everything a reader can see of both conversations."""

    here: ConversationRecord | None
    there: ConversationRecord | None
    call: StoredCall | None
    others: tuple[StoredCall | None, ...]


async def look(store: Store) -> Seen:
    return Seen(
        await store.conversation(CONVERSATION),
        await store.conversation(THERE),
        await store.stored_call(CALL),
        (await store.stored_call(RESIDENT), await store.stored_call(STAYS)),
    )


@pytest.mark.parametrize(("state", "write", "outcome"), CASES)
async def test_fencing(place: Place, state: str, write: Commit, outcome: str) -> None:
    other = await place.node()
    for made in [*STATES[state], *([] if write is LEAVE else TO)]:
        assert isinstance(made, Commit)
        assert await other.write(made) == "applied"
    node = await place.node()
    before = await look(node.store)

    answer = await node.write(write)

    assert answer == ("applied" if outcome == "older" else outcome)
    after = await look(node.store)
    if answer != "applied":
        assert after == before
        return
    assert after.call is not None
    assert (after.call.fixed, after.call.variable) == (b"fixed moved", b"variable moved")
    assert before.call is None or after.call.events == before.call.events
    assert after.there == (write.head, tuple(sorted(call.call for call in write.calls)), None)
    if before.here is None:
        assert after.here is None
    elif STAYS in before.here.calls:
        assert after.others[1] == before.others[1]
        assert after.here == (TAKE.head if outcome == "applied" else before.here.head, (STAYS,), None)
        # As whose next version it counts; of what the store did not know as we do it has to be told everything.
        assert await node.write(commit(4, call=STAYS)) == ("applied" if outcome == "applied" else "stale")
    else:
        assert after.here == (TAKE.head if outcome == "applied" else before.here.head, (), THERE)
    # Whatever it was, it may be repeated: the answer was lost.
    after = await look(node.store)
    assert await node.write(write) == "applied"
    assert await look(node.store) == after


async def test_what_was_merged_is_owned_by_nobody_and_claimed_with_what_took_it(place: Place) -> None:
    node = await place.node()
    for made in [*FROM, *TO]:
        await node.write(made)
    node.store.acknowledge([Ack(CALL, "hook", 1)])
    node.store.postpone(Postponed(CALL, "hook", 2, 1, 9000))
    assert await node.write(JOIN) == "applied"
    await node.store.close()
    heir = await place.node()
    (claimed,) = await heir.store.claim_predecessors(SUCCESSOR, "x")
    assert (claimed.conversation, claimed.epoch, claimed.version) == (THERE, 2, 2)
    assert claimed.calls == (
        StoredCall(
            CALL,
            b"fixed moved",
            b"variable moved",
            ((1, b"event 1"), (2, b"event 2")),
            (("hook", 1),),
            (Postponed(CALL, "hook", 2, 1, 9000),),
        ),
        StoredCall(RESIDENT, b"fixed 1m1", b"variable 1m2", (), ()),
    )
    assert await heir.store.list_calls(before=None, limit=5) == [(1000, RESIDENT, None), (1000, CALL, None)]


async def test_a_call_that_left_is_claimed_apart_from_those_that_stayed(place: Place) -> None:
    node = await place.node()
    for made in FROM:
        await node.write(with_another(made))
    assert await node.write(LEAVE) == "applied"
    heir = await place.node()
    claimed = {one.conversation: one for one in await heir.store.claim_predecessors(SUCCESSOR, "x")}
    assert {name: [call.call for call in one.calls] for name, one in claimed.items()} == {
        CONVERSATION: [STAYS],
        THERE: [CALL],
    }
    assert (claimed[CONVERSATION].version, claimed[CONVERSATION].head) == (3, b"head taken")


async def test_it_moves_back_and_forth(place: Place) -> None:
    node = await place.node()
    for made in [*[with_another(each) for each in FROM], *TO, JOIN]:
        assert await node.write(made) == "applied"
    back = with_another(commit(4))._replace(takes=(Take(THERE, 1, NONCE, 3, b"head back", (CALL,)),))
    back = back._replace(calls=(CallWrite(CALL, 1000, b"fixed again", b"variable again"),))
    assert await node.write(back) == "applied"
    assert await node.store.conversation(CONVERSATION) == (back.head, (CALL, STAYS), None)
    assert await node.store.conversation(THERE) == (b"head back", (RESIDENT,), None)
    assert await node.write(JOIN) == "applied"  # a late copy of the first move changes nothing
    assert await node.store.conversation(THERE) == (b"head back", (RESIDENT,), None)
    assert await node.write(commit(4, conversation=THERE, call=RESIDENT)) == "applied"


async def test_several_conversations_are_taken_from_at_once_or_not_at_all(place: Place) -> None:
    node = await place.node()
    for made in [*FROM, *TO, commit(1, conversation="conv_c", call=STAYS)]:
        await node.write(made)
    second = Take(ConversationId("conv_c"), 1, NONCE, 3, b"head", (STAYS,))  # one version is missing
    both = with_another(JOIN)
    before = await look(node.store)
    assert await node.write(both._replace(takes=(TAKE, second))) == "stale"
    assert await look(node.store) == before
    calls = (*JOIN.calls, CallWrite(STAYS, 900, b"fixed stays", b"variable stays"))
    assert await node.write(JOIN._replace(calls=calls, takes=(TAKE, replace(second, version=2)))) == "applied"
    assert await node.store.conversation(THERE) == (JOIN.head, (CALL, RESIDENT, STAYS), None)
    assert await node.store.conversation(second.conversation) == (b"head", (), THERE)


async def test_one_conversation_may_be_taken_from_twice(place: Place) -> None:
    node = await place.node()
    for made in [*[with_another(each) for each in FROM], *TO]:
        await node.write(made)
    calls = (*JOIN.calls, CallWrite(STAYS, 900, b"fixed stays", b"variable stays"))
    takes = (TAKE, Take(CONVERSATION, 1, NONCE, 4, b"head empty", (STAYS,)))
    both = JOIN._replace(calls=calls, takes=takes)
    assert await node.write(both._replace(takes=takes[::-1])) == "stale"
    assert await node.write(both) == "applied"
    assert await node.store.conversation(CONVERSATION) == (b"head empty", (), THERE)
    assert await node.store.conversation(THERE) == (JOIN.head, (CALL, RESIDENT, STAYS), None)
    assert await node.write(commit(4)) == "applied"  # a late copy of something
    assert await node.write(commit(5)) == "lost"


async def test_a_call_that_is_not_taken_stays_whose_it_is(place: Place) -> None:
    node = await place.node()
    for made in [*FROM, *TO]:
        await node.write(made)
    before = await look(node.store)
    assert await node.write(JOIN._replace(takes=())) == "exists"
    assert await node.write(JOIN._replace(takes=(replace(TAKE, calls=(STAYS,)),))) == "exists"
    assert await node.write(ANEW._replace(owner=HEIR)) == "lost"
    assert await look(node.store) == before


async def test_what_has_ended_does_not_come_back_to_life(place: Place) -> None:
    node = await place.node()
    for made in [FROM[0], THERE_ENDED, *TO]:
        await node.write(made)
    before = await look(node.store)
    assert await node.write(JOIN) == "exists"
    assert await look(node.store) == before


async def test_where_only_ended_calls_are_left_it_is_said_where_the_living_went(place: Place) -> None:
    node = await place.node(retention_s=100.0)
    for made in [with_another(each) for each in FROM]:
        await node.write(made)
    await node.write(commit(3, call=STAYS, ends=True))
    await node.write(TO[0])
    take = replace(TAKE, version=4)
    assert await node.write(taking(2, take)) == "applied"
    assert await node.store.conversation(CONVERSATION) == (b"head taken", (STAYS,), THERE)
    # Its last events are still on their way, so it is owned, and written, until they are settled.
    assert await node.write(commit(5, call=STAYS, acks=(Ack(STAYS, "hook", 1),))) == "applied"
    heads = {one.conversation: one.head for one in await node.store.claim_predecessors(SUCCESSOR, "x")}
    assert heads[CONVERSATION] == b"head 1m5"
    node.store.release(Release(CONVERSATION, (STAYS,), SUCCESSOR))
    await node.store.close()
    reader = await place.node()
    assert await reader.store.conversation(CONVERSATION) == (b"head 1m5", (STAYS,), THERE)


async def test_what_the_store_knew_less_of_is_told_everything_next(place: Place) -> None:
    node = await place.node()
    await node.write(with_another(FROM[0]))  # we know of more
    for made in TO:
        await node.write(made)
    assert await node.write(JOIN) == "stale"
    assert await node.write(ANEW) == "applied"
    assert await node.store.conversation(CONVERSATION) == (b"head 1m1", (STAYS,), None)
    assert await node.write(commit(4, call=STAYS)) == "stale"
    assert await node.write(commit(5, epoch=2, call=STAYS, whole=True)) == "applied"
    assert await node.store.conversation(CONVERSATION) == (b"head 2m5", (STAYS,), None)
    moved = await node.store.stored_call(CALL)
    assert moved is not None
    assert moved.fixed == b"fixed moved"


async def test_an_emptied_store_is_told_of_both(place: Place) -> None:
    node = await place.node()
    for made in [*[with_another(each) for each in FROM], *TO]:
        await node.write(made)
    place.empty()
    assert await node.write(JOIN) == "stale"
    assert await node.write(ANEW) == "applied"
    assert await node.write(commit(4, epoch=2, call=STAYS, whole=True)) == "applied"
    assert await node.store.conversation(THERE) == (ANEW.head, (CALL, RESIDENT), None)
    assert await node.store.conversation(CONVERSATION) == (b"head 2m4", (STAYS,), None)
    assert len(await node.store.claim_predecessors(SUCCESSOR, "x")) == 2


async def test_the_order_in_which_both_are_told_does_not_matter(place: Place) -> None:
    node = await place.node()
    for made in [*[with_another(each) for each in FROM], *TO]:
        await node.write(made)
    # It was thought to have moved, in a write that the store has lost; the one it left is written first.
    assert await node.write(commit(4, epoch=2, call=STAYS, whole=True)) == "applied"
    assert await node.write(ANEW) == "applied"
    assert await node.store.conversation(THERE) == (ANEW.head, (CALL, RESIDENT), None)
    assert await node.store.conversation(CONVERSATION) == (b"head 2m4", (STAYS,), None)
    assert await node.write(commit(5, epoch=2, call=STAYS)) == "applied"


async def test_a_merged_conversation_is_forgotten_with_the_retention(place: Place) -> None:
    node = await place.node(retention_s=0.1)
    for made in [*FROM, *TO, JOIN]:
        await node.write(made)
    place.clock.time += 0.2
    reader = await place.node()
    async with asyncio.timeout(10):
        while await reader.store.conversation(CONVERSATION) is not None:
            await asyncio.sleep(0.005)
    assert await reader.store.stored_call(CALL) is not None


async def test_a_write_to_what_has_been_merged_is_lost(place: Place) -> None:
    node = await place.node()
    for made in [*FROM, *TO, JOIN]:
        await node.write(made)
    before = await look(node.store)
    assert await node.write(commit(4)) == "lost"
    assert await node.write(commit(4, epoch=2, whole=True)) == "lost"
    assert await node.write(commit(2)) == "applied"  # a late copy
    assert await look(node.store) == before
