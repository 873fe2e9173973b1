"""A node dies and another one carries on what it had, at another address and with other ports (survival §4)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.calls.actions import Answer, Dial, Hangup, Hold, Mute, Park, Pause, Target
from bridge.calls.call import Identity
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.effects import Noted
from bridge.engine.inputs import Claimed, Former, StoreAway, StoreBack
from bridge.engine.settings import Listener
from bridge.sip.flow import Send
from bridge.sip.message import Request
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.test_joining import joined, reply, rule
from tests.engine.world import ANSWER, IDENTITY, World, answered, sdp, settings

CONTACT = "<sip:192.0.2.11:5060>"
HEIRS = "udp:192.0.2.11:5060"  # how its listener is called
ANSWERED = sdp(4000, formats="0 101")


def survivor(world: World, *, silent_s: float = 3.0, shared: bool = False) -> World:
    """Another node, that has claimed what this one had. `shared`: both are reached at the same address."""
    contact, sent_by = (IDENTITY.contact, "192.0.2.10:5060") if shared else (CONTACT, "192.0.2.11:5060")
    listener = Listener(HEIRS, sent_by, Identity(contact, IDENTITY.server, IDENTITY.allow))
    config = replace(world.settings, owner="n2:1", node_id="n2", nonce="heir", listeners={HEIRS: listener})
    heir = World(config, dead=world)
    heir.ports, heir.media = {}, ("192.0.2.11", 30000)
    heir.commits = world.commits[:1]
    heir.clock.at += silent_s
    for party in world.parties.values():
        assert isinstance(party, Callee)
        party.world = heir
    claimed = heir.keyspace.claim("n2:1", "heir", "n1", heir.keyspace.owned("n1"))
    heir.give(Claimed(tuple(claimed), Former("n1", heir.now - silent_s)))
    return heir


def reinvite(world: World) -> Request:
    """The one that tells the caller where we are now."""
    return world.requests("INVITE")[-1]


@pytest.mark.parametrize("head", [b"{", b"[]", b'{"created_at": null}'])
def test_a_damaged_head_keeps_no_other_from_being_carried_on(head: bytes) -> None:
    dead = answered()
    (stored,) = dead.keyspace.claim("n2:1", "heir", "n1", dead.keyspace.owned("n1"))
    damaged = replace(stored, conversation=ConversationId("conv_damaged"), head=head)
    heir = World(replace(dead.settings, owner="n2:1", node_id="n2", nonce="heir"), dead=dead)
    heir.give(Claimed((damaged, stored), Former("n1", heir.now)))
    assert [each.id for each in heir.node.conversations()] == [stored.conversation]
    told = [each for each in heir.effects if isinstance(each, Noted) and each.level == "error"]
    assert [(each.event, each.call) for each in told] == [("snapshot_unreadable", stored.calls[0].call)]


def test_an_answered_call_is_told_where_we_are_now() -> None:
    heir = survivor(answered())
    told = reinvite(heir)
    assert told.headers.get("Contact") == CONTACT
    assert b"c=IN IP4 192.0.2.11" in told.body
    assert b"m=audio 30000" in told.body
    assert "call.recovered" not in heir.types
    heir.advance(0.25)
    heir.packet(reply(told, 200, ANSWERED))
    assert heir.told("call.recovered")["from_node"] == "n1"
    assert heir.told("call.recovered")["to_node"] == "n2"
    assert heir.told("call.recovered")["gap_ms"] == 3250
    assert heir.call.recovered == 1
    assert rule(heir, heir.call_id).remote_port == 4000
    heir.bye(sequence=9)
    heir.advance(100.0)
    assert heir.types == ["call.incoming", "call.answered", "call.recovered", "call.ended"]
    assert heir.leftovers() == {}


def test_the_session_keeps_its_origin_and_its_lines() -> None:
    world = answered()
    before = world.last(200).body.split(b"\r\n")
    told = reinvite(survivor(world)).body.split(b"\r\n")
    origin, version = before[1].split(), 2
    assert told[1].split()[:version] + told[1].split()[version + 1 :] == origin[:version] + origin[version + 1 :]
    assert int(told[1].split()[version]) > int(origin[version])
    assert [line[:8] for line in told if line[:2] == b"m="] == [line[:8] for line in before if line[:2] == b"m="]


def test_its_number_is_ahead_of_whatever_the_dead_node_still_sends() -> None:
    assert reinvite(survivor(answered())).cseq.number > 1000


def test_both_of_two_that_hear_each_other_are_told() -> None:
    world, bob, party = joined()
    caller = world.call_id
    heir = survivor(world)
    to_bob = bob.invite
    assert b"c=IN IP4 192.0.2.11" in to_bob.body
    heir.packet(reply(reinvite(heir), 200, ANSWERED))
    bob.answer(200, invite=to_bob)
    assert (rule(heir, caller).relay_to, rule(heir, party).relay_to) == (party, caller)
    for call in (caller, party):
        types = [body["type"] for _, body in heir.stored_events(call)]
        assert types.count("call.recovered") == 1
    bob.bye()
    heir.advance(100.0)
    assert heir.leftovers() == {}
    for call in (caller, party):
        assert [body["type"] for _, body in heir.stored_events(call)][-1] == "call.ended"


def test_a_call_on_hold_stays_there() -> None:
    world = answered()
    world.ask(Hold())
    world.packet(reply(reinvite(world), 200, sdp(4000, direction="recvonly", formats="0 101")))
    heir = survivor(world)
    assert b"a=sendonly" in reinvite(heir).body
    heir.packet(reply(reinvite(heir), 200, sdp(4000, direction="recvonly", formats="0 101")))
    assert heir.call.on_hold
    assert heir.types[-1] == "call.recovered"


def test_a_hold_that_was_under_way_is_asked_for_again_from_the_new_place() -> None:
    world = answered()
    (action,) = world.ask(Hold())
    heir = survivor(world)
    told = reinvite(heir)
    assert b"a=sendonly" in told.body
    assert b"m=audio 30000" in told.body
    heir.packet(reply(told, 200, sdp(4000, direction="recvonly", formats="0 101")))
    assert heir.types[-2:] == ["action.completed", "call.recovered"]
    assert heir.told("action.completed")["caused_by"] == action


@pytest.mark.parametrize("status", [491, 500, 503])
def test_what_the_dead_node_left_pending_is_waited_for(status: int) -> None:
    heir = survivor(answered())
    heir.packet(reply(reinvite(heir), status))
    heir.advance(2.5)
    assert len(heir.requests("INVITE")) == 2
    heir.packet(reply(reinvite(heir), 200, ANSWERED))
    assert heir.types[-1] == "call.recovered"


def test_silence_does_not_end_it() -> None:
    heir = survivor(answered())
    heir.advance(60.0)
    assert not heir.call.is_over
    asked = heir.requests("INVITE")
    assert len({each.cseq.number for each in asked}) > 1
    heir.packet(reply(asked[-1], 200, ANSWERED))
    assert heir.types[-1] == "call.recovered"


def test_a_far_end_that_knows_of_no_such_call_has_ended_it() -> None:
    heir = survivor(answered())
    heir.packet(reply(reinvite(heir), 481))
    assert (heir.ended["by"], heir.ended["reason"]) == ("network", "unreachable")


def test_a_far_end_that_does_not_follow_us_is_let_go() -> None:
    heir = survivor(answered())
    heir.packet(reply(reinvite(heir), 488))
    assert (heir.ended["by"], heir.ended["reason"]) == ("node", "node_lost")
    assert len(heir.requests("BYE")) == 1


def test_without_a_port_left_the_call_ends() -> None:
    world = answered()
    world.bodies.clear()
    heir = survivor(answered(), silent_s=0.0)
    heir.ports_left = False
    again = World(replace(heir.settings, owner="n3:1", node_id="n3", nonce="third"), dead=heir)
    again.ports, again.ports_left = {}, False
    again.commits = heir.commits[:1]
    again.give(Claimed(tuple(again.keyspace.claim("n3:1", "third", "n2", again.keyspace.owned("n2"))), Former("n2", 0)))
    assert (again.ended["by"], again.ended["reason"]) == ("node", "node_lost")


def test_the_200_is_repeated_and_the_re_invite_waits_for_its_ack() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    heir = survivor(world)
    assert len(heir.responses(200)) == 2
    assert heir.requests("INVITE") == []
    heir.ack()
    assert b"m=audio 30000" in reinvite(heir).body
    heir.packet(reply(reinvite(heir), 200, ANSWERED))
    assert heir.types == ["call.incoming", "call.answered", "call.recovered"]


def test_a_ringing_caller_is_answered_by_the_heir() -> None:
    world = World()
    world.reply = (Pause(seconds=5), Answer())
    world.invite()
    heir = survivor(world)
    heir.advance(5.0)
    assert b"m=audio 30000" in heir.last(200).body
    heir.ack()
    assert heir.requests("INVITE") == [], "it has been told where we are by the 200"
    assert heir.types == ["call.incoming", "call.answered"]


def test_a_party_that_was_being_called_is_lost_and_its_caller_is_not() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)), Park())
    world.invite()
    bob.answer(180)
    caller = world.call_id
    heir = survivor(world)
    party = next(call for call in heir.stored_calls() if call != caller)
    ended = json.loads(heir.keyspace.final_record(party) or b"{}")["ended"]
    assert (ended["by"], ended["reason"]) == ("node", "node_lost")
    assert not heir.call.is_over
    assert heir.call.wait_until is not None, "its list has gone on"


def ringing() -> tuple[World, Callee, CallId]:
    """A caller waits for a party that rings."""
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)), Park())
    world.invite()
    bob.answer(180)
    return world, bob, party_of(world)


def copies(bob: Callee, method: str) -> list[bytes]:
    """Everything of this kind that has come, repetitions too."""
    return [each.encode() for each in bob.got if each.method == method]


def test_a_party_that_rings_is_canceled_with_the_via_of_its_invite() -> None:
    """§9.1: whom that INVITE has reached finds it by this Via, whoever sends the CANCEL."""
    world, bob, party = ringing()
    heir = survivor(world)
    assert bob.methods == ["INVITE", "CANCEL"]
    (cancel,) = bob.requests("CANCEL")
    assert cancel.headers.get("Via") == bob.invite.headers.get("Via")
    assert "192.0.2.10:5060" in (cancel.headers.get("Via") or "")
    assert cancel.uri == bob.invite.uri
    assert told(heir, party)[-1] == "call.ended"
    heir.ask(Hangup())
    heir.advance(120.0)
    assert len(set(copies(bob, "CANCEL"))) == 1
    assert heir.leftovers() == {}


def test_an_answer_that_reaches_the_heir_all_the_same_is_acknowledged_and_ended() -> None:
    world, bob, _ = ringing()
    heir = survivor(world)
    bob.answer(200)
    assert bob.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    heir.ask(Hangup())
    heir.advance(120.0)
    assert heir.leftovers() == {}


def test_a_cancel_of_the_dead_node_that_nobody_has_answered_is_repeated() -> None:
    world, bob, _ = ringing()
    bob.deaf = True
    world.ask(Hangup())
    assert len(copies(bob, "CANCEL")) == 1
    heir = survivor(world)
    assert len(copies(bob, "CANCEL")) == 2
    assert len(set(copies(bob, "CANCEL"))) == 1
    heir.advance(120.0)
    assert heir.types[-1] == "call.ended"
    assert heir.leftovers() == {}


def test_what_says_nothing_of_its_via_is_not_canceled() -> None:
    """A release before this one did not write it down, and with another Via it would be somebody else's CANCEL."""
    world, bob, party = ringing()
    search = world.node.call(party).search  # type: ignore[union-attr]
    assert search is not None
    search.attempts[0].sent_by = ""
    world.command(Mute(), call=world.call_id)  # something that is written
    heir = survivor(world)
    assert bob.methods == ["INVITE"]
    assert told(heir, party)[-1] == "call.ended"


