"""Calls that change their conversation, in step with a store that is slow, behind, emptied or somebody else's."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Hangup, Join, Leave, Target
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Claim
from bridge.engine.effects import Originated, OriginateRefused
from bridge.store.keyspace import Keyspace
from tests.engine.callee import Callee
from tests.engine.test_dialing import told
from tests.engine.test_joining import joined, rule, two_answered
from tests.engine.test_originating import CALL, originate
from tests.engine.world import World, answered, request, sdp

OTHER_CALL = CallId("call_" + "b" * 24)


def ids(world: World) -> set[ConversationId]:
    return {holding.id for holding in world.node.conversations()}


def hang_up_both(world: World) -> None:
    world.bye()
    world.bye("c2")
    world.advance(64.0)
    assert told(world).count("call.ended") == 2
    assert world.leftovers() == {}


def forgetful(history_s: float = 100.0) -> tuple[World, CallId, CallId]:
    """Two answered callers, and a store that can be rolled back."""
    world = World()
    world.keyspace = Keyspace(world.clock, history_s=history_s)
    answered(world)
    world.advance(1.0)
    world.packet(request("INVITE", "c2", sdp=sdp(4100)))
    world.ack("c2")
    world.advance(1.0)
    one = world.call_id
    return world, one, next(CallId(call) for call in world.stored_calls() if call != one)


@pytest.mark.parametrize("loss", ["nothing", "the last write", "all of it"])
def test_a_join_outlives_what_the_store_forgets(loss: str) -> None:
    """A call that has moved is not lost because the store that has forgotten so still knows it where it was."""
    world, one, other = forgetful()
    world.ask(Join(call_id=other))
    world.advance(0.5)
    if loss == "the last write":
        world.keyspace.roll_back(1.0)
    elif loss == "all of it":
        world.keyspace.empty()
    world.ask(Leave())
    world.ask(Join(call_id=other))
    assert rule(world, one).relay_to == other
    assert len(ids(world)) == 1
    stored = world.keyspace.conversation(next(iter(ids(world))))
    assert stored is not None
    assert set(stored[1]) == {one, other}
    hang_up_both(world)


def test_a_join_whose_write_is_refused_as_behind_brings_the_call_along() -> None:
    """The store is rolled back while the write of the join is under way."""
    world, one, other = forgetful()
    world.committing = False
    world.ask(Join(call_id=other))
    world.keyspace.roll_back(0.5 + 1.0)
    world.commit_all()
    assert {leg for holding in world.node.conversations() for leg in holding.legs} == {one, other}
    assert told(world).count("call.joined") == 2
    hang_up_both(world)


def test_a_call_moves_twice_before_the_store_has_heard_of_it() -> None:
    world, one, other = two_answered()
    world.committing = False
    world.ask(Join(call_id=other))
    world.ask(Leave())
    world.ask(Join(call_id=other))
    world.keyspace.empty()
    world.commit_all()
    assert told(world, one) == [
        "call.incoming",
        "call.answered",
        "call.joined",
        "call.left",
        "call.joined",
    ]
    assert told(world, other)[2:] == ["call.joined", "call.left", "call.joined"]
    hang_up_both(world)


def test_who_ended_long_ago_does_not_keep_a_conversation_that_others_have_left() -> None:
    """A caller whose party has gone is joined into somebody else's conversation."""
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),), end_with_peer=False),)
    world.invite()
    bob.answer(200)
    world.ack()
    bob.bye()
    one = world.call_id
    world.reply = ()
    found = 0
    while not found:  # until one has the smaller name: then the first moves
        name = f"c{len(world.stored_calls())}"
        world.packet(request("INVITE", name, sdp=sdp(4100)))
        other = max(world.node.calls(), key=lambda call: call.created_at if call.id != one else 0.0)
        found = other.conversation_id < world.call.conversation_id
        last = name, other.id
        world.advance(0.1)
    world.ask(Join(call_id=last[1]))
    world.ack(last[0])
    world.command(Hangup())
    for call in [call.id for call in world.node.calls()]:
        world.command(Hangup(), call=call)
    world.advance(400.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize("applied", range(4))
def test_a_process_that_dies_in_a_join(applied: int) -> None:
    world, one, other = two_answered()
    world.committing = False
    world.ask(Join(call_id=other))
    heir = world.restart(applied=applied)
    joined_there = heir.call.is_joined
    for call in (one, other):
        carried = heir.node.call(call)
        assert carried is not None
        assert carried.is_joined is joined_there
    # Once it is stored that the list has come to the join, whoever carries it on goes on with that.
    assert joined_there is (applied > 0)
    assert len(ids(heir)) == (1 if joined_there else 2)
    assert told(heir).count("call.joined") == (2 if joined_there else 0)
    hang_up_both(heir)


@pytest.mark.parametrize("applied", range(4))
def test_a_process_that_dies_when_one_leaves(applied: int) -> None:
    world, one, other = two_answered()
    world.ask(Join(call_id=other))
    world.committing = False
    world.ask(Leave())
    heir = world.restart(applied=applied)
    carried = [heir.node.call(call) for call in (one, other)]
    assert [call.is_joined if call is not None else None for call in carried] == [not applied] * 2
    relayed = {each.relay_to for each in (rule(heir, one), rule(heir, other))}
    assert (relayed == {None}) is bool(applied)
    hang_up_both(heir)


def claim(fingerprint: str = "f") -> Claim:
    return Claim("key", fingerprint)


def test_the_same_key_in_a_conversation_that_is_there_calls_nobody_twice() -> None:
    world, bob, _ = joined()
    conversation = world.call.conversation_id
    carol, dave = Callee(world, 3), Callee(world, 4)
    (first,) = originate(world, Target(carol.uri), conversation=conversation, claim=claim())
    assert isinstance(first, Originated)
    (second,) = originate(world, Target(dave.uri), conversation=conversation, claim=claim(), call=OTHER_CALL, request=8)
    assert isinstance(second, OriginateRefused)
    assert (second.request, second.code) == (8, "key_reused")
    assert second.remembered is not None
    assert (second.remembered.call, second.remembered.body) == (CALL, first.body)
    assert dave.got == []
    carol.answer(486)
    world.bye()
    assert bob.methods[-1] == "BYE"
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_key_is_refused_while_another_call_of_that_conversation_is_being_stored() -> None:
    world, _, _ = joined()
    conversation = world.call.conversation_id
    originate(world, Target("sip:x@192.0.2.9"), claim=claim())
    carol, dave = Callee(world, 3), Callee(world, 4)
    world.committing = False
    third = CallId("call_" + "c" * 24)
    originate(world, Target(carol.uri), conversation=conversation, call=OTHER_CALL, request=8)
    originate(world, Target(dave.uri), conversation=conversation, call=third, request=9, claim=claim())
    world.effects.clear()
    world.commit_all()
    said = [effect for effect in world.effects if isinstance(effect, Originated | OriginateRefused)]
    assert {each.request: type(each) for each in said} == {8: Originated, 9: OriginateRefused}
    assert carol.methods == ["INVITE"]
    assert dave.got == []
    assert world.node.call(third) is None


def test_a_claimed_key_alone_leaves_nothing() -> None:
    world = World()
    originate(world, Target("sip:x@192.0.2.9"), claim=claim())
    dave = Callee(world, 4)
    (said,) = originate(world, Target(dave.uri), call=OTHER_CALL, request=8, claim=claim("other"))
    assert isinstance(said, OriginateRefused)
    assert dave.got == []
    world.command(Hangup(), call=CALL)
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_key_is_claimed_though_the_store_has_to_be_told_everything() -> None:
    world, _, _ = joined()
    conversation = world.call.conversation_id
    carol, dave = Callee(world, 3), Callee(world, 4)
    world.committing = False
    originate(world, Target(carol.uri), conversation=conversation, claim=claim())
    world.keyspace.empty()
    world.commit_all()
    assert carol.methods == ["INVITE"]
    (said,) = originate(world, Target(dave.uri), call=OTHER_CALL, request=8, claim=claim())
    assert isinstance(said, OriginateRefused)
    assert dave.got == []


def test_whoever_asked_is_told_when_the_conversation_is_somebody_elses() -> None:
    world, _, _ = joined()
    conversation = world.call.conversation_id
    world.keyspace.claim_predecessors("n1:thief", "thief")
    (said,) = originate(world, Target("sip:x@192.0.2.9"), conversation=conversation)
    assert isinstance(said, OriginateRefused)
    assert said.code == "not_found"
    assert list(world.node.calls()) == []
