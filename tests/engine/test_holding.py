"""What the far end may change while it talks (§14.2), and what its application hears of that."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Hangup
from tests.engine.world import UNUSABLE, World, answered, sdp


def version(world: World) -> int:
    """The version in our last o= line."""
    line = next(line for line in world.last(200).body.decode().split("\r\n") if line.startswith("o="))
    return int(line.split(" ")[2])


def test_hold_and_resume() -> None:
    world = answered()
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    assert b"a=recvonly" in world.last(200).body
    rule = world.ports[world.call_id]
    assert rule is not None
    assert rule.silence_payload_type is None
    assert not rule.expects_media
    world.ack(sequence=2)
    assert world.told("call.held")["call"]["media"]["held"] is True
    world.reinvite(sequence=3)
    world.ack(sequence=3)
    assert world.told("call.resumed")["call"]["media"]["held"] is False
    assert world.types == ["call.incoming", "call.answered", "call.held", "call.resumed"]


@pytest.mark.parametrize(
    "body", [sdp(direction="inactive"), sdp(address="0.0.0.0")], ids=["inactive", "the hold of RFC 2543"]
)
def test_other_ways_to_hold(body: str) -> None:
    world = answered()
    world.reinvite(sdp=body)
    assert world.types[-1] == "call.held"
    rule = world.ports[world.call_id]
    assert rule is not None
    assert not rule.expects_media


def test_a_new_address() -> None:
    world = answered()
    world.reinvite(sdp=sdp(5000), contact="<sip:caller@192.0.2.1:5999>")
    world.ack(sequence=2)
    assert world.types[-1] == "call.updated"
    rule = world.ports[world.call_id]
    assert rule is not None
    assert (rule.remote_port, rule.generation) == (5000, 1)
    assert world.call.dialog is not None
    assert world.call.dialog.remote_target == "sip:caller@192.0.2.1:5999"


def test_a_sign_of_life_is_answered_the_same_and_told_to_nobody() -> None:
    world = answered()
    before = version(world)
    world.reinvite()
    world.ack(sequence=2)
    assert world.types == ["call.incoming", "call.answered"]
    assert version(world) == before


def test_a_changed_description_has_a_higher_version() -> None:
    world = answered()
    before = version(world)
    world.reinvite(sdp=sdp(direction="sendonly"))
    assert version(world) == before + 1


def test_a_reinvite_without_an_offer_gets_ours() -> None:
    world = answered()
    world.reinvite(sdp=None)
    assert b"m=audio 20000 RTP/AVP 0 8 101" in world.last(200).body
    world.ack(sequence=2, sdp=sdp(5000, formats="8"))
    assert world.told("call.updated")["call"]["media"]["codec"] == "PCMA/8000"


def test_our_offer_without_an_answer_ends_the_call() -> None:
    world = answered()
    world.reinvite(sdp=None)
    world.ack(sequence=2)
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "not_acceptable")
    assert len(world.requests("BYE")) == 1


@pytest.mark.parametrize(("body", "status"), [(UNUSABLE, 488), ("nonsense", 400)])
def test_a_bad_reinvite_leaves_the_session_as_it_was(body: str, status: int) -> None:
    world = answered()
    before = world.ports[world.call_id]
    world.reinvite(sequence=2, sdp=body)
    assert len(world.responses(status, sequence=2)) == 1
    assert world.ports[world.call_id] == before
    world.within("ACK", sequence=2, branch="z9hG4bK-c1-2-INVITE")
    world.reinvite(sequence=3, sdp=sdp(5000))
    assert len(world.responses(200, sequence=3)) == 1


def test_its_2xx_is_repeated_until_its_ack_and_then_the_call_ends() -> None:
    world = answered()
    world.reinvite(sequence=2)
    world.advance(4.0)
    assert len(world.responses(200, sequence=2)) == 4
    world.advance(30.0)
    assert (world.ended["by"], world.ended["reason"]) == ("network", "ack_timeout")
    world.advance(100.0)
    assert world.leftovers() == {}


def test_one_reinvite_at_a_time() -> None:
    world = answered()
    world.reinvite(sequence=2)
    world.reinvite(sequence=3)
    assert [message.status for message in world.responses(sequence=3)] == [491]
    world.ack(sequence=2)
    world.reinvite(sequence=4)
    assert [message.status for message in world.responses(sequence=4)] == [200]


def test_a_reinvite_before_the_first_ack_has_to_wait() -> None:
    world = World()
    world.reply = ()
    world.invite()
    world.reinvite(sequence=2)
    early = world.responses(sequence=2)
    assert [message.status for message in early] == [500]
    assert early[0].headers.get("Retry-After") is not None


def test_a_bye_overtakes_a_reinvite_that_waits_for_the_store() -> None:
    world = answered()
    world.committing = False
    world.reinvite(sequence=2)
    world.bye(sequence=3)
    assert [message.status for message in world.responses(sequence=2)] == [487]
    world.commit_all()
    assert 200 not in [message.status for message in world.responses(sequence=2)]
    world.advance(100.0)
    assert world.leftovers() == {}


def test_our_bye_too() -> None:
    world = answered()
    world.committing = False
    world.reinvite(sequence=2)
    world.command(Hangup())
    assert [message.status for message in world.responses(sequence=2)] == [487]
    world.commit_all()
    world.advance(100.0)
    assert world.leftovers() == {}


def test_a_reinvite_that_waits_for_the_store_is_told_so() -> None:
    world = answered()
    world.committing = False
    world.reinvite(sequence=2)
    world.advance(0.2)
    assert [message.status for message in world.responses(sequence=2)] == [100]
    world.advance(20.0)
    world.commit_all()
    assert [message.status for message in world.responses(sequence=2)] == [100, 200]
    world.ack(sequence=2)
    world.advance(40.0)
    assert world.call.state == "answered"


def test_what_was_held_is_still_held_after_a_restart() -> None:
    world = answered()
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.ack(sequence=2)
    heir = world.restart()
    assert heir.call.media is not None
    assert heir.call.media.held
    heir.reinvite(sequence=3)
    assert heir.types[-1] == "call.resumed"
    assert version(heir) == 3
