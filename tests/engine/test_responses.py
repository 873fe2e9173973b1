"""What comes back of our requests: proofs repeated in the ACK, answers without end, TCP that is not taken, glare with a re-INVITE
that waits."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Credentials, Hold, Target
from bridge.engine.effects import Dropped
from bridge.engine.inputs import FlowLost
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow
from tests.engine.callee import Callee
from tests.engine.test_joining import reply
from tests.engine.test_originating import calling, ended, originate
from tests.engine.world import IDENTITY, World, answered, sdp, settings

CHALLENGE = 'WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth", algorithm=SHA-256\r\n'


def acks(bob: Callee) -> list[str | None]:
    """The credentials in each ACK of a 2xx."""
    return [each.headers.get("Authorization") for each in bob.got if each.method == "ACK" and each.cseq.number > 1]


def test_an_ack_repeats_the_credentials_of_its_invite() -> None:
    """§13.2.2.4."""
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri, Credentials("bob", "secret")))
    bob.answer(401, extra=CHALLENGE)
    bob.answer(200)
    said = bob.invite.headers.get("Authorization")
    assert said is not None
    assert acks(bob) == [said]
    bob.answer(200, tag="b2")  # one too many
    assert acks(bob) == [said, said]
    heir = world.restart()
    bob.world = heir
    known = len(acks(bob))
    bob.answer(200)  # the ACK was lost with the dead
    assert acks(bob)[known:] == [said]


def test_an_ack_of_a_reinvite_repeats_its_credentials() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri, Credentials("bob", "secret")))
    bob.answer(200)
    world.ask(Hold())
    bob.answer(401, tag="", extra=CHALLENGE)
    assert len(bob.requests("INVITE")) == 3
    bob.answer(200, offer=sdp(5000, address=bob.host, direction="recvonly", formats="0 101"))
    assert acks(bob)[-1] == bob.invite.headers.get("Authorization")
    assert world.call.on_hold


def test_answers_without_end_are_not_all_answered() -> None:
    world, bob = calling()
    for number in range(40):
        bob.answer(200, tag=f"b{number}")
    assert len(bob.requests("BYE")) == 16
    assert [effect.reason for effect in world.effects if isinstance(effect, Dropped)] == ["answers_without_end"] * 23


def by_tcp_too() -> World:
    tcp = Listener("tcp:5060", "192.0.2.10:5060", IDENTITY, "tcp")
    return World(settings(listeners={**settings().listeners, "tcp:5060": tcp}))


def test_an_invite_too_long_for_udp_goes_by_tcp_and_by_udp_if_that_is_not_taken() -> None:
    """§18.1.1."""
    world = by_tcp_too()
    bob = Callee(world)
    originate(world, Target(bob.uri, None, {"X-Long": ("x" * 1300,)}))
    assert bob.flow == Flow("tcp", "tcp:5060", bob.host, 5060)
    world.give(FlowLost(bob.flow))
    assert bob.flow == Flow("udp", "udp:5060", bob.host, 5060)
    bob.answer(180)
    bob.answer(200)
    assert bob.methods[-1] == "ACK"
    assert world.types == ["call.initiated", "call.ringing", "call.answered"]


def test_what_is_given_up_is_canceled_by_the_way_it_went() -> None:
    world = by_tcp_too()
    bob = Callee(world)
    originate(world, Target(bob.uri, None, {"X-Long": ("x" * 1300,)}), timeout_s=20.0)
    assert bob.flow is not None
    world.give(FlowLost(bob.flow))
    bob.answer(180)
    world.advance(20.0)
    (cancel,) = bob.requests("CANCEL")
    assert cancel.via.branch == bob.invite.via.branch
    assert ended(world)["reason"] == "no_answer"


def test_a_reinvite_that_theirs_overtakes_at_the_store_is_sent_afterwards() -> None:
    world = answered()
    world.committing = False
    world.ask(Hold())
    world.reinvite(sdp=sdp(4002))
    world.commit_all()
    assert world.requests("INVITE") == []
    assert world.statuses[-1] == 200
    world.ack(sequence=2)
    world.advance(1.5)
    (ours,) = world.requests("INVITE")
    assert b"a=sendonly" in ours.body
    versions = [int(body.split(b" ")[2]) for body in (world.last(200).body, ours.body)]
    assert versions[1] > versions[0]
    world.packet(reply(ours, 200, sdp(4002, direction="recvonly", formats="0 101")))
    assert world.told("action.completed")["action"] == "hold"


def test_theirs_in_the_wait_after_a_glare() -> None:
    world = answered()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 491))
    world.reinvite(sdp=sdp(4002, formats="8 101"))
    world.ack(sequence=2)
    world.advance(2.5)
    ours = world.requests("INVITE")[-1]
    assert b"RTP/AVP 8 101" in ours.body
    world.packet(reply(ours, 200, sdp(4002, direction="recvonly", formats="8 101")))
    assert world.call.on_hold


def test_a_bye_that_crosses_our_reinvite() -> None:
    world = answered()
    world.ask(Hold())
    ours = world.requests("INVITE")[-1]
    world.bye()
    assert world.ended["reason"] == "hangup"
    world.packet(reply(ours, 200, sdp(4000, direction="recvonly", formats="0 101")))
    world.advance(64.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize("moment", ["waiting", "sent"])
def test_a_party_that_hangs_up_before_our_ack_gets_it_all_the_same(moment: str) -> None:
    world, bob = calling()
    if moment == "waiting":
        world.committing = False
    bob.answer(200)
    bob.bye()
    world.commit_all()
    assert bob.methods == ["INVITE", "ACK"]
    assert [each.status for each in bob.responses] == [200]
    assert ended(world) == {"by": "remote", "reason": "hangup", "sip_code": None}
    world.advance(64.0)
    assert world.leftovers() == {}
