"""Lists whose actions change the session by a re-INVITE: one after the other, whatever the far end says to each."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Action, Hangup, Hold, Join, Mute, Pause, Unhold
from tests.engine.test_dialing import told
from tests.engine.test_joining import reply, two_answered
from tests.engine.world import World, answered, sdp

HELD = sdp(4000, direction="recvonly", formats="0 101")
RESUMED = sdp(4000, formats="0 101")


def listed(*actions: Action) -> tuple[World, tuple[str, ...]]:
    """An answered call with this list, and how its actions are named."""
    world = answered()
    return world, world.ask(*actions, listed=True)


def direction(world: World) -> str:
    """What our last re-INVITE offers."""
    return next(line for line in world.requests("INVITE")[-1].body.decode().split("\r\n") if line.startswith("a=send"))


def agrees(world: World, number: int = 1) -> None:
    """The far end says 200 to our re-INVITE, of which there have been so many."""
    invites = world.requests("INVITE")
    assert len(invites) == number
    world.packet(reply(invites[-1], 200, HELD if direction(world) == "a=sendonly" else RESUMED))


def outcomes(world: World) -> list[tuple[str, str]]:
    """What became of each action that an event of its own tells of."""
    return [
        (body["type"].removeprefix("action."), body["data"]["action_id"])
        for body in world.bodies
        if body["type"].startswith("action.")
    ]


def test_hold_and_unhold_wait_for_each_other() -> None:
    world, (held, resumed) = listed(Hold(), Unhold())
    assert direction(world) == "a=sendonly"
    agrees(world)
    assert direction(world) == "a=sendrecv"
    agrees(world, 2)
    assert outcomes(world) == [("completed", held), ("completed", resumed)]
    assert not world.call.on_hold
    assert world.call.state == "answered"


def test_a_pause_behind_a_hold_begins_when_that_is_through() -> None:
    world, (held, _, resumed) = listed(Hold(), Pause(seconds=2), Unhold())
    world.advance(5.0)
    assert len(world.requests("INVITE")) == 1
    agrees(world)
    world.advance(1.9)
    assert len(world.requests("INVITE")) == 1
    world.advance(0.2)
    agrees(world, 2)
    assert outcomes(world) == [("completed", held), ("completed", resumed)]


def test_what_is_so_already_is_not_waited_for() -> None:
    world, (resumed, held) = listed(Unhold(), Hold())
    assert outcomes(world) == [("completed", resumed)]
    agrees(world)
    assert outcomes(world) == [("completed", resumed), ("completed", held)]


def test_whatever_is_behind_a_hold_waits() -> None:
    world, (held, muted) = listed(Hold(), Mute())
    assert not world.call.muted
    agrees(world)
    assert world.call.muted
    assert outcomes(world) == [("completed", held), ("completed", muted)]


def test_a_refused_hold_is_told_and_its_list_goes_on() -> None:
    world, (held, resumed, muted) = listed(Hold(), Unhold(), Mute())
    world.packet(reply(world.requests("INVITE")[-1], 488))
    assert outcomes(world) == [("failed", held), ("completed", resumed), ("completed", muted)]
    assert world.told("action.failed")["code"] == "refused"
    assert world.call.state == "answered"


def test_a_glare_keeps_the_list_waiting() -> None:
    world, (held, muted) = listed(Hold(), Mute())
    world.packet(reply(world.requests("INVITE")[-1], 491))
    assert outcomes(world) == []
    world.advance(2.1)
    agrees(world, 2)
    assert outcomes(world) == [("completed", held), ("completed", muted)]


@pytest.mark.parametrize("how", ["481", "silence", "a strange answer"])
def test_a_far_end_that_is_gone_ends_the_list_with_the_call(how: str) -> None:
    """Each action is told of once: the hold by the end that it has led to."""
    world, (held, resumed) = listed(Hold(), Unhold())
    if how == "silence":
        world.advance(33.0)
    elif how == "481":
        world.packet(reply(world.requests("INVITE")[-1], 481))
    else:
        world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, formats="18")))
    assert world.told("call.ended")["caused_by"] == held
    assert outcomes(world) == [("canceled", resumed)]


def test_a_far_end_that_hangs_up_meanwhile() -> None:
    world, (held, resumed) = listed(Hold(), Unhold())
    world.bye()
    assert sorted(outcomes(world)) == sorted([("canceled", held), ("canceled", resumed)])


def test_a_new_list_waits_for_what_the_old_one_has_begun() -> None:
    """A re-INVITE that has left cannot be taken back: its outcome is told, and the new list's comes behind it."""
    world, (held, never) = listed(Hold(), Mute())
    (resumed,) = world.ask(Unhold(), listed=True)
    assert outcomes(world) == [("canceled", never)]
    agrees(world)
    agrees(world, 2)
    assert outcomes(world) == [("canceled", never), ("completed", held), ("completed", resumed)]


def test_a_hangup_by_rest_waits_for_nothing() -> None:
    world, (held, resumed) = listed(Hold(), Unhold())
    world.ask(Hangup())
    assert len(world.requests("BYE")) == 1
    assert sorted(outcomes(world)) == sorted([("canceled", held), ("canceled", resumed)])


def test_a_list_behind_a_join_waits_for_the_codec_that_was_asked_for() -> None:
    world, _, other = two_answered(second=sdp(4100, formats="8 101"))
    _, held = world.ask(Join(call_id=other), Hold(), listed=True)
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, formats="8 101")))
    assert "call.joined" in told(world)
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, direction="recvonly", formats="8 101")))
    assert outcomes(world) == [("completed", held)]


def test_a_list_that_comes_in_the_middle_of_another_reinvite_waits_for_it() -> None:
    """The one is asked for its codec because the other has joined it; its own application knows nothing of that."""
    world, one, other = two_answered(second=sdp(4100, formats="8 101"))
    world.ask(Join(call_id=other), listed=True)
    assert world.call.reoffer is not None
    (held,) = world.ask(Hold(), listed=True)
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, formats="8 101")))
    assert "action.failed" not in told(world, one)
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, direction="recvonly", formats="8 101")))
    assert ("completed", held) in outcomes(world)


def test_a_list_goes_on_in_another_process_too() -> None:
    """The re-INVITE is asked again there, and what is behind it waits as it did."""
    world, (held, resumed) = listed(Hold(), Unhold())
    heir = world.restart()
    heir.advance(3.0)
    agrees(heir, 2)
    agrees(heir, 3)
    assert outcomes(heir) == [("completed", held), ("completed", resumed)]
    assert not heir.call.on_hold


def test_a_list_that_waits_for_its_turn_is_not_lost_either() -> None:
    world, (held, _) = listed(Hold(), Mute())
    (resumed,) = world.ask(Unhold(), listed=True)
    heir = world.restart()
    heir.advance(3.0)
    agrees(heir, 2)
    agrees(heir, 3)
    assert outcomes(heir)[-2:] == [("completed", held), ("completed", resumed)]
