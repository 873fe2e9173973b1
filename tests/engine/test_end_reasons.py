"""Every reason a call can end for, produced by a whole node: one test each, and none without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.calls.actions import Dial, Hangup, Park, Pause, Proxy, Redirect, Reject, Target, Transfer
from bridge.calls.facts import END_REASONS, Contact
from bridge.calls.referral import AcceptTransfer
from bridge.engine.inputs import HangUpAll, MediaLost, MediaTimedOut
from tests.engine.callee import Callee
from tests.engine.test_originating import originate
from tests.engine.test_referred import consulting, refer, replacing
from tests.engine.world import ANSWER, UNUSABLE, World, answered, settings

Walk = Callable[[], World]


def rejecting(code: int) -> Walk:
    def walk() -> World:
        world = World()
        world.reply = (Reject(code=code),)
        world.invite()
        return world

    return walk


def hangup() -> World:
    world = answered()
    world.command(Hangup())
    return world


def canceled() -> World:
    world = World()
    world.invite()
    world.cancel()
    return world


def no_answer() -> World:
    world = World()
    world.reply = (Pause(seconds=3600),)
    world.invite()
    world.advance(181.0)
    return world


def not_acceptable() -> World:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp=UNUSABLE)
    return world


def park_timeout() -> World:
    world = World()
    world.reply = (Park(timeout_s=5),)
    world.invite()
    world.advance(6.0)
    return world


def media_timeout() -> World:
    world = answered()
    world.give(MediaTimedOut(world.call_id))
    return world


def session_expired() -> World:
    world = World()
    world.reply = (ANSWER,)
    world.invite(extra="Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n")
    world.ack()
    world.advance(61.0)
    return world


def max_duration() -> World:
    world = answered(World(settings(plan={"duration_limit_s": 5.0})))
    world.advance(6.0)
    return world


def ack_timeout() -> World:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.advance(33.0)
    return world


def overload() -> World:
    world = World()
    world.reply, world.ports_left = (ANSWER,), False
    world.invite()
    return world


def store_away() -> World:
    world = World()
    world.committing = False
    world.invite()
    world.advance(3.0)
    world.commit_all()
    return world


def drained() -> World:
    world = answered()
    world.give(HangUpAll())
    return world


def node_lost() -> World:
    world = answered()
    world.ports.clear()
    world.give(MediaLost((world.call_id,)))
    return world


def application_failed() -> World:
    world = World()
    world.down = True
    world.invite()
    return world


def unreachable() -> World:
    world = World()
    Callee(world)
    originate(world, Target("sip:bob@192.0.2.2"))
    world.advance(33.0)
    return world


def redirected() -> World:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri), on_redirect="report")
    bob.answer(302)
    return world


def proxied() -> World:
    world = World()
    bob = Callee(world)
    world.reply = (Proxy(targets=(Contact(bob.uri),)),)
    world.invite()
    bob.answer(200)
    return world


def protocol_error() -> World:
    world = World()
    world.reply = (Proxy(targets=(Contact("sip:bob@192.0.2.2"),)),)
    world.invite(extra="Proxy-Require: mystery\r\n")
    return world


def sent_elsewhere() -> World:
    world = World()
    world.reply = (Redirect(contacts=(Contact("sip:bob@192.0.2.2"),)),)
    world.invite()
    return world


def peer_ended() -> World:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    bob.answer(200)
    world.ack()
    bob.bye()
    return world


def answered_elsewhere() -> World:
    world = World()
    world.reply = (Park(),)
    world.invite()
    world.cancel(extra='Reason: SIP;cause=200;text="Call completed elsewhere"\r\n')
    return world


def transferred() -> World:
    world = answered()
    world.ask(Transfer(to="sip:carol@192.0.2.4"))
    world.notify("200 OK", over=True)
    return world


def replaced() -> World:
    world, bob, _, _, other = consulting()
    refer(world, replacing(world))
    world.decide(AcceptTransfer())
    bob.bye()
    world.commits = [commit for commit in world.commits if commit.calls and commit.calls[0].call == other]
    return world


WALKS: dict[str, Walk] = {
    "replaced": replaced,
    "answered_elsewhere": answered_elsewhere,
    "transferred": transferred,
    "unreachable": unreachable,
    "redirected": redirected,
    "proxied": proxied,
    "protocol_error": protocol_error,
    "peer_ended": peer_ended,
    "hangup": hangup,
    "canceled": canceled,
    "rejected": rejecting(480),
    "busy": rejecting(486),
    "declined": rejecting(603),
    "forbidden": rejecting(403),
    "no_answer": no_answer,
    "not_found": rejecting(404),
    "unauthorized": rejecting(407),
    "not_acceptable": not_acceptable,
    "server_error": rejecting(500),
    "park_timeout": park_timeout,
    "media_timeout": media_timeout,
    "session_expired": session_expired,
    "max_duration": max_duration,
    "ack_timeout": ack_timeout,
    "overload": overload,
    "store_away": store_away,
    "drained": drained,
    "node_lost": node_lost,
    "application_failed": application_failed,
}


@pytest.mark.parametrize(
    ("reason", "walk"), [*WALKS.items(), ("redirected", sent_elsewhere)], ids=[*WALKS, "redirected by us"]
)
def test_it_ends_for_that_reason(reason: str, walk: Walk) -> None:
    world = walk()
    assert world.ended["reason"] == reason
    assert [body["type"] for _, body in world.stored_events()].count("call.ended") == 1
    world.advance(60.0)
    world.down = False
    world.advance(200.0)
    assert world.leftovers() == {}


def test_no_reason_is_without_its_walk() -> None:
    assert set(WALKS) == set(END_REASONS)
