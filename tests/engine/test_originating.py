"""`POST /v1/calls` as the engine sees it: a party is called because REST wants it, and nobody before that is stored."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.actions import Credentials, Dial, Hangup, Target
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.effects import Originated, OriginateRefused, Resolve
from bridge.engine.inputs import FlowLost, Originate, Resolved
from bridge.engine.settings import Listener
from bridge.sip.locating import Hop, Wanted
from tests.engine.callee import Callee
from tests.engine.world import IDENTITY, World, sdp, settings

CALL = CallId("call_" + "a" * 24)


def wanted(*targets: Target, **changes: Any) -> Originate:
    plain: dict[str, Any] = {
        "request": 7,
        "call": CALL,
        "application": "front-desk",
        "to": targets,
        "from_": None,
        "timeout_s": 60.0,
        "max_duration_s": None,
        "fork": "parallel",
        "on_redirect": "follow",
        "client_state": None,
        "tags": (),
        "conversation": None,
        "actions": (),
        "claim": None,
    }
    return Originate(**(plain | changes))


def originate(world: World, *targets: Target, **changes: Any) -> list[Originated | OriginateRefused]:
    caused = world.give(wanted(*targets, **changes))
    return [effect for effect in caused if isinstance(effect, Originated | OriginateRefused)]


def calling(**changes: Any) -> tuple[World, Callee]:
    world = World()
    bob = Callee(world)
    (said,) = originate(world, Target(bob.uri), **changes)
    assert isinstance(said, Originated)
    return world, bob


def ended(world: World) -> dict[str, Any]:
    return {key: value for key, value in world.ended.items() if key in ("by", "reason", "sip_code")}


def test_it_is_answered_and_hung_up() -> None:
    world, bob = calling(client_state="mine", tags=("a",))
    assert bob.invite.headers.get("Max-Forwards") == "70"
    bob.answer(180)
    bob.answer(200)
    assert world.types == ["call.initiated", "call.ringing", "call.answered"]
    assert world.told("call.answered")["call"]["client_state"] == "mine"
    world.ask(Hangup())
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    assert ended(world) == {"by": "local", "reason": "hangup", "sip_code": None}
    world.advance(64.0)
    assert world.leftovers() == {}


def test_nothing_leaves_before_it_is_stored() -> None:
    world = World()
    bob = Callee(world)
    world.committing = False
    assert originate(world, Target(bob.uri)) == []
    assert bob.got == []
    assert world.bodies == []
    world.commit_all()
    assert bob.methods == ["INVITE"]
    world.committing = False
    bob.answer(200)
    assert bob.methods == ["INVITE"]  # its ACK waits: whoever carries the call on must know the dialog
    world.commit_all()
    assert bob.methods == ["INVITE", "ACK"]


def test_one_that_is_stored_too_late_calls_nobody_any_more() -> None:
    """A write may wait for the store, or for a replica of it, for longer than anything rings."""
    world = World()
    bob = Callee(world)
    world.committing = False
    assert originate(world, Target(bob.uri)) == []
    world.advance(world.settings.applications[0].plan.ring_limit_s + 1.0)
    world.commit_all()
    world.advance(64.0)
    assert bob.methods == []
    assert ended(world)["reason"] == "unreachable"
    assert world.leftovers() == {}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (486, "busy"),
        (600, "busy"),
        (603, "declined"),
        (404, "not_found"),
        (403, "forbidden"),
        (401, "unauthorized"),
        (488, "not_acceptable"),
        (503, "server_error"),
        (302, "redirected"),
    ],
)
def test_why_it_was_refused(code: int, reason: str) -> None:
    world, bob = calling()
    bob.answer(code)
    assert ended(world) == {"by": "remote", "reason": reason, "sip_code": code}


def test_nobody_is_there() -> None:
    world, _ = calling()
    world.advance(33.0)
    assert ended(world) == {"by": "network", "reason": "unreachable", "sip_code": 408}


def test_it_rings_and_nobody_answers() -> None:
    world, bob = calling(timeout_s=10.0)
    bob.answer(180)
    world.advance(11.0)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert ended(world) == {"by": "local", "reason": "no_answer", "sip_code": 408}


def test_it_is_given_up_while_it_rings() -> None:
    world, bob = calling()
    bob.answer(180)
    world.ask(Hangup())
    assert bob.methods == ["INVITE", "CANCEL"]
    assert ended(world) == {"by": "local", "reason": "canceled", "sip_code": 487}


def test_a_challenge_is_answered_once_for_each_nonce() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri, Credentials("bob", "secret")))
    bob.answer(401, extra='WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth", algorithm=SHA-256\r\n')
    assert 'username="bob"' in (bob.invite.headers.get("Authorization") or "")
    first, second = bob.requests("INVITE")
    assert (first.call_id, first.cseq.number) == (second.call_id, second.cseq.number - 1)
    bob.answer(407, extra='Proxy-Authenticate: Digest realm="r", nonce="n2", qop="auth", stale=true\r\n')
    bob.answer(407, extra='Proxy-Authenticate: Digest realm="r", nonce="n3", qop="auth"\r\n')
    assert ended(world) == {"by": "remote", "reason": "unauthorized", "sip_code": 407}


def test_a_bye_is_proven_too() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri, Credentials("bob", "secret")))
    bob.answer(200)
    bob.deaf = True
    world.ask(Hangup())
    bob.answer(
        401, invite=bob.requests("BYE")[-1], extra='WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth"\r\n'
    )
    assert len(bob.requests("BYE")) == 2
    assert "Digest" in (bob.requests("BYE")[-1].headers.get("Authorization") or "")


def test_a_name_is_looked_up_first() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target("sip:bob@phones.example"))
    (asked,) = [effect for effect in world.effects if isinstance(effect, Resolve)]
    assert asked.wanted == Wanted("phones.example")
    world.give(Resolved(asked.reader, (Hop("udp", bob.host, 5060),)))
    assert bob.invite.uri == "sip:bob@phones.example"


def test_a_name_that_nobody_has() -> None:
    world = World()
    originate(world, Target("sip:bob@phones.example"))
    (asked,) = [effect for effect in world.effects if isinstance(effect, Resolve)]
    world.give(Resolved(asked.reader, ()))
    assert ended(world) == {"by": "network", "reason": "unreachable", "sip_code": 503}


def test_its_actions_run_when_it_is_answered() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), actions=(Dial(to=(Target(carol.uri),)),))
    assert carol.got == []
    bob.answer(200)
    assert carol.methods == ["INVITE"]
    carol.answer(200)
    assert world.types.count("call.joined") == 2


def test_an_answer_without_a_common_codec_is_acknowledged_and_ended() -> None:
    world, bob = calling()
    bob.answer(200, offer=sdp(5000, address=bob.host, formats="18"))
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    assert ended(world) == {"by": "policy", "reason": "not_acceptable", "sip_code": None}


def test_an_unknown_application() -> None:
    (said,) = originate(World(), Target("sip:bob@192.0.2.2"), application="none")
    assert isinstance(said, OriginateRefused)
    assert said.code == "no_such_application"


def test_a_conversation_that_is_not_there() -> None:
    (said,) = originate(World(), Target("sip:bob@192.0.2.2"), conversation=ConversationId("conv_x"))
    assert isinstance(said, OriginateRefused)
    assert said.code == "not_found"


def test_a_lost_connection_is_an_answer() -> None:
    tcp = Listener("tcp:5060", "192.0.2.10:5060", IDENTITY, "tcp")
    base = settings()
    world = World(settings(listeners={**base.listeners, "tcp:5060": tcp}))
    bob = Callee(world, transport="tcp")
    originate(world, Target(bob.uri))
    assert bob.flow is not None
    assert bob.flow.transport == "tcp"
    world.give(FlowLost(bob.flow))
    assert ended(world) == {"by": "network", "reason": "unreachable", "sip_code": 503}


@pytest.mark.parametrize("moment", ["created", "invited", "ringing", "answered", "acknowledged"])
def test_a_process_that_dies_calls_nobody_twice(moment: str) -> None:
    world = World()
    bob = Callee(world)
    if moment == "created":
        world.opening = False
    originate(world, Target(bob.uri))
    if moment == "ringing":
        bob.answer(180)
    if moment == "answered":
        world.committing = False
        bob.answer(200)
    if moment == "acknowledged":
        bob.answer(200)
    heir = world.restart()
    bob.world = heir
    if moment == "ringing":
        bob.answer(180)
    if moment != "acknowledged":
        bob.answer(200)
    assert {each.call_id for each in bob.requests("INVITE")} == {bob.invite.call_id}
    assert len(bob.requests("INVITE")) == 1
    assert "ACK" in bob.methods
    heir.ask(Hangup())
    assert bob.methods[-1] == "BYE"
    assert heir.types[-1] == "call.ended"
    assert len(heir.types) == len(set(heir.types))
