"""The store is back, and perhaps not the one it was (survival §1): every conversation asks whether it is still known."""

from __future__ import annotations

from dataclasses import replace

from bridge.calls.call import Plan
from bridge.engine.inputs import CommitRefused, StoreAway, StoreBack, StoreReplaced
from bridge.engine.settings import Application
from bridge.outbox.effects import Endpoint
from tests.engine.world import World, answered


def test_an_idle_call_is_written_again_to_a_store_that_came_back() -> None:
    world = answered()
    before = len(world.commits)
    world.give(StoreAway())
    world.give(StoreBack())
    world.advance(0.1)
    (write,) = world.commits[before:]
    assert not write.whole
    assert write.events == ()


def test_so_it_is_to_one_that_has_become_another_without_having_been_away() -> None:
    world = answered()
    before = len(world.commits)
    world.give(StoreReplaced())
    world.advance(0.1)
    (write,) = world.commits[before:]
    assert not write.whole


def test_a_store_that_lost_it_is_told_everything() -> None:
    world = answered()
    world.give(StoreAway())
    world.give(StoreBack())
    world.committing = False
    world.advance(0.1)
    world.give(CommitRefused(world.commits[-1].ticket, "stale"))
    write = world.commits[-1]
    assert write.whole
    assert write.calls[0].fixed is not None


def test_many_conversations_are_asked_about_one_after_the_other() -> None:
    world = World()
    for number in range(5):
        world.invite(f"c{number}")
    before = len(world.commits)
    world.give(StoreAway())
    world.give(StoreBack())
    assert len(world.commits) == before
    world.advance(0.005)
    assert 0 < len(world.commits) - before < 5
    world.advance(0.1)
    assert len(world.commits) - before == 5


def test_a_call_whose_application_is_configured_no_more_tells_nobody_else() -> None:
    world = answered()
    other = Endpoint("other.0", "http://other/calls", None, decision=True)
    world.settings = replace(world.settings, applications=(Application("other", Plan("other"), (other,)),))
    heir = world.restart()
    delivered = len(heir.attempts)
    call = next(iter(heir.node.calls()))
    assert call.application == "front-desk"
    heir.within("BYE", sequence=3)
    assert heir.responses(200, "BYE")
    assert len(heir.attempts) == delivered
    heir.advance(60.0)
    assert heir.node.carried == 0