# All nodes have one address


def test_a_party_that_rings_is_asked_again_by_an_heir_of_the_same_address() -> None:
    """To the byte: it takes that for a repetition, and says again what it has said (§17.2.1)."""
    world, bob, party = ringing()
    caller = world.call_id
    heir = survivor(world, shared=True)
    assert len(copies(bob, "INVITE")) == 2
    assert len(set(copies(bob, "INVITE"))) == 1
    bob.answer(200)
    heir.ack()
    moved = bob.invite
    assert b"m=audio 30000" in moved.body, "what it was offered were ports of the dead node"
    assert "call.joined" not in told(heir, party)
    bob.answer(200, invite=moved)
    assert told(heir, party)[-3:] == ["call.answered", "call.recovered", "call.joined"]
    assert (rule(heir, caller).relay_to, rule(heir, party).relay_to) == (party, caller)
    assert bob.methods == ["INVITE", "ACK", "INVITE", "ACK"]
    bob.bye()
    heir.advance(120.0)
    assert heir.leftovers() == {}


def test_a_refusal_comes_to_an_heir_of_the_same_address() -> None:
    world, bob, party = ringing()
    heir = survivor(world, shared=True)
    bob.answer(486)
    assert told(heir, party)[-2:] == ["call.attempt_failed", "call.ended"]
    assert bob.methods == ["INVITE", "ACK"]
    assert heir.call.wait_until is not None, "its caller's list has gone on"
    heir.bye()
    heir.advance(120.0)
    assert heir.leftovers() == {}


