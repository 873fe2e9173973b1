"""A process dies and another takes its place: at every step of a call, with every write applied or not (survival §4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from bridge.calls.actions import Action, Hangup, Park, Pause, Proxy, Redirect, Reject, Ring
from bridge.calls.facts import Contact
from bridge.engine.effects import AdoptPorts, Noted
from bridge.engine.inputs import Claimed, MediaTimedOut
from bridge.engine.settings import NodeSettings
from bridge.outbox.effects import Endpoint
from bridge.sip.dialog import DialogState
from bridge.sip.flow import Flow, Send
from tests.engine.world import ANSWER, DOWN, HOOK, OFFER, OK, World, answered, request, sdp, settings

Step = Callable[[World], None]


def replying(*actions: Action) -> Step:
    def step(world: World) -> None:
        world.reply = actions

    return step


WALKS: dict[str, list[Step]] = {
    "answered": [replying(ANSWER), World.invite, World.ack, World.bye],
    "held": [
        replying(ANSWER),
        World.invite,
        World.ack,
        lambda world: world.reinvite(sequence=2, sdp=sdp(direction="sendonly")),
        lambda world: world.ack(sequence=2),
        lambda world: world.bye(sequence=3),
    ],
    "delayed offer": [
        replying(ANSWER),
        lambda world: world.invite(sdp=None),
        lambda world: world.ack(sdp=OFFER),
        World.bye,
    ],
    "listed": [
        replying(Ring(), Pause(seconds=2), ANSWER, Pause(seconds=2), Hangup()),
        World.invite,
        lambda world: world.advance(3.0),
        World.ack,
        lambda world: world.advance(3.0),
    ],
    "proxied to nobody": [replying(Proxy(targets=(Contact("sip:bob@192.0.2.77:9;transport=tcp"),))), World.invite],
    "redirected": [replying(Redirect(contacts=(Contact("sip:bob@192.0.2.2", 0.5),))), World.invite],
    "rejected": [replying(Reject(code=486)), World.invite],
    "canceled": [replying(), World.invite, World.cancel],
    "commanded": [
        replying(),
        World.invite,
        lambda world: commanded(world, ANSWER),
        World.ack,
        lambda world: commanded(world, Hangup()),
    ],
    "hung up before the ACK": [
        replying(ANSWER),
        World.invite,
        lambda world: commanded(world, Hangup()),
        World.ack,
    ],
    "undecided": [World.invite, lambda world: world.advance(6.0)],
}


def commanded(world: World, action: Action) -> None:
    if world.node.call(world.call_id) is not None:
        world.command(action)


def moments(steps: list[Step], world: World) -> Iterator[None]:
    """Walk, with a pause before every step and before every single write."""
    world.committing = False
    for step in steps:
        yield
        if _makes_sense(step, world):
            step(world)
        while world.waiting:
            yield
            world.commit_one()
    yield


def _makes_sense(step: Step, world: World) -> bool:
    """A caller acknowledges and ends only what it has been answered."""
    within = (World.ack, World.bye)
    return step not in within or bool(world.responses(200))


def caller_goes_on(world: World) -> None:
    """What a caller does that knows nothing of crashes: repeats what was not answered, and hangs up at last."""
    final = [message for message in world.responses(sequence=1) if message.status >= 200]
    if not final and any(world.sent):
        world.invite()
        world.advance(1.0)
        final = [message for message in world.responses(sequence=1) if message.status >= 200]
    if final and final[0].status == 200:
        world.ack(sdp=OFFER)
        before = len(world.responses(200, "BYE"))
        byes = len(world.requests("BYE"))
        alive = world.commits and world.node.call(world.call_id) is not None and not world.call.is_over
        world.bye(sequence=50)
        if alive and not byes:
            assert len(world.responses(200, "BYE")) == before + 1
    world.advance(200.0)
    for call in list(world.node._holdings.legs):
        world.give(MediaTimedOut(call))  # a caller that has gone says nothing any more
    world.advance(200.0)


def sound(world: World) -> None:
    """What must hold of every call, whoever died while carrying it."""
    for call in world.stored_calls():
        events = world.stored_events(call)
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        types = [body["type"] for _, body in events]
        assert types.count("call.ended") == 1
        assert types[-1] == "call.ended"
        stored = {sequence: body["id"] for sequence, body in events}
        for body in world.bodies:
            if body["data"]["call_id"] == call:
                assert stored[body["data"]["sequence"]] == body["id"]
        seen = 0
        for _, received, sequence in world.received:
            if received == call:
                assert sequence <= seen + 1
                seen = max(seen, sequence)
        assert seen == len(events)
    assert world.leftovers() == {}


@pytest.mark.parametrize("applied", [0, 1], ids=["not applied", "applied but not heard of"])
@pytest.mark.parametrize("walk", WALKS)
def test_a_crash_at_any_moment(walk: str, applied: int) -> None:
    crashes = 0
    for moment in count():
        world = World()
        pauses = list(zip(range(moment + 1), moments(WALKS[walk], world), strict=False))
        if len(pauses) <= moment:
            break
        crashes += 1
        heir = world.restart(applied=applied)
        if not world.sent and not world.stored_calls():
            heir.invite()  # nobody has heard of this call yet, but its caller
        caller_goes_on(heir)
        sound(heir)
    assert crashes > len(WALKS[walk])


def test_a_call_is_carried_on_where_it_stood() -> None:
    heir = answered().restart()
    assert heir.call.state == "answered"
    assert heir.call.recovered == 1
    assert heir.call.dialog is not None
    assert heir.call.dialog.state is DialogState.CONFIRMED
    assert heir.ports.keys() == {heir.call_id}
    heir.bye()
    assert heir.types == ["call.incoming", "call.answered", "call.ended"]
    assert heir.ended == {"by": "remote", "reason": "hangup", "sip_code": None, "sip_reason": None, "q850": None}
    assert heir.told("call.ended")["quality"] is not None


def test_our_own_requests_are_ahead_of_what_the_dead_may_still_send() -> None:
    heir = answered().restart()
    heir.command(Hangup())
    (bye,) = heir.requests("BYE")
    assert bye.cseq.number > 1000


def test_an_open_decision_is_asked_for_again_and_has_a_second_at_least() -> None:
    world = World()
    world.invite()
    world.advance(4.9)
    heir = world.restart()
    assert [attempt.decision for attempt in heir.attempts] == [True]
    assert heir.attempts[0].event_id == world.attempts[0].event_id
    heir.advance(0.9)
    assert heir.statuses == [100]
    heir.decide(ANSWER)
    assert heir.statuses == [100, 200]


def test_a_decision_that_is_made_is_not_asked_for_again() -> None:
    world = World()
    world.reply = ()
    world.invite()
    heir = world.restart()
    assert not any(attempt.decision for attempt in heir.attempts)
    heir.command(ANSWER)
    assert heir.statuses[-1] == 200


def test_a_200_whose_ack_has_not_been_seen_is_sent_again_to_the_byte() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    heir = world.restart()
    first, second = heir.responses(200)
    assert first.encode() == second.encode()
    heir.advance(1.6)
    assert len(heir.responses(200)) == 4
    heir.ack()
    assert heir.types == ["call.incoming", "call.answered"]
    heir.advance(60.0)
    assert heir.call.state == "answered"


def test_a_caller_can_still_cancel() -> None:
    world = World()
    world.reply = ()
    world.invite()
    heir = world.restart()
    heir.cancel()
    assert heir.statuses[-1] == 487
    assert heir.ended["reason"] == "canceled"


def test_a_repeated_invite_meets_the_call_it_made() -> None:
    world = World()
    world.reply = ()
    world.invite()
    heir = world.restart()
    heir.invite()
    assert heir.node.carried == 1
    heir.command(ANSWER)
    assert heir.statuses[-1] == 200


def test_a_list_goes_on_where_it_stood() -> None:
    world = World()
    world.reply = (Ring(), Pause(seconds=10), Reject(code=486))
    world.invite()
    world.advance(4.0)
    heir = world.restart()
    heir.advance(5.9)
    assert heir.statuses[-1] == 180
    heir.advance(0.2)
    assert heir.statuses[-1] == 486


def test_a_pause_that_is_over_does_not_come_back_as_a_park() -> None:
    world = World()
    world.reply = (Pause(seconds=2), ANSWER)
    world.invite()
    world.advance(3.0)
    world.ack()
    heir = world.restart()
    heir.advance(200.0)
    assert heir.call.state == "answered"


def test_limits_go_on_counting_from_the_beginning() -> None:
    config = settings(plan={"duration_limit_s": 30.0})
    world = answered(World(config))
    world.advance(20.0)
    heir = world.restart()
    heir.advance(11.0)
    assert heir.ended["reason"] == "max_duration"


def test_a_parked_call_times_out_when_it_would_have() -> None:
    world = World()
    world.reply = (Park(timeout_s=30),)
    world.invite()
    world.advance(20.0)
    heir = world.restart()
    heir.advance(10.1)
    assert heir.ended["reason"] == "park_timeout"


def test_a_hangup_that_waits_for_the_ack_is_not_forgotten() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    (asked,) = world.ask(Hangup(reason="bye"))
    heir = world.restart()
    heir.ack()
    (bye,) = heir.requests("BYE")
    assert bye.headers.get("Reason") == 'Q.850;cause=16;text="bye"'
    assert heir.told("call.ended")["caused_by"] == asked


def test_undelivered_events_go_out_again_under_the_same_ids() -> None:
    world = answered()
    world.down = True
    world.bye()
    heir = world.restart()
    assert heir.attempts == []  # it failed a moment ago, and waits for its turn
    heir.advance(5.1)
    assert heir.attempts[0].event_id == world.attempts[-1].event_id
    assert heir.attempts[0].attempt == 2
    assert heir.types == ["call.incoming", "call.answered", "call.ended"]
    heir.advance(40.0)
    assert heir.leftovers() == {}


def test_a_delivery_nobody_heard_the_end_of_is_made_again() -> None:
    world = answered()
    world.accepting = False
    world.bye()
    heir = world.restart()
    assert [attempt.event_type for attempt in heir.attempts] == ["call.ended"]
    assert heir.attempts[0].event_id == world.attempts[-1].event_id


def test_a_call_that_was_ending_ends_and_gives_its_ports_back() -> None:
    world = World()
    world.reply = (ANSWER, Pause(seconds=100), Ring())
    world.invite()
    world.ack()
    world.closing = False
    world.bye()  # the pause and the ringing are told as canceled; the figures are still to come
    heir = world.restart()
    assert heir.types[-1] == "call.ended"
    assert heir.ports == {}
    heir.advance(60.0)
    assert heir.leftovers() == {}


def test_ports_the_worker_has_lost_end_their_call() -> None:
    world = answered()
    world.ports.clear()
    heir = world.restart()
    assert heir.ended["reason"] == "node_lost"


def test_ports_that_nobody_knows_any_more_are_closed() -> None:
    world = answered()
    world.ports["call_of_nobody"] = None
    heir = world.restart()
    assert heir.ports.keys() == {heir.call_id}


def test_claiming_twice_is_claiming_once() -> None:
    world = answered()
    heir = world.restart()
    again = heir.keyspace.claim_predecessors(heir.settings.owner, heir.settings.nonce)
    assert len(again) == 1
    heir.give(Claimed(tuple(again)))
    assert heir.node.carried == 1
    heir.bye()
    assert heir.types[-1] == "call.ended"


def test_what_cannot_be_read_is_left_for_somebody_who_can() -> None:
    world = answered()
    world.invite("c2")
    world.ack("c2")
    first = world.call_id
    conversations = world.keyspace._conversations
    stored = conversations.get(world.call.conversation_id)
    assert stored is not None
    conversations.put(world.call.conversation_id, replace(stored, variable={first: b'{"v":99}'}))
    heir = world.restart()
    assert [effect.call for effect in heir.effects if isinstance(effect, Noted) and effect.level == "error"] == [first]
    assert heir.node.call(first) is None
    assert heir.node.carried == 1
    assert heir.keyspace.stored_call(first) is not None


@pytest.mark.parametrize(
    "config",
    [
        settings(endpoints=(HOOK, Endpoint("new", "http://new/"))),
        settings(endpoints=(Endpoint("other", "http://other/", decision=True),)),
    ],
    ids=["one endpoint more", "another endpoint"],
)
def test_endpoints_may_have_changed_in_the_meantime(config: NodeSettings) -> None:
    world = answered()
    heir = world.restart(applications=config.applications)
    heir.bye()
    heir.advance(60.0)
    assert heir.leftovers() == {}


def test_the_far_end_knows_the_call_by_the_tag_it_was_given() -> None:
    world = answered()
    tag = world.tag()
    heir = world.restart(node_id="n2")  # whose tags bear another hint
    heir.reinvite(sequence=2)
    assert heir.tag() == tag
    heir.ack(sequence=2)
    heir.bye(sequence=3)
    assert heir.types[-1] == "call.ended"


def test_a_listener_may_have_been_renamed_in_the_meantime() -> None:
    world = answered()
    listener = replace(world.settings.listeners["udp:5060"], name="udp:new")
    heir = world.restart(listeners={"udp:new": listener})
    heir.command(Hangup())
    assert len(heir.requests("BYE")) == 1
    assert {effect.flow.listener for effect in heir.effects if isinstance(effect, Send)} == {"udp:new"}


def test_the_way_to_a_caller_that_moved_is_kept() -> None:
    world = answered()
    moved = Flow("udp", "udp:5060", "192.0.2.1", 7777)
    contact = "<sip:caller@phone.example>"
    text = request("INVITE", sequence=2, sdp=sdp(5000), to_tag=world.tag(), contact=contact)
    world.packet(text, moved)
    world.packet(request("ACK", sequence=2, to_tag=world.tag()), moved)
    heir = world.restart()
    heir.command(Hangup())
    (way,) = {effect.flow for effect in heir.effects if isinstance(effect, Send)}
    assert way == moved


def test_with_nothing_to_claim_every_port_is_an_orphan() -> None:
    world = World()
    heir = world.restart()
    assert [effect for effect in heir.effects if isinstance(effect, AdoptPorts)] == [AdoptPorts({})]


def test_a_restart_of_a_restart() -> None:
    world = answered()
    for generation in (1, 2, 3):
        world = world.restart()
        assert world.call.recovered == generation
        world.reinvite(sequence=generation + 1, sdp=sdp(5000 + generation))
        world.ack(sequence=generation + 1)
    world.bye(sequence=9)
    assert world.types == ["call.incoming", "call.answered", *["call.updated"] * 3, "call.ended"]
    world.advance(60.0)
    sound(world)


def test_a_fallback_plan_goes_on() -> None:
    world = World(settings(plan={"fallback": (Ring(), Pause(seconds=10), Reject(code=503))}))
    world.invite()
    world.outcome(DOWN)
    heir = world.restart()
    heir.advance(11.0)
    assert heir.statuses[-1] == 503
    assert (heir.ended["by"], heir.ended["reason"]) == ("policy", "application_failed")


def test_a_decision_of_which_nothing_is_stored_is_asked_for_again() -> None:
    world = World()
    world.opening = False
    world.invite()
    world.outcome(OK, (ANSWER,))
    heir = world.restart()
    assert [attempt.decision for attempt in heir.attempts] == [True]
