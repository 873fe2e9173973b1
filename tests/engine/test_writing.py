"""What has changed becomes one write for each conversation and input, with the fence in it and whatever can ride along."""

from __future__ import annotations

import json

from bridge.calls.actions import Answer, Dial, Join, Mute, Target
from bridge.engine.commit import Claim
from tests.engine.callee import Callee
from tests.engine.test_dialing import dialing, party_of
from tests.engine.test_joining import two_answered
from tests.engine.test_originating import CALL, originate
from tests.engine.world import World, answered


def test_all_events_of_one_input_are_one_write() -> None:
    world, (bob,) = dialing()
    bob.answer(180)
    before = len(world.commits)
    bob.answer(200)
    (written, *others) = world.commits[before:]
    assert {event.call for event in written.events} == {party_of(world)}
    assert {call.call for call in written.calls} == {world.call_id, party_of(world)}
    assert all(not commit.events for commit in others)


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