def test_what_may_be_forgotten_there_is_canceled_and_not_asked_again() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)), Park())
    world.invite()
    heir = survivor(world, shared=True, silent_s=33.0)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert len(copies(bob, "INVITE")) == 1
    assert told(heir, party_of(heir))[-2:] == ["call.attempt_failed", "call.ended"]


def test_an_invite_that_went_by_a_connection_is_not_repeated_by_another_one() -> None:
    listeners = {
        f"{each}:5060": Listener(f"{each}:5060", "192.0.2.10:5060", IDENTITY, transport=each) for each in ("udp", "tcp")
    }
    world = World(settings(listeners=listeners))
    bob = Callee(world, transport="tcp")
    world.reply = (Dial(to=(Target(bob.uri),)), Park())
    world.invite()
    bob.answer(180)
    heir = survivor(world, shared=True)
    assert len(copies(bob, "INVITE")) == 1
    assert told(heir, party_of(heir))[-1] == "call.ended"


def test_a_party_that_nobody_has_called_yet_is_called_by_the_heir() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.opening = False
    world.invite()
    assert bob.got == []
    heir = survivor(world)
    assert b"m=audio 30000" in bob.invite.body
    bob.answer(200)
    heir.ack()
    heir.advance(1.0)
    assert [body["type"] for _, body in heir.stored_events(heir.call_id)][-1] == "call.joined"


