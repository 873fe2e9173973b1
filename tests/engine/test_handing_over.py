"""Letting go of a conversation that another node shall carry on (survival §4, drain)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.calls.actions import Hold, Park
from bridge.calls.facts import ConversationId
from bridge.engine.commit import HandOver
from bridge.engine.effects import ClosePorts, PassOn, Yielded, YieldRefused
from bridge.engine.handover import LINGER_S
from bridge.engine.inputs import Claimed, Former, Leased, StoreAway, StoreBack, Yield
from bridge.sip.flow import Send
from bridge.sip.parser import parse
from tests.engine.world import CALLER, World, answered, settings

CLUSTERED = settings(clustered=True)


def talking() -> World:
    """A call that has been quiet for so long that all is written of it."""
    world = answered(World(CLUSTERED))
    world.advance(1.0)
    return world


def ask(world: World, conversation: ConversationId | None = None) -> Yielded | YieldRefused:
    """Whoever drains the node asks for its first conversation, and hears this."""
    name = conversation or world.commits[0].conversation
    (said,) = [effect for effect in world.give(Yield(7, name)) if isinstance(effect, Yielded | YieldRefused)]
    assert said.request == 7
    return said


def hand_over(world: World, said: Yielded, *, owner: str = "n2:1", nonce: str = "heir") -> Claimed:
    """It is written over, and its next owner takes it up; the former one lives, and holds its flows."""
    given = HandOver(said.conversation, world.settings.owner, said.epoch, said.version, owner, nonce)
    assert world.keyspace.hand_over(given)
    node_id = owner.partition(":")[0]
    taken = world.keyspace.claim(owner, nonce, node_id, [said.conversation])
    return Claimed(tuple(taken), Former(world.settings.node_id, world.now, holds=world.settings.owner))


def test_what_is_at_rest_is_let_go_of_without_a_word_to_anybody() -> None:
    world = talking()
    sent, said = len(world.sent), ask(world)
    assert isinstance(said, Yielded)
    stored = world.keyspace.claim("n1:1", "x", "n1", [said.conversation])
    assert stored == [], "it is ours until it is written over"
    assert (said.epoch, said.version, said.calls) == (1, world.commits[-1].version, (world.call_id,))
    assert len(world.sent) == sent
    assert world.node.call(world.call_id) is None
    assert (world.node.live, world.node.carried) == (0, 0)


def test_its_ports_stay_open_for_a_while() -> None:
    world = talking()
    ask(world)
    assert list(world.ports) == [world.call_id]
    world.advance(LINGER_S - 0.1)
    assert list(world.ports) == [world.call_id]
    world.advance(0.2)
    assert world.ports == {}
    world.advance(60.0)
    assert world.node.deadline() is None


def test_what_comes_back_before_its_ports_are_closed_keeps_them() -> None:
    world = talking()
    said = ask(world)
    assert isinstance(said, Yielded)
    back = hand_over(world, said, owner="n1:1", nonce="again")
    world.give(back)
    world.advance(LINGER_S + 1.0)
    assert ClosePorts(world.call_id) not in world.effects
    assert list(world.ports) == [world.call_id]


def test_what_comes_back_and_has_ended_there_leaves_no_port_open() -> None:
    world = talking()
    said = ask(world)
    assert isinstance(said, Yielded)
    heir = World(settings(owner="n2:1", node_id="n2", nonce="heir", clustered=True), dead=world)
    heir.ports, heir.down, heir.commits = {}, True, world.commits[:1]
    heir.give(hand_over(world, said))
    heir.bye(sequence=9)
    assert heir.stored_calls() != {}, "its last event is not delivered"
    taken = world.keyspace.claim("n1:1", "again", "n2", [said.conversation])
    world.give(Claimed(tuple(taken), Former("n2", world.now)))
    assert world.call.ended is not None
    world.advance(LINGER_S + 1.0)
    assert world.ports == {}


def ringing() -> World:
    world = World(CLUSTERED)
    world.reply = (Park(),)
    world.invite()
    world.advance(1.0)
    return world


def unwritten() -> World:
    world = talking()
    world.committing = False
    world.bye()
    return world


def reoffering() -> World:
    world = talking()
    world.ask(Hold())
    return world


def delivering() -> World:
    world = World(CLUSTERED)
    world.accepting = False
    answered(world)
    world.advance(1.0)
    return world


def settling() -> World:
    """A delivery whose acknowledgement still looks for a write to ride with."""
    return answered(World(CLUSTERED))


def without_store() -> World:
    world = talking()
    world.give(StoreAway())
    return world


def lapsed() -> World:
    world = talking()
    world.give(Leased(world.now + 2.4))
    world.clock.at += 30.0
    return world


@pytest.mark.parametrize("make", [ringing, unwritten, reoffering, delivering, settling, without_store, lapsed])
def test_what_is_not_at_rest_is_kept(make: Callable[[], World]) -> None:
    world = make()
    said = ask(world)
    assert isinstance(said, YieldRefused)
    assert said.why == ("ringing" if make is ringing else "busy")
    assert world.node.call(world.call_id) is not None


def test_what_was_busy_is_let_go_of_later() -> None:
    world = without_store()
    assert isinstance(ask(world), YieldRefused)
    world.give(StoreBack())
    world.advance(1.0)
    assert isinstance(ask(world), Yielded)


def test_one_that_is_not_here_is_gone() -> None:
    said = ask(talking(), ConversationId("conv_nobody"))
    assert isinstance(said, YieldRefused)
    assert said.why == "gone"


def test_events_that_nobody_takes_go_along() -> None:
    world = World(CLUSTERED)
    answered(world)
    world.advance(1.0)
    world.down = True
    world.bye()
    world.advance(0.5)
    said = ask(world)
    assert isinstance(said, Yielded)
    heir = World(settings(owner="n2:1", node_id="n2", nonce="heir", clustered=True), dead=world)
    heir.down = False
    heir.commits = world.commits[:1]
    heir.give(hand_over(world, said))
    heir.advance(60.0)
    assert heir.types[-1] == "call.ended"
    assert heir.leftovers() == {}


def test_the_next_owner_speaks_through_the_former_one_s_socket() -> None:
    world = talking()
    said = ask(world)
    assert isinstance(said, Yielded)
    heir = World(settings(owner="n2:1", node_id="n2", nonce="heir", clustered=True), dead=world)
    heir.commits = world.commits[:1]
    heir.give(hand_over(world, said))
    (invite,) = [each for each in heir.effects if isinstance(each, Send)]
    assert invite.flow == CALLER._replace(node="n1:1")
    assert parse(invite.data).method == "INVITE"  # type: ignore[union-attr]


def test_what_comes_for_it_afterwards_is_passed_on_as_it_came() -> None:
    world = talking()
    ask(world)
    world.bye()
    (passed,) = [effect for effect in world.effects if isinstance(effect, PassOn)]
    assert (passed.call, passed.hint, passed.flow) == (world.call_id, world.node.hint, CALLER)
    assert passed.data.startswith(b"BYE ")
    assert world.responses(method="BYE") == []


def test_what_an_heir_has_never_taken_up_has_its_ports_elsewhere() -> None:
    """The heir died before it heard of it, and the one that bears its name now claims it as its own."""
    world = talking()
    said = ask(world)
    assert isinstance(said, Yielded)
    given = HandOver(said.conversation, world.settings.owner, said.epoch, said.version, "n2:1", "heir")
    assert world.keyspace.hand_over(given)
    heir = World(settings(owner="n2:2", node_id="n2", nonce="next", clustered=True), dead=world)
    heir.ports, heir.commits = {}, world.commits[:1]
    heir.give(Claimed(tuple(heir.keyspace.claim_predecessors("n2:2", "next"))))
    assert list(heir.ports) == [world.call_id], "opened here"
    assert [each for each in heir.effects if isinstance(each, Send) and each.data.startswith(b"INVITE ")]
