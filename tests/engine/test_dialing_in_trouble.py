"""What befalls calls that are dialed and joined: the store, the media worker and the service go away, and far ends do what they
like with the session."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer, Dial, Hangup, Hold, Pause, Reject, Target
from bridge.engine.inputs import Drain, HangUpAll, MediaLost, StoreAway, StoreBack
from tests.engine.callee import Callee
from tests.engine.test_dialing import dialing, party_of, told
from tests.engine.test_joining import joined, reply, rule
from tests.engine.test_originating import calling
from tests.engine.world import World, request, sdp, settings


def over(world: World) -> None:
    world.advance(64.0)
    assert told(world).count("call.ended") == 2
    assert world.leftovers() == {}


# The world around


def test_a_dial_that_the_store_keeps_waiting_calls_nobody() -> None:
    world = World()
    bob = Callee(world)
    world.invite()
    world.committing = False
    world.give(StoreAway())
    world.decide(Dial(to=(Target(bob.uri),), timeout_s=30.0))
    world.advance(10.0)
    assert bob.got == []
    world.give(StoreBack())
    world.commit_all()
    assert bob.methods == ["INVITE"]
    bob.answer(200)
    world.ack()
    world.bye()
    over(world)


def test_a_dial_that_the_caller_gives_up_at_the_store_never_leaves() -> None:
    world = World()
    bob = Callee(world)
    world.invite()
    world.committing = False
    world.decide(Dial(to=(Target(bob.uri),)))
    world.cancel()
    world.commit_all()
    assert bob.got == []
    over(world)


@pytest.mark.parametrize("whose", ["caller", "party"])
@pytest.mark.parametrize("moment", ["sought", "early", "joined"])
def test_ports_that_are_lost(whose: str, moment: str) -> None:
    world, (bob,) = dialing()
    party = party_of(world)
    if moment != "sought":
        bob.answer(183, offer=sdp(5000, address=bob.host, formats="0 101"))
    if moment == "joined":
        bob.answer(200)
        world.ack()
    lost = world.call_id if whose == "caller" else party
    if lost not in world.ports:
        return  # the caller has none yet
    del world.ports[lost]
    world.give(MediaLost((lost,)))
    if bob.requests("CANCEL"):
        bob.answer(487)
    over(world)


def test_no_ports_for_the_party() -> None:
    world = World()
    bob = Callee(world)
    world.ports_left = False
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    assert bob.got == []
    assert world.statuses[-1] == 503
    over(world)


def test_a_service_that_stops_lets_everybody_know() -> None:
    world, (bob, carol) = dialing(2, 3)
    bob.answer(180)
    world.give(Drain())
    world.give(HangUpAll())
    assert bob.methods == ["INVITE", "CANCEL"]
    carol.answer(180)
    assert carol.methods == ["INVITE", "CANCEL"]
    for each in (bob, carol):
        each.answer(487)
    assert world.statuses[-1] == 503
    over(world)


def test_a_service_that_stops_hangs_up_on_both() -> None:
    world, bob, _ = joined()
    world.give(HangUpAll())
    for hung_up in (bob.requests("BYE"), world.requests("BYE")):
        (bye,) = hung_up
        assert "drained" in (bye.headers.get("Reason") or "")
    over(world)


def test_an_originated_call_lasts_as_long_as_was_asked_for_after_a_crash_too() -> None:
    world, bob = calling(max_duration_s=30.0)
    bob.answer(200)
    world.advance(10.0)
    heir = world.restart()
    bob.world = heir
    heir.advance(21.0)
    assert bob.methods[-1] == "BYE"
    assert heir.ended["reason"] == "max_duration"


def test_early_media_outlives_its_process() -> None:
    world, (bob,) = dialing()
    early = sdp(5000, address=bob.host, formats="0 101")
    bob.answer(183, offer=early)
    heir = world.restart()
    bob.world = heir
    assert rule(heir, party_of(world)).relay_to == heir.call_id
    bob.answer(200, offer=early)
    heir.ack()
    assert told(heir).count("call.joined") == 2


# What is done with lists


def test_a_list_waits_until_the_party_has_gone() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),), end_with_peer=False), Hangup())
    world.invite()
    bob.answer(200)
    world.ack()
    assert told(world, world.call_id) == ["call.incoming", "call.answered", "call.joined"]
    bob.bye()
    assert told(world, world.call_id)[3:] == ["call.left", "call.ended"]
    assert len(world.requests("BYE")) == 1
    over(world)


def test_a_second_dial_after_the_first() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    first, second = Dial(to=(Target(bob.uri),), end_with_peer=False), Dial(to=(Target(carol.uri),))
    world.reply = (first, second)
    world.invite()
    bob.answer(200)
    world.ack()
    bob.bye()
    assert carol.methods == ["INVITE"]
    carol.answer(200)
    assert told(world, world.call_id)[1:] == ["call.answered", "call.joined", "call.left", "call.joined"]
    world.bye()
    assert carol.methods[-1] == "BYE"
    world.advance(64.0)
    assert world.leftovers() == {}


def test_answered_at_once_and_nobody_is_found() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),), answer_caller="now"), Pause(seconds=2), Hangup())
    world.invite()
    world.ack()
    assert bob.methods == ["INVITE"]
    bob.answer(486)
    world.advance(2.0)
    assert told(world, world.call_id) == ["call.incoming", "call.answered", "call.ended"]
    over(world)


def test_answered_at_once_and_gone_while_it_rings() -> None:
    world, (bob,) = dialing(answer_caller="now")
    bob.answer(180)
    world.ack()
    world.bye()
    assert bob.methods == ["INVITE", "CANCEL"]
    bob.answer(487)
    over(world)


def test_a_caller_without_an_offer() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.packet(request("INVITE"))
    assert b"m=audio" in bob.invite.body
    bob.answer(200)
    assert b"m=audio" in world.last(200).body
    world.ack(sdp=sdp(formats="0 101"))
    assert told(world).count("call.joined") == 2
    world.bye()
    over(world)


def test_a_party_that_answers_without_sdp_is_let_go_and_the_caller_told() -> None:
    world, (bob,) = dialing()
    bob.answer(200, offer="")
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    assert world.statuses[-1] == 488
    over(world)


def test_a_caller_that_is_gone_before_its_answer_was_stored_takes_the_party_along() -> None:
    world, (bob,) = dialing(end_with_peer=False)
    world.committing = False
    bob.answer(200)
    world.cancel()
    world.commit_all()
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    assert world.statuses[-1] == 487
    over(world)


def test_a_party_that_hangs_up_before_the_callers_ack() -> None:
    world, (bob,) = dialing()
    bob.answer(200)
    bob.bye()
    assert world.requests("BYE") == []  # §15: not before the ACK
    world.ack()
    assert len(world.requests("BYE")) == 1
    over(world)


def test_a_caller_that_never_acknowledges() -> None:
    world, (bob,) = dialing()
    bob.answer(200)
    world.advance(33.0)
    assert world.ended["reason"] == "ack_timeout"
    assert bob.methods[-1] == "BYE"
    over(world)


def test_both_hang_up_at_once() -> None:
    world, bob, _ = joined()
    world.committing = False
    world.bye()
    bob.bye()
    world.commit_all()
    assert [each.status for each in world.responses(method="BYE")] == [200]
    assert [each.status for each in bob.responses] == [481]  # ours has ended that dialog before (§15.1.2)
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    over(world)


def test_the_list_of_a_refused_dial_goes_on_at_the_end_of_the_plan() -> None:
    world = World(settings(plan={"fallback": (Answer(), Dial(to=(Target("sip:bob@192.0.2.2:5060"),)), Reject())}))
    bob = Callee(world)
    world.down = True
    world.invite()
    world.down = False
    world.ack()
    bob.answer(486)
    assert len(world.requests("BYE")) == 1
    assert world.ended["reason"] == "application_failed"


# What the far ends do with a session that is joined


def test_a_hold_of_the_far_end_stops_what_it_would_hear() -> None:
    world, bob, party = joined()
    bob.within("INVITE", sdp(5000, address=bob.host, formats="0 101", direction="sendonly"))
    assert b"a=recvonly" in bob.responses[-1].body
    bob.acknowledge()
    assert told(world, party)[-1] == "call.held"
    assert rule(world, world.call_id).relay_to is None
    assert rule(world, party).relay_to == world.call_id  # music, perhaps
    bob.within("INVITE", sdp(5000, address=bob.host, formats="0 101"))
    bob.acknowledge()
    assert told(world, party)[-1] == "call.resumed"
    assert rule(world, world.call_id).relay_to == party


def test_who_resumes_while_joined_is_heard_again_after_the_others_refresh() -> None:
    """The caller's next offer is answered by what the party does now, not by what it did when both were joined."""
    world, bob, party = joined()
    bob.within("INVITE", sdp(5000, address=bob.host, formats="0 101", direction="sendonly"))
    bob.acknowledge()
    world.reinvite(sequence=2, sdp=sdp(4002, formats="0 101"))
    world.ack(sequence=2)
    bob.within("INVITE", sdp(5000, address=bob.host, formats="0 101"))
    bob.acknowledge()
    world.reinvite(sequence=3, sdp=sdp(4004, formats="0 101"))
    assert b"a=sendrecv" in world.last(200).body
    world.ack(sequence=3)
    assert (rule(world, world.call_id).relay_to, rule(world, party).relay_to) == (party, world.call_id)


def test_a_codec_that_the_other_does_not_speak_is_refused() -> None:
    """Nobody here translates: the session stays as it was (§14.2)."""
    world, bob, party = joined()
    before = rule(world, party)
    bob.within("INVITE", sdp(5000, address=bob.host, formats="8 101"))
    assert bob.responses[-1].status == 488
    assert rule(world, party) == before


def test_a_hold_of_ours_on_one_end_of_a_join() -> None:
    world, _, party = joined()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(direction="recvonly", formats="0 101")))
    assert rule(world, party).relay_to is None  # what the party says is not heard by whom we hold
    assert told(world, world.call_id)[-1] == "action.completed"
