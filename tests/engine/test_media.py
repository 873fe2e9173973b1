"""What media workers report, and what becomes of the calls."""

from __future__ import annotations

from bridge.calls.facts import Quality
from bridge.engine.inputs import MediaLost, MediaTimedOut, PortsClosed, PortsOpened
from tests.engine.world import ANSWER, World, answered


def test_the_figures_of_the_worker_are_in_the_last_event() -> None:
    world = answered()
    world.bye()
    assert world.told("call.ended")["quality"]["packets_received"] == 7


def test_a_worker_that_keeps_its_figures_to_itself_holds_nothing_up() -> None:
    world = answered()
    world.closing = False
    world.bye()
    assert world.types[-1] == "call.answered"
    world.advance(0.6)
    assert world.types[-1] == "call.ended"
    assert world.told("call.ended")["quality"] is None


def test_figures_that_come_late_change_nothing() -> None:
    world = answered()
    world.closing = world.accepting = False
    world.bye()
    world.advance(0.6)
    world.give(PortsClosed(world.call_id, Quality()))
    assert [body["type"] for _, body in world.stored_events()].count("call.ended") == 1


def test_silence_ends_the_call() -> None:
    world = answered()
    world.give(MediaTimedOut(world.call_id))
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("network", "media_timeout")


def test_ports_that_are_lost_end_the_call() -> None:
    world = answered()
    world.ports.clear()
    world.give(MediaLost((world.call_id,)))
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("node", "node_lost")


def test_ports_that_are_lost_before_the_200_leaves_refuse_the_call() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ANSWER)
    world.ports.clear()
    world.give(MediaLost((world.call_id,)))
    world.commit_all()
    assert world.statuses == [100, 480]
    assert world.ended["reason"] == "node_lost"


def test_ports_that_are_lost_while_the_call_ends_are_waited_for_no_longer() -> None:
    world = answered()
    world.closing = False
    world.bye()
    world.give(MediaLost((world.call_id,)))
    assert world.ended["reason"] == "hangup"


def test_reports_on_calls_nobody_knows() -> None:
    world = World()
    for given in (MediaTimedOut("call_x"), MediaLost(("call_x",)), PortsClosed("call_x", None)):
        assert world.give(given) == []
    world.give(PortsOpened("call_x", "192.0.2.10", 20000))
    assert world.leftovers() == {}
