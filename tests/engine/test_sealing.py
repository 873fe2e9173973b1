"""Passwords of targets from their coming to the end of their calls: used where they are asked for, and never written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bridge.calls.actions import Credentials, Dial, Hangup, Mute, Pause, Target, Unmute
from bridge.engine.effects import Noted
from bridge.engine.inputs import InvalidReply
from tests.engine.callee import Callee
from tests.engine.test_originating import CALL, originate
from tests.engine.test_responses import CHALLENGE
from tests.engine.world import Sealing, World, answered, settings

PASSWORD = "correct horse battery staple"


def target(bob: Callee) -> Target:
    return Target(bob.uri, Credentials("us", PASSWORD))


def written(world: World) -> str:
    """Whatever has been asked to be written, of any node before this one too."""
    return repr([each for each in world.effects if type(each).__name__ not in ("Send", "Noted")])


def proves_it(bob: Callee) -> bool:
    """It asks for a password, and gets a digest."""
    bob.answer(401, extra=CHALLENGE)
    return "Digest" in (bob.invite.headers.get("Authorization") or "")


def originated(**how: Any) -> tuple[World, Callee]:
    world = World()
    bob = Callee(world)
    originate(world, target(bob), **how)
    return world, bob


def replied(*, invalid: bool = False) -> tuple[World, Callee]:
    """By a reply to a webhook, or by the plan that takes its place."""
    bob_at = Target("sip:bob@192.0.2.2:5060", Credentials("us", PASSWORD))
    world = World(settings(plan={"fallback": (Dial(to=(bob_at,)),)}))
    bob = Callee(world)
    world.reply = InvalidReply("it is nonsense", None) if invalid else (Dial(to=(target(bob),)),)
    world.invite()
    return world, bob


def commanded() -> tuple[World, Callee]:
    world = answered()
    bob = Callee(world)
    world.ask(Dial(to=(target(bob),)), Pause(seconds=5), Dial(to=(target(bob),)), listed=True)
    return world, bob


WAYS = {
    "originated": originated,
    "replied": replied,
    "by the fallback plan": lambda: replied(invalid=True),
    "commanded": commanded,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_used_and_never_written(way: str) -> None:
    world, bob = WAYS[way]()
    assert proves_it(bob)
    bob.answer(200)
    world.advance(1.0)
    heir = world.restart()
    bob.world = heir
    bob.bye()
    for each in (world, heir):
        assert '"us"' in written(each), "that is where it would stand"
        assert PASSWORD not in written(each)
        assert PASSWORD not in repr([effect for effect in each.effects if isinstance(effect, Noted)])
    assert PASSWORD not in json.dumps(heir.bodies)


def test_an_heir_proves_it_too() -> None:
    world, bob = originated()
    heir = world.restart()
    bob.world = heir
    assert proves_it(bob)


def test_it_is_sealed_once_however_often_the_call_is_written() -> None:
    world, bob = originated(actions=(Pause(seconds=1), Pause(seconds=1)))
    bob.answer(180)
    assert proves_it(bob)
    bob.answer(200)
    world.advance(10.0)
    world.ask(Mute())
    world.ask(Unmute())
    world.ask(Hangup())
    assert len(world.commits) > 5
    assert world.seal.made == 1


def test_calls_without_a_password_pay_nothing() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri), actions=(Pause(seconds=1),))
    bob.answer(200)
    world.advance(2.0)
    assert world.seal.made == 0


def test_another_key_is_a_fault_of_that_password_alone() -> None:
    world, bob = originated()
    heir = world.restart(seal=Sealing("another"))
    bob.world = heir
    (noted,) = [each for each in heir.effects if isinstance(each, Noted) and each.level == "error"]
    assert (noted.event, noted.call, dict(noted.facts)["username"]) == ("credentials_unreadable", CALL, "us")
    assert not proves_it(bob)
    assert heir.ended["reason"] == "unauthorized"


def test_another_key_loses_nothing_for_whoever_has_the_right_one() -> None:
    world, bob = originated()
    stranger = world.restart(seal=Sealing("another"))
    bob.world = stranger
    bob.answer(180)
    heir = stranger.restart(seal=Sealing())
    bob.world = heir
    assert proves_it(bob)


def test_what_a_release_before_has_written_in_the_clear_is_read() -> None:
    world, bob = originated()
    (conversation,) = [record for _, record in world.keyspace._conversations.items()]
    (name,) = [name for name, _ in world.keyspace._conversations.items()]
    variable = json.loads(conversation.variable[CALL])
    (attempt,) = variable["search"]["attempts"]
    attempt["target"] = {"uri": attempt["target"]["uri"], "auth": ["us", PASSWORD]}
    record = replace(conversation, variable={CALL: json.dumps(variable).encode()})
    world.keyspace._conversations.put(name, record)
    heir = world.restart()
    bob.world = heir
    assert proves_it(bob)
    assert PASSWORD not in written(heir)
