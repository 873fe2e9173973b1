"""CANCEL, at every moment there is (§9.2, §15)."""

from __future__ import annotations

from bridge.calls.actions import Pause, Reject, Ring
from tests.engine.world import ANSWER, World, answered


def canceled(world: World) -> None:
    """The call was called off, and nothing of it is left."""
    assert world.statuses[-1] == 487
    assert len(world.responses(200, "CANCEL")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("remote", "canceled")
    world.advance(100.0)
    assert world.leftovers() == {}


def test_while_the_application_thinks() -> None:
    world = World()
    world.invite()
    world.cancel()
    world.decide(ANSWER)
    canceled(world)
    assert 200 not in world.statuses


def test_while_it_rings() -> None:
    world = World()
    world.reply = (Ring(), Pause(seconds=20))
    world.invite()
    world.cancel()
    assert world.told("action.canceled")["action"] == "pause"
    canceled(world)


def test_while_it_is_parked() -> None:
    world = World()
    world.reply = ()
    world.invite()
    world.cancel()
    canceled(world)


def test_while_ports_are_being_opened() -> None:
    world = World()
    world.reply, world.opening = (ANSWER,), False
    world.invite()
    world.cancel()
    world.open_ports()
    assert world.told("action.canceled")["action"] == "answer"
    canceled(world)


def test_before_the_call_is_stored() -> None:
    world = World()
    world.committing = False
    world.invite()
    world.cancel()
    assert world.statuses == [487]
    world.commit_all()
    assert world.types == ["call.incoming", "call.ended"]
    canceled(world)


def test_while_the_200_waits_for_its_write() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ANSWER)
    world.cancel()
    world.commit_all()
    assert world.statuses == [100, 487]
    canceled(world)


def test_the_200_crosses_the_cancel() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.cancel()
    assert len(world.responses(200, "CANCEL")) == 1
    assert world.statuses == [100, 200]
    world.ack()
    world.bye()
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    assert world.ended["reason"] == "hangup"


def test_after_the_ack() -> None:
    world = answered()
    world.cancel()
    assert len(world.responses(200, "CANCEL")) == 1
    assert world.types == ["call.incoming", "call.answered"]


def test_while_a_refusal_waits_for_its_write() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(Reject(code=486))
    world.cancel()
    world.commit_all()
    assert world.statuses == [100, 486]
    assert world.ended["reason"] == "busy"


def test_twice() -> None:
    world = World()
    world.invite()
    world.cancel()
    world.cancel()
    assert world.statuses == [100, 487]
    assert len(world.responses(200, "CANCEL")) == 2


def test_of_nothing() -> None:
    world = World()
    world.cancel()
    assert len(world.responses(481, "CANCEL")) == 1


def test_its_200_has_the_tag_of_the_487_and_its_reason_is_told() -> None:
    world = World()
    world.invite()
    world.cancel(extra="Reason: Q.850;cause=26\r\n")
    assert world.last(200, "CANCEL").to_tag == world.last(487).to_tag
    assert world.ended["q850"] == 26


def test_of_a_reinvite_comes_too_late() -> None:
    world = answered()
    world.reinvite(sequence=2)
    world.cancel(sequence=2, to_tag=world.tag())
    assert len(world.responses(200, "CANCEL")) == 1
    assert world.types == ["call.incoming", "call.answered"]
