"""A message whose call is at another node is passed on as it is (survival §3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.calls.actions import Reject
from bridge.engine.commit import UNNAMED
from bridge.engine.effects import Dropped, PassOn
from bridge.engine.inputs import Drain, Returned
from tests.engine.test_joining import joined
from tests.engine.world import CALLER, World, answered, request, sdp, settings

CLUSTERED = settings(clustered=True)
ELSEWHERE = CALLER._replace(node="n3:1")


def beside(world: World) -> World:
    """Another node on the same store, which has none of its calls."""
    config = settings(owner="n2:1", node_id="n2", nonce="nonce2", clustered=True)
    other = World(config)
    other.keyspace, other.clock, other.reply = world.keyspace, world.clock, world.reply
    return other


def passed(world: World) -> list[PassOn]:
    """What it has passed on since it was last asked."""
    found = [effect for effect in world.effects if isinstance(effect, PassOn)]
    world.effects.clear()
    return found


@pytest.mark.parametrize("method", ["ACK", "BYE", "INFO", "INVITE", "OPTIONS", "UPDATE"])
def test_our_tag_names_its_call_and_the_node_that_made_it(method: str) -> None:
    world = answered(World(CLUSTERED))
    other = beside(world)
    data = request(method, sequence=2, to_tag=world.tag(), sdp=sdp() if method == "INVITE" else None)
    other.packet(data, ELSEWHERE)
    assert passed(other) == [PassOn(world.call_id, world.node.hint, data.encode(), ELSEWHERE)]
    assert (other.sent, other.node.transactions()) == ([], 0)


def test_a_forged_tag_is_answered_here_and_nobody_is_asked() -> None:
    world = answered(World(CLUSTERED))
    other = beside(world)
    tag = world.tag()
    forged = tag[:-1] + ("a" if tag[-1] != "a" else "b")
    other.packet(request("BYE", sequence=2, to_tag=forged))
    other.packet(request("ACK", sequence=3, to_tag=forged))
    assert passed(other) == []
    assert len(other.responses(481, "BYE")) == 1


def test_a_cancel_names_its_call_as_its_invite_does() -> None:
    world = World(CLUSTERED)
    world.invite()
    other = beside(world)
    other.cancel()
    (it,) = passed(other)
    assert (it.call, it.hint) == (world.call_id, "")
    world.packet(it.data, ELSEWHERE)
    assert 487 in world.statuses
    assert passed(world) == []


@pytest.mark.parametrize("status", [180, 200, 486])
def test_a_response_names_its_call_by_our_branch(status: int) -> None:
    world, bob, party = joined()
    other = beside(world)
    to_bob = bob.invite
    data = (
        f"SIP/2.0 {status} Said\r\nVia: {to_bob.headers.get('Via')}\r\nFrom: {to_bob.headers.get('From')}\r\n"
        f"To: {to_bob.headers.get('To')};tag=b\r\nCall-ID: {to_bob.call_id}\r\n"
        f"CSeq: {to_bob.cseq.number} INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    other.packet(data)
    assert passed(other) == [PassOn(party, world.node.hint, data.encode(), CALLER)]
    other.packet(data.replace("branch=z9hG4bK", "branch=z9hG4bKx"))
    assert passed(other) == []


def test_what_is_here_is_handled_here_whoever_holds_its_flow() -> None:
    world = answered(World(CLUSTERED))
    world.packet(request("BYE", sequence=2, to_tag=world.tag()), ELSEWHERE)
    assert passed(world) == []
    assert len(world.responses(200, "BYE")) == 1


def test_a_repetition_of_what_ended_its_call_is_answered_by_its_transaction() -> None:
    world = answered(World(CLUSTERED))
    world.bye()
    world.advance(5.0)
    assert world.node.call(world.call_id) is None
    world.bye()
    assert passed(world) == []
    assert len(world.responses(200, "BYE")) == 2


def test_an_invite_that_has_made_its_call_elsewhere_goes_there() -> None:
    world = answered(World(CLUSTERED))
    other = beside(world)
    other.invite()
    (it,) = passed(other)
    assert (it.call, it.hint, it.flow) == (world.call_id, "", CALLER)
    assert (other.statuses, other.node.carried, other.node.transactions()) == ([], 0, 0)


def test_an_invite_whose_call_has_ended_is_passed_on_once_and_not_for_ever() -> None:
    world = World(CLUSTERED)
    world.reply = (Reject(),)
    world.invite()
    world.advance(60.0)
    assert world.keyspace.whereabouts(world.call_id) is None
    other = beside(world)
    other.invite()
    (it,) = passed(other)
    other.give(Returned(it.data, it.flow))
    assert [effect.reason for effect in other.effects if isinstance(effect, Dropped)] == ["late_invite"]
    assert passed(other) == []
    assert other.node.carried == 0


def test_what_nobody_has_is_answered_by_whoever_was_asked_first() -> None:
    world = answered(World(CLUSTERED))
    other = beside(world)
    for method in ("BYE", "CANCEL"):
        data = request(method, sequence=2, to_tag=world.tag() if method == "BYE" else None)
        other.packet(data)
        (it,) = passed(other)
        other.give(Returned(it.data, it.flow))
        assert passed(other) == []
        assert len(other.responses(481, method)) == 1


def test_a_node_that_drains_passes_new_calls_on_and_turns_them_away_where_nobody_takes_them() -> None:
    world = World(CLUSTERED)
    world.give(Drain())
    world.invite()
    (it,) = passed(world)
    assert (it.call, it.hint, it.flow) == (UNNAMED, "", CALLER)
    assert it.data.startswith(b"INVITE ")
    assert (world.statuses, world.node.transactions()) == ([], 0)
    world.give(Returned(it.data, it.flow))
    assert passed(world) == []
    assert world.statuses == [503]


def test_a_node_without_others_passes_nothing_on() -> None:
    world = answered()
    alone = World(replace(settings(), owner="n2:1", node_id="n2"))
    alone.packet(request("BYE", sequence=2, to_tag=world.tag()))
    assert passed(alone) == []
    assert len(alone.responses(481, "BYE")) == 1
