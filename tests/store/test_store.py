"""What every store keeps: writes, claims, releases, reads. The same tests over each (survival.md §2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Ack, CallWrite, Postponed, Release, StoredCall
from bridge.engine.inputs import Committed
from tests.store.conftest import Place
from tests.store.writes import CALL, CONVERSATION, OWNER, commit

SUCCESSOR = "n1:bbb"
STRANGER = "n2:ccc"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """What is written lazily is read again and again until it is there."""
    async with asyncio.timeout(15):
        while not await holds():
            await asyncio.sleep(0.005)


async def test_a_commit_is_answered_later_and_in_order(place: Place) -> None:
    node = await place.node()
    for version in range(1, 6):
        node.store.commit(commit(version, ticket=version))
    assert node.inbox.inputs == []  # never from within
    await node.inbox.holds(Committed(5))
    assert node.inbox.inputs == [Committed(ticket) for ticket in range(1, 6)]


async def test_a_call_is_read_back_as_it_was_last_written(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, events=(1,)))
    await node.write(commit(2, events=(2,), acks=(Ack(CALL, "hook", 1),)))
    assert await node.store.stored_call(CALL) == StoredCall(
        CALL, b"fixed 1m1", b"variable 1m2", ((1, b"event 1"), (2, b"event 2")), (("hook", 1),)
    )
    assert await node.store.final_record(CALL) is None
    assert await node.store.conversation(CONVERSATION) == (b"head 1m2", (CALL,), None)


async def test_an_ended_call_leaves_its_final_record(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, events=(1,)))
    await node.write(commit(2, events=(2,), ends=True))
    assert await node.store.stored_call(CALL) is None
    assert await node.store.final_record(CALL) == b'{"ended": "1m2"}'
    assert await node.store.events(CALL) == [(1, b"event 1"), (2, b"event 2")]


async def test_what_nobody_wrote_is_not_there(place: Place) -> None:
    node = await place.node()
    assert await node.store.stored_call(CALL) is None
    assert await node.store.final_record(CALL) is None
    assert await node.store.events(CALL) is None
    assert await node.store.conversation(CONVERSATION) is None
    assert await node.store.list_calls(before=None, limit=10) == []
    assert await node.store.claim_predecessors(OWNER, "n") == []


@pytest.mark.parametrize("same_conversation", [True, False])
async def test_of_two_nodes_racing_on_one_call_one_creates_it(place: Place, same_conversation: bool) -> None:
    first, second = await place.node(), await place.node()
    conversations = (CONVERSATION, CONVERSATION if same_conversation else "conv_b")
    answers = await asyncio.gather(
        first.write(commit(1, nonce="b", conversation=conversations[0])),
        second.write(commit(1, nonce="c", owner=STRANGER, conversation=conversations[1])),
    )
    assert sorted(answers) == ["applied", "exists"]
    stored = await first.store.stored_call(CALL)
    assert stored is not None
    assert stored.fixed == (b"fixed 1b1" if answers[0] == "applied" else b"fixed 1c1")


async def test_acknowledgements_move_the_cursor_and_never_back(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, events=(1, 2, 3)))
    for sequence in (2, 3, 1):
        node.store.acknowledge([Ack(CALL, "hook", sequence)])
    node.store.acknowledge([Ack(CALL, "other", 1)])

    async def moved() -> bool:
        stored = await node.store.stored_call(CALL)
        return stored is not None and stored.cursors == (("hook", 3), ("other", 1))

    await until(moved)
    await node.write(commit(2, acks=(Ack(CALL, "hook", 2),)))
    assert await moved()


async def test_an_acknowledgement_of_an_unknown_call_leaves_nothing_behind(place: Place) -> None:
    node = await place.node()
    node.store.acknowledge([Ack(CallId("call_x"), "hook", 1)])
    node.store.postpone(Postponed(CallId("call_x"), "hook", 1, 1, 5000))
    await node.write(commit(1))
    assert await node.store.events(CallId("call_x")) is None
    assert await node.write(commit(1, call="call_x", conversation="conv_x")) == "applied"
    stored = await node.store.stored_call(CallId("call_x"))
    assert stored == StoredCall(CallId("call_x"), b"fixed 1m1", b"variable 1m1", (), ())


async def test_a_postponed_delivery_is_remembered_until_it_is_settled(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, events=(1, 2)))
    second = Postponed(CALL, "hook", 1, 2, 9000)
    node.store.postpone(second)
    await node.write(commit(2))
    node.store.postpone(Postponed(CALL, "hook", 1, 1, 5000))  # overtaken
    await node.write(commit(3))
    stored = await node.store.stored_call(CALL)
    assert stored is not None
    assert stored.postponed == (second,)
    await node.write(commit(4, acks=(Ack(CALL, "hook", 1),)))
    node.store.postpone(second)  # sent again after its settlement
    await node.write(commit(5))
    stored = await node.store.stored_call(CALL)
    assert stored is not None
    assert stored.postponed == ()


async def test_a_new_incarnation_claims_everything_its_predecessor_had(place: Place) -> None:
    old = await place.node()
    await old.write(commit(1, events=(1, 2), acks=(Ack(CALL, "hook", 1),)))
    old.store.postpone(Postponed(CALL, "hook", 2, 3, 7000))
    await old.write(commit(1, conversation="conv_b", call="call_b"))
    await old.write(commit(2, conversation="conv_b", call="call_b", events=(1,), ends=True))  # undelivered
    await old.write(commit(1, conversation="conv_c", call="call_c"))
    await old.write(commit(2, conversation="conv_c", call="call_c", ends=True))
    old.store.release(Release(ConversationId("conv_c"), (CallId("call_c"),), OWNER))
    await old.write(commit(1, conversation="conv_d", call="call_d", owner=STRANGER))
    await old.store.close()

    new = await place.node()
    claimed = {one.conversation: one for one in await new.store.claim_predecessors(SUCCESSOR, "x")}

    assert set(claimed) == {CONVERSATION, ConversationId("conv_b")}
    first = claimed[CONVERSATION]
    assert (first.epoch, first.nonce, first.version, first.head) == (2, "x", 1, b"head 1m1")
    assert first.calls == (
        StoredCall(
            CALL,
            b"fixed 1m1",
            b"variable 1m1",
            ((1, b"event 1"), (2, b"event 2")),
            (("hook", 1),),
            (Postponed(CALL, "hook", 2, 3, 7000),),
        ),
    )
    assert claimed[ConversationId("conv_b")].calls[0].events == ((1, b"event 1"),)


async def test_the_heir_goes_on_and_the_predecessor_is_fenced_off(place: Place) -> None:
    old, new = await place.node(), await place.node()
    await old.write(commit(1))
    await new.store.claim_predecessors(SUCCESSOR, "x")
    assert await old.write(commit(2)) == "lost"
    assert await new.write(commit(2, epoch=2, nonce="x", owner=SUCCESSOR)) == "applied"
    assert await old.write(commit(1)) == "lost"  # nor can it create it anew


async def test_a_claim_whose_answer_was_lost_is_asked_again(place: Place) -> None:
    old, new = await place.node(), await place.node()
    await old.write(commit(1, events=(1,)))
    first = await new.store.claim_predecessors(SUCCESSOR, "x")
    assert await new.store.claim_predecessors(SUCCESSOR, "x") == first
    assert [one.epoch for one in first] == [2]
    assert await new.store.claim_predecessors(SUCCESSOR, "y") == []  # it is ours: there is nothing more to take
    third = await new.store.claim_predecessors("n1:ccc", "z")
    assert [(one.epoch, one.nonce) for one in third] == [(3, "z")]


async def test_a_whole_record_moves_the_conversation_to_its_new_owner(place: Place) -> None:
    first, second = await place.node(), await place.node()
    await first.write(commit(1, owner=STRANGER))
    await second.write(commit(2, epoch=2, owner=OWNER, whole=True))
    assert await first.store.claim_predecessors("n2:ddd", "y") == []
    assert [one.epoch for one in await second.store.claim_predecessors(SUCCESSOR, "x")] == [3]


async def test_a_whole_record_leaves_nothing_of_the_one_before(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1))
    second = commit(2)._replace(calls=(CallWrite(CallId("call_b"), 2000, fixed=b"fixed", variable=b"variable"),))
    await node.write(second)
    assert await node.store.conversation(CONVERSATION) == (b"head 1m2", (CALL, CallId("call_b")), None)
    await node.write(commit(3, epoch=2, whole=True))
    assert await node.store.conversation(CONVERSATION) == (b"head 2m3", (CALL,), None)
    assert await node.store.stored_call(CallId("call_b")) is None


async def test_a_release_keeps_the_record_and_the_events_for_the_retention(place: Place) -> None:
    node = await place.node(retention_s=0.3)
    await node.write(commit(1, events=(1,)))
    await node.write(commit(2, events=(2,), ends=True))
    node.store.acknowledge([Ack(CALL, "hook", 2)])
    node.store.release(Release(CONVERSATION, (CALL,), OWNER))
    await node.store.close()
    reader = await place.node()
    assert await reader.store.final_record(CALL) == b'{"ended": "1m2"}'
    assert await reader.store.events(CALL) == [(1, b"event 1"), (2, b"event 2")]
    assert await reader.store.conversation(CONVERSATION) == (b"head 1m2", (CALL,), None)
    assert await reader.store.list_calls(before=None, limit=5) == [(1000, CALL, b'{"ended": "1m2"}')]
    assert await reader.store.claim_predecessors(SUCCESSOR, "x") == []

    place.clock.time += 0.3

    async def gone() -> bool:
        answers = (
            await reader.store.final_record(CALL),
            await reader.store.events(CALL),
            await reader.store.conversation(CONVERSATION),
        )
        return answers == (None, None, None)

    await until(gone)
    assert await reader.store.list_calls(before=None, limit=5) == []


async def test_a_release_by_somebody_who_lost_the_conversation_does_nothing(place: Place) -> None:
    old, new = await place.node(), await place.node()
    await old.write(commit(1, events=(1,), ends=True))
    await new.store.claim_predecessors(SUCCESSOR, "x")
    old.store.release(Release(CONVERSATION, (CALL,), OWNER))
    await old.store.close()
    assert await new.write(commit(2, epoch=2, nonce="x", owner=SUCCESSOR)) == "applied"
    assert [one.epoch for one in await new.store.claim_predecessors("n1:ccc", "z")] == [3]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_the_list_of_calls_is_read_in_pages_newest_first(place: Place, limit: int) -> None:
    node = await place.node()
    born = {"call_a": 1000, "call_b": 2000, "call_c": 2000, "call_d": 2000, "call_e": 2000, "call_f": 3000}
    await node.write_all(
        [commit(1, conversation=f"conv_{call}", call=call, created_ms=at) for call, at in born.items()]
    )
    await node.write(commit(2, conversation="conv_call_c", call="call_c", ends=True))
    pages: list[tuple[int, CallId, bytes | None]] = []
    before = None
    while page := await node.store.list_calls(before=before, limit=limit):
        assert len(page) <= limit
        pages += page
        before = page[-1][:2]
    assert [(at, call) for at, call, _ in pages] == sorted(((at, call) for call, at in born.items()), reverse=True)
    assert {call: record for _, call, record in pages if record} == {"call_c": b'{"ended": "1m2"}'}


async def test_more_calls_of_one_millisecond_than_a_page_holds_are_all_listed(place: Place) -> None:
    node = await place.node()
    names = [f"call_{n:03}" for n in range(150)]
    await node.write_all([commit(1, conversation=f"conv_{name}", call=name) for name in names])
    listed: list[str] = []
    before = None
    while page := await node.store.list_calls(before=before, limit=7):
        listed += [call for _, call, _ in page]
        before = page[-1][:2]
    assert listed == sorted(names, reverse=True)


async def test_many_nodes_that_want_a_secret_get_the_same_one(place: Place) -> None:
    nodes = [await place.node() for _ in range(5)]
    secrets = await asyncio.gather(*(node.store.secret("hook", f"proposal {i}") for i, node in enumerate(nodes)))
    assert len(set(secrets)) == 1
    assert secrets[0].startswith("proposal ")
    assert await nodes[0].store.secret("other", "its own") == "its own"


async def test_a_node_learns_that_a_newer_incarnation_has_replaced_it(place: Place) -> None:
    old, new, stranger = await place.node(), await place.node(), await place.node()
    lease = await old.store.announce(OWNER, b"{}", 3.0)
    assert (lease.owner, lease.replaced_by) == (OWNER, None)
    assert (await old.store.announce(OWNER, b"{}", 3.0)).replaced_by is None
    assert (await new.store.announce(SUCCESSOR, b"{}", 3.0)).replaced_by is None
    assert (await stranger.store.announce(STRANGER, b"{}", 3.0)).replaced_by is None
    assert (await old.store.announce(OWNER, b"{}", 3.0)).replaced_by == SUCCESSOR
    assert (await new.store.announce(SUCCESSOR, b"{}", 3.0)).replaced_by is None


async def test_a_store_that_restarted_empty_is_written_anew_at_the_next_epoch(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, events=(1,)))
    await node.write(commit(2, events=(2,)))
    place.empty()
    assert await node.write(commit(3, events=(3,))) == "stale"
    assert await node.store.stored_call(CALL) is None
    whole = commit(4, epoch=2, whole=True, events=(2, 3), acks=(Ack(CALL, "hook", 2),))
    assert await node.write(whole) == "applied"
    assert await node.write(commit(5, epoch=2)) == "applied"
    (claimed,) = await node.store.claim_predecessors(SUCCESSOR, "x")
    assert (claimed.epoch, claimed.version) == (3, 5)
    assert claimed.calls[0].events == ((2, b"event 2"), (3, b"event 3"))
    assert claimed.calls[0].cursors == (("hook", 2),)
    assert await node.store.list_calls(before=None, limit=5) == [(1000, CALL, None)]


async def test_an_emptied_store_does_not_bring_a_replaced_node_back(place: Place) -> None:
    old, new = await place.node(), await place.node()
    await old.store.announce(OWNER, b"{}", 3.0)
    await new.store.announce(SUCCESSOR, b"{}", 3.0)
    place.empty()
    assert (await old.store.announce(OWNER, b"{}", 3.0)).replaced_by is None  # nobody can know better yet
    assert (await new.store.announce(SUCCESSOR, b"{}", 3.0)).replaced_by is None
    assert (await old.store.announce(OWNER, b"{}", 3.0)).replaced_by == SUCCESSOR


async def test_facts_name_what_doctor_looks_at(place: Place) -> None:
    node = await place.node()
    facts = await node.store.facts()
    fails_over = place.kind in {"sentinel", "cluster"}
    assert facts["software"] == ("redis" if fails_over else place.kind)
    assert facts.get("discovery") == (place.kind if fails_over else None)
    assert facts["maxmemory-policy"] == "noeviction"
    assert facts["appendonly"] == "no"
    assert facts["replicas"] == {"sentinel": "1", "cluster": facts["replicas"]}.get(place.kind, "0")
    assert facts["version"][0].isdigit()
