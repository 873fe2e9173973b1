"""A join with a call that another node carries: what is asked for, and what comes of it (survival §3, §6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.calls.actions import Action, Dial, Join, Mute, Target, Transfer
from bridge.calls.facts import ActionId, CallId, ConversationId
from bridge.engine.commit import HandOver
from bridge.engine.effects import CommandAccepted, Fetch, PassOn, Yielded, YieldRefused
from bridge.engine.inputs import Claimed, Fetched, Former, Leased, NotFetched, Yield
from bridge.sip.flow import Send
from bridge.sip.message import Request
from bridge.sip.parser import parse
from tests.engine.callee import Callee
from tests.engine.test_joining import reply
from tests.engine.world import World, answered, request, sdp, settings

CLUSTERED = settings(clustered=True)
OTHER = CallId("call_elsewhere")


def talking(world: World | None = None, *, name: str = "c1") -> World:
    """A call that has been quiet for so long that all is written of it."""
    world = answered(world or World(CLUSTERED))
    world.advance(1.0)
    return world


def ask(world: World, *actions: Action) -> ActionId:
    """The first of these is a join with a call that is not here; its name."""
    said = world.command(*actions, listed=len(actions) > 1)
    assert isinstance(said, CommandAccepted)
    return said.action_ids[0]


def fetches(world: World) -> list[Fetch]:
    return [effect for effect in world.effects if isinstance(effect, Fetch)]


def fail(world: World, action: ActionId, code: str = "ended") -> None:
    world.give(NotFetched(world.call_id, action, code, "a reason"))


def test_a_call_that_is_not_here_is_asked_for() -> None:
    world = talking()
    written = len(world.commits)
    action = ask(world, Join(call_id=OTHER))
    assert fetches(world) == [Fetch(world.call_id, action, OTHER)]
    assert world.types == ["call.incoming", "call.answered"]
    assert len(world.commits) == written + 1, "whoever carries it on knows of the join"


def test_alone_nobody_is_asked() -> None:
    world = talking(World())
    ask(world, Join(call_id=OTHER))
    assert fetches(world) == []
    assert world.told("action.failed")["code"] == "not_found"


@pytest.mark.parametrize("code", ["ended", "not_found", "wrong_state", "unreachable"])
def test_one_that_cannot_be_had_fails_the_join_and_the_list_goes_on(code: str) -> None:
    world = talking()
    action = ask(world, Join(call_id=OTHER), Mute())
    fail(world, action, code)
    failed = world.told("action.failed")
    assert (failed["action"], failed["caused_by"], failed["code"]) == ("join", action, code)
    assert world.told("action.completed")["action"] == "mute"


def test_an_attended_transfer_asks_for_the_other_call_likewise() -> None:
    world = talking()
    action = ask(world, Transfer(replaces_call_id=OTHER), Mute())
    assert fetches(world) == [Fetch(world.call_id, action, OTHER)]
    assert world.node.awaits(world.call_id, action)
    heir = world.restart()
    assert fetches(heir) == [Fetch(world.call_id, action, OTHER)], "and whoever carries it on asks again"
    fail(heir, action, "unreachable")
    failed = heir.told("action.failed")
    assert (failed["action"], failed["caused_by"], failed["code"]) == ("transfer", action, "unreachable")
    assert heir.told("action.completed")["action"] == "mute"
    assert heir.requests("REFER") == []


def test_an_attended_transfer_refers_once_the_other_call_is_here() -> None:
    world = talking()
    world.packet(request("INVITE", "c2", sdp=sdp(4100)))
    world.ack("c2")
    other = next(CallId(call) for call in world.stored_calls() if call != world.call_id)
    here = world.node._holdings.legs.pop(other)  # as if another node had it
    action = ask(world, Transfer(replaces_call_id=other))
    assert world.requests("REFER") == []
    world.node._holdings.legs[other] = here
    world.give(Fetched(world.call_id, action))
    (refer,) = world.requests("REFER")
    assert "?Replaces=c2%40" in (refer.headers.get("Refer-To") or "")


def test_an_answer_to_a_join_that_was_replaced_is_nobody_s() -> None:
    world = talking()
    action = ask(world, Join(call_id=OTHER))
    ask(world, Mute(), Mute())
    assert world.told("action.canceled")["action_id"] == action
    fail(world, action)
    world.give(Fetched(world.call_id, action))
    assert "action.failed" not in world.types
    assert len(fetches(world)) == 1


def test_an_answer_for_a_call_that_has_ended_is_nobody_s() -> None:
    world = talking()
    action = ask(world, Join(call_id=OTHER))
    call = world.call_id
    world.bye()
    world.give(Fetched(call, action))
    world.advance(64.0)
    world.give(NotFetched(call, action, "ended", "a reason"))
    assert "action.failed" not in world.types
    assert world.types[-1] == "call.ended"
    assert world.leftovers() == {}


def test_one_that_has_gone_again_meanwhile_is_not_asked_for_twice() -> None:
    world = talking()
    action = ask(world, Join(call_id=OTHER))
    world.give(Fetched(world.call_id, action))
    assert len(fetches(world)) == 1
    assert world.told("action.failed")["code"] == "not_found"


def test_the_answer_waits_until_it_is_known_whose_the_call_is() -> None:
    world = talking()
    world.give(Leased(world.now + 2.4))
    action = ask(world, Join(call_id=OTHER))
    world.clock.at += 30.0
    world.give(Fetched(world.call_id, action))
    assert "action.failed" not in world.types
    world.give(Leased(world.now + 2.4))
    world.advance(1.0)
    assert world.told("action.failed")["code"] == "not_found", "nobody has brought it, in this test"


# Two nodes


def conversation(world: World) -> ConversationId:
    return next(iter(world.node.conversations())).id


def nodes() -> tuple[World, World]:
    """Two nodes over one store, each with a call of its own: the first one's caller is c1, the other one's c2."""
    first = talking()
    second = World(replace(CLUSTERED, owner="n2:1", node_id="n2", nonce="second"), dead=first)
    second.ports, second.media = {}, ("192.0.2.11", 30000)
    second.packet(request("INVITE", "c2", sdp=sdp(4100)))
    second.ack("c2")
    second.advance(1.0)
    return first, second


def the_call(world: World) -> CallId:
    return next(call.id for call in world.node.calls())


def give_over(giver: World, taker: World, *, wanted_by: ConversationId | None = None) -> Yielded | YieldRefused:
    """What the giver's only conversation becomes when the taker asks for it."""
    effects = giver.give(Yield(9, conversation(giver), wanted_by))
    (said,) = [effect for effect in effects if isinstance(effect, Yielded | YieldRefused)]
    if isinstance(said, YieldRefused):
        return said
    owner, nonce = taker.settings.owner, taker.settings.nonce
    assert giver.keyspace.hand_over(
        HandOver(said.conversation, giver.settings.owner, said.epoch, said.version, owner, nonce)
    )
    taken = giver.keyspace.claim(owner, nonce, taker.settings.node_id, [said.conversation])
    former = Former(giver.settings.node_id, taker.now, holds=giver.settings.owner)
    taker.give(Claimed(tuple(taken), former))
    return said