def test_a_heir_may_die_too() -> None:
    heir = survivor(answered())
    config = replace(heir.settings, owner="n3:1", node_id="n3", nonce="third")
    third = World(config, dead=heir)
    third.ports, third.media = {}, ("192.0.2.12", 40000)
    third.commits = heir.commits[:1]
    claimed = third.keyspace.claim("n3:1", "third", "n2", third.keyspace.owned("n2"))
    third.give(Claimed(tuple(claimed), Former("n2", third.now - 3.0)))
    told = reinvite(third)
    assert b"m=audio 40000" in told.body
    third.packet(reply(told, 200, ANSWERED))
    assert third.told("call.recovered")["from_node"] == "n2"
    assert third.types.count("call.recovered") == 1


def test_the_same_name_again_asks_for_new_ports_too_while_the_far_end_does_not_know() -> None:
    heir = survivor(answered())
    again = heir.restart()
    told = reinvite(again)
    assert told.headers.get("Contact") == CONTACT
    again.packet(reply(told, 200, ANSWERED))
    assert again.told("call.recovered")["from_node"] == "n1"


def test_events_that_were_not_delivered_are_delivered_by_the_heir() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.accepting = False
    world.ack()
    assert world.types == ["call.incoming"]
    heir = survivor(world)
    assert heir.types == ["call.incoming", "call.answered"]


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_the_heir_sends_by_its_own_listener(direction: str) -> None:
    world = answered() if direction == "inbound" else joined()[0]
    heir = survivor(world)
    sent = [effect for effect in heir.effects if isinstance(effect, Send)]
    assert {effect.flow.listener for effect in sent} == {HEIRS}


@pytest.mark.parametrize("heard", [False, True], ids=["silent", "its last word has come meanwhile"])
def test_what_was_given_up_here_may_come_back(heard: bool) -> None:
    """A node that stood still has lost a call whose INVITE it had canceled, and takes it over again from its heir."""
    world, bob, _ = ringing()
    bob.deaf = True
    world.ask(Hangup())
    (conversation,) = [each.id for each in world.node.conversations()]
    survivor(world)
    world.give(StoreAway(), StoreBack())
    world.advance(1.0)
    assert list(world.node.calls()) == [], "it has been told that they are another node's"
    if heard:
        bob.world = world
        bob.answer(487)
    world.give(Claimed(tuple(world.keyspace.claim("n1:1", "again", "n2", [conversation])), Former("n2", world.now)))
    assert (world.node.conversation(conversation) is None) is heard, "nobody is waited for any more"
    world.advance(120.0)
    assert world.leftovers() == {}
