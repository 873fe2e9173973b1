"""What has changed becomes one write for each conversation and turn, with the fence in it and whatever can ride along."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bridge.calls.actions import Answer, Dial, Hangup, Join, Mute, Target, Unmute
from bridge.calls.facts import CallId
from bridge.engine.commit import Claim, Remembered
from bridge.engine.inputs import Command, CommitRefused, Input
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from tests.engine.callee import Callee
from tests.engine.test_dialing import dialing, party_of
from tests.engine.test_joining import two_answered
from tests.engine.test_originating import CALL, originate, wanted
from tests.engine.world import World, answered, sdp


def test_all_events_of_one_input_are_one_write() -> None:
    world, (bob,) = dialing()
    bob.answer(180)
    before = len(world.commits)
    bob.answer(200)
    (written, *others) = world.commits[before:]
    assert {event.call for event in written.events} == {party_of(world)}
    assert {call.call for call in written.calls} == {world.call_id, party_of(world)}
    assert all(not commit.events for commit in others)


class Quick(Callee):
    """It rings and answers at once."""

    def take(self, message: Request | Response, flow: Flow) -> Iterable[Input]:
        yield from super().take(message, flow)
        if isinstance(message, Request) and message.method == "INVITE":
            yield self._packet(self._response(message, 180))
            yield self._packet(self._response(message, 200, sdp(5000, address=self.host, formats="0 101")))


def test_what_comes_together_is_one_write() -> None:
    world = World()
    world.reply = (Dial(to=(Target(Quick(world).uri),)),)
    world.invite()
    world.ack()
    world.bye()
    party = party_of(world)
    written = [[(event.call, json.loads(event.body)["type"]) for event in commit.events] for commit in world.commits]
    assert written == [
        [(world.call_id, "call.incoming")],
        [(party, "call.initiated")],  # the ports that its offer names are there before it is written
        [(party, "call.ringing"), (party, "call.answered")],
        [(world.call_id, "call.answered"), (world.call_id, "call.joined"), (party, "call.joined")],
        [(world.call_id, "call.ended"), (party, "call.ended")],
    ]
    world.advance(64.0)
    assert world.leftovers() == {}


def test_each_key_of_a_turn_is_claimed_by_a_write_of_its_own() -> None:
    world = answered()
    carol, dave = Callee(world, 3), Callee(world, 4)
    into = world.call.conversation_id
    names = [CallId("call_" + letter * 24) for letter in "ab"]
    world.give(
        wanted(Target(carol.uri), call=names[0], conversation=into, claim=Claim("one", "fingerprint")),
        wanted(Target(dave.uri), call=names[1], conversation=into, claim=Claim("other", "fingerprint")),
    )
    assert [(commit.claim.key, commit.claim.call) for commit in world.commits if commit.claim is not None] == [
        ("one", names[0]),
        ("other", names[1]),
    ]
    assert (carol.methods, dave.methods) == (["INVITE"], ["INVITE"])


def test_what_changes_in_the_turn_of_a_refusal_is_written_with_all_the_rest() -> None:
    world = answered()
    world.committing = False
    world.ask(Mute())
    refused = world.commits[-1].ticket
    world.waiting.clear()
    world.keyspace.empty()
    world.committing = True
    world.give(Command(1, world.call_id, (Unmute(),), listed=False), CommitRefused(refused, "stale"))
    assert world.types[-2:] == ["action.completed", "action.completed"]
    assert [sequence for sequence, _ in world.stored_events()][-2:] == [3, 4]
    world.bye()
    world.advance(64.0)
    assert world.leftovers() == {}


def test_nothing_is_written_of_a_call_whose_key_was_taken_whatever_happens_in_that_turn() -> None:
    world = answered()
    carol = Callee(world, 3)
    world.committing = world.opening = False
    into, claim = world.call.conversation_id, Claim("key", "fingerprint")
    world.give(wanted(Target(carol.uri), conversation=into, claim=claim))
    refused = world.commits[-1].ticket
    world.waiting.clear()
    world.committing = True
    before = Remembered("fingerprint", CallId("call_" + "z" * 24), 201, b"{}")
    world.give(Command(1, CALL, (Hangup(),), listed=False), CommitRefused(refused, "claimed", before))
    assert world.node.call(CALL) is None
    assert not world.stored_events(CALL)
    assert CALL not in world.stored_calls()
    world.bye()
    world.advance(64.0)
    assert world.leftovers() == {}


def test_what_changes_in_the_turn_of_a_loss_is_let_go_too() -> None:
    world = answered()
    world.committing = False
    world.ask(Mute())
    world.give(Command(1, world.call_id, (Unmute(),), listed=False), CommitRefused(world.commits[-1].ticket, "lost"))
    assert world.node.call(world.call_id) is None
    assert not world.node.unwritten


def test_versions_are_counted_without_a_gap() -> None:
    world, (bob,) = dialing()
    bob.answer(180)
    bob.answer(200)
    world.ack()
    world.bye()
    assert [commit.version for commit in world.commits] == list(range(1, len(world.commits) + 1))
    assert {(commit.epoch, commit.nonce, commit.owner) for commit in world.commits} == {
        (1, world.commits[0].nonce, "n1:1")
    }


def test_what_never_changes_of_a_call_is_written_once() -> None:
    world, (bob,) = dialing()
    bob.answer(200)
    world.ack()
    fixed = [call.call for commit in world.commits for call in commit.calls if call.fixed is not None]
    assert sorted(fixed) == sorted([world.call_id, party_of(world)])


def test_a_join_is_one_write_of_both_conversations() -> None:
    world, one, other = two_answered()
    before = len(world.commits)
    world.ask(Join(call_id=other))
    took = [commit for commit in world.commits[before:] if commit.takes]
    (commit,) = took
    (take,) = commit.takes
    assert take.conversation != commit.conversation
    assert {call.call for call in commit.calls} == {one, other}
    assert set(json.loads(commit.head)["calls"]) == {one, other}
    assert set(take.calls) < {one, other}
    assert json.loads(take.head)["calls"] == []


def test_a_key_is_claimed_for_the_call_that_it_was_sent_with() -> None:
    world = answered()
    carol = Callee(world, 3)
    originate(world, Target(carol.uri), conversation=world.call.conversation_id, claim=Claim("key", "fingerprint"))
    (commit,) = [commit for commit in world.commits if commit.claim is not None]
    assert commit.calls[0].call == CALL
    assert commit.claim is not None
    assert json.loads(commit.claim.answer)["id"] == CALL
    remembered = world.keyspace.remembered("key")
    assert remembered is not None
    assert remembered.call == CALL


def test_settled_deliveries_ride_with_the_next_write() -> None:
    world = World()
    world.reply = (Answer(), Dial(to=(Target("sip:x@192.0.2.9"),)))
    world.invite()
    world.ack()
    settled = [(ack.call, ack.sequence) for commit in world.commits for ack in commit.acks]
    assert (world.call_id, 1) in settled


def test_a_command_that_was_granted_is_written_at_once() -> None:
    world = answered()
    before = len(world.commits)
    world.ask(Mute())
    assert b'"muted":true' in (world.commits[before].calls[0].variable or b"")
