"""Whom an application may call: patterns, and what becomes of a target that is not allowed."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Fork, Target
from bridge.calls.destinations import ANYWHERE, Destinations
from tests.engine.callee import Callee
from tests.engine.world import World, settings

GERMANY = Destinations(("+49*", "100", "*@pbx.example.com"), ("+49900*", "*@bad.pbx.example.com"))


@pytest.mark.parametrize(
    ("target", "permitted"),
    [
        ("sip:+4930123@gateway", True),
        ("sip:+49-(30).123@gateway", True),
        ("tel:+49-30-123", True),
        ("sip:+49900123@gateway", False),
        ("sip:+49-900-123@gateway", False),
        ("sip:%2B49900123@gateway", False),
        ("sip:+49900123;phone-context=x@gateway", False),
        ("tel:+49(900)123", False),
        ("sip:+1900@gateway", False),
        ("sip:0049900@gateway", False),
        ("sip:100@anywhere", True),
        ("sip:1001@anywhere", False),
        ("sips:whoever@PBX.Example.com.", True),
        ("sip:whoever@not.pbx.example.com", False),
        ("sip:pbx.example.com", True),
        ("mailto:100@pbx.example.com", False),
        ("sip:", False),
    ],
)
def test_a_target_is_held_against_the_patterns(target: str, permitted: bool) -> None:
    assert GERMANY.permit(target) is permitted
    assert ANYWHERE.permit(target)


def test_nothing_allowed_is_nobody_allowed() -> None:
    assert not Destinations(()).permit("sip:100@x")
    assert Destinations(None, ("1*",)).permit("sip:200@x")


def _dials(world: World, *targets: str, fork: Fork = "parallel") -> None:
    world.reply = (Dial(to=tuple(Target(each) for each in targets), fork=fork),)
    world.invite()


def _world(*allowed: str) -> World:
    return World(settings(plan={"destinations": Destinations(allowed)}))


def _failures(world: World) -> list[tuple[str, int]]:
    failed = [body["data"] for body in world.bodies if body["type"] == "call.attempt_failed"]
    return [(each["target"], each["code"]) for each in failed]


def test_nobody_is_sent_anything_where_no_target_is_allowed() -> None:
    world = _world("100")
    bob = Callee(world, 2)
    _dials(world, bob.uri, "sip:+1900@192.0.2.3")
    assert bob.methods == []
    assert _failures(world) == [(bob.uri, 403), ("sip:+1900@192.0.2.3", 403)]
    assert world.statuses[-1] == 403
    _, party = [body["data"]["ended"] for body in world.bodies if body["type"] == "call.ended"]
    assert (party["by"], party["reason"]) == ("policy", "forbidden")
    world.ack()
    world.advance(64.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize("fork", ["parallel", "serial"])
def test_those_that_are_allowed_are_called_all_the_same(fork: Fork) -> None:
    world = _world("*@192.0.2.2")
    bob = Callee(world, 2)
    _dials(world, "sip:+1900@192.0.2.3", bob.uri, "sip:+1901@192.0.2.3", fork=fork)
    assert bob.methods == ["INVITE"]
    bob.answer(200)
    assert world.statuses[-1] == 200
    assert ("sip:+1900@192.0.2.3", 403) in _failures(world)


def test_a_redirect_does_not_lead_around_it() -> None:
    world = _world("*@192.0.2.2")
    bob, carol = Callee(world, 2), Callee(world, 3)
    _dials(world, bob.uri)
    bob.answer(302, extra=f"Contact: <{carol.uri}>\r\n")
    assert carol.methods == []
    assert (carol.uri, 403) in _failures(world)