def moved(world: World) -> None:
    """The far end of whoever has come is content with where it is now."""
    told = [parse(effect.data) for effect in world.effects if isinstance(effect, Send)]
    invites = [each for each in told if isinstance(each, Request) and each.method == "INVITE"]
    world.packet(reply(invites[-1], 200, sdp(4100, formats="0 101")))


def types_of(world: World, call: CallId) -> list[str]:
    return [body["type"] for _, body in world.stored_events(call)]


def test_what_has_been_brought_is_joined_once_its_far_end_knows_where_it_is() -> None:
    first, second = nodes()
    one, two = the_call(first), the_call(second)
    smaller = min(conversation(first), conversation(second))
    said = first.command(Join(call_id=two), call=one)
    assert isinstance(said, CommandAccepted)
    assert isinstance(give_over(second, first, wanted_by=conversation(first)), Yielded)
    first.give(Fetched(one, said.action_ids[0]))
    assert "call.joined" not in types_of(first, one), "nobody over there knows of these ports yet"
    moved(first)
    assert types_of(first, one) == ["call.incoming", "call.answered", "call.joined"]
    assert types_of(first, two) == ["call.incoming", "call.answered", "call.recovered", "call.joined"]
    assert {each.id for each in first.node.conversations()} == {smaller}
    merged = {name: stored.merged_into for name in (smaller,) if (stored := first.keyspace.conversation(name))}
    assert merged == {smaller: None}
    assert (first.ports[one].relay_to, first.ports[two].relay_to) == (two, one)  # type: ignore[union-attr]
    first.bye()
    first.bye("c2", sequence=9)
    first.advance(64.0)
    second.advance(64.0)
    assert first.leftovers() == second.leftovers() == {}


def test_of_two_that_want_each_other_the_smaller_name_stays() -> None:
    first, second = nodes()
    one, two = the_call(first), the_call(second)
    assert isinstance(first.command(Join(call_id=two), call=one), CommandAccepted)
    assert isinstance(second.command(Join(call_id=one), call=two), CommandAccepted)
    small, large = sorted((first, second), key=conversation)
    said = give_over(small, large, wanted_by=conversation(large))
    assert isinstance(said, YieldRefused)
    assert said.why == "busy"
    assert isinstance(give_over(large, small, wanted_by=conversation(small)), Yielded)
    moved(small)
    assert small.node.live == 2
    for call in (one, two):
        assert types_of(small, call)[-1] == "call.joined", "its own join has come along, and needs nothing any more"


def test_a_drained_node_lets_go_of_a_call_that_waits() -> None:
    first, second = nodes()
    one, two = the_call(first), the_call(second)
    assert isinstance(first.command(Join(call_id=two), call=one), CommandAccepted)
    assert isinstance(give_over(first, second), Yielded)
    moved(second)
    assert types_of(second, one)[-1] == types_of(second, two)[-1] == "call.joined"
    assert not [effect for effect in second.effects if isinstance(effect, Fetch | PassOn)]


def test_an_heir_goes_on_with_the_join() -> None:
    world = talking()
    action = ask(world, Join(call_id=OTHER))
    heir = world.restart()
    assert fetches(heir) == [Fetch(world.call_id, action, OTHER)]
    fail(heir, action)
    assert heir.told("action.failed")["caused_by"] == action


def test_one_that_rings_is_not_let_go_of_and_says_so() -> None:
    world = talking()
    bob = Callee(world)
    assert isinstance(world.command(Dial(to=(Target(bob.uri),)), call=world.call_id), CommandAccepted)
    bob.answer(180)
    world.advance(1.0)
    (said,) = [each for each in world.give(Yield(9, conversation(world))) if isinstance(each, YieldRefused)]
    assert said.why == "ringing"
