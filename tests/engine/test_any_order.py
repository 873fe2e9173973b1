"""Anything, in any order: what must hold of a node whatever callers, stores, workers and applications do to it.

The bench itself asserts at every step that nothing gated leaves before its write, and that no INVITE gets two different
final responses. When all has settled, here, every call has ended once, last, and without a gap, every accepted action has
been told of, and the node has let go of everything.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from bridge.calls.actions import (
    Action,
    Answer,
    Credentials,
    Dial,
    Hangup,
    Hold,
    Join,
    Leave,
    Mute,
    Park,
    Pause,
    Proxy,
    Redirect,
    Reject,
    Ring,
    Target,
    Unhold,
)
from bridge.calls.facts import ActionId, CallId, Contact
from bridge.engine.effects import CommandAccepted, Noted
from bridge.engine.inputs import Committed, InvalidReply, MediaLost, MediaTimedOut, StoreAway, StoreBack
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Outcome, Schedule
from tests.engine.callee import Callee
from tests.engine.test_joining import reply as caller_reply
from tests.engine.test_originating import originate
from tests.engine.world import DOWN, OFFER, UNUSABLE, World, request, sdp
from tests.engine.world import settings as node_settings

NAMES = st.sampled_from(["c1", "c2", "c3"])
BOB = Target("sip:bob@192.0.2.2:5060", Credentials("us", "secret"))
CAROL, DAVE, NOBODY = Target("sip:bob@192.0.2.3:5060"), Target("sip:bob@192.0.2.4:5060"), Target("sip:x@[2001:db8::9]")
ACTIONS = st.sampled_from(
    [
        Ring(),
        Answer(),
        Reject(code=486),
        Redirect(contacts=(Contact("sip:bob@192.0.2.2", 0.5),)),
        Proxy(targets=(Contact("sip:bob@192.0.2.2"), Contact("sip:bob@192.0.2.3")), record_route=True),
        Proxy(targets=(Contact("sip:bob@192.0.2.2"), Contact("sip:bob@192.0.2.3")), fork="serial", timeout_s=3.0),
        Pause(seconds=2),
        Park(timeout_s=8),
        Hangup(),
        Dial(to=(BOB,)),
        Dial(to=(BOB, CAROL), timeout_s=5.0, end_with_peer=False),
        Dial(to=(CAROL, NOBODY, DAVE), fork="serial", timeout_s=5.0, answer_caller="now"),
        Leave(),
        Hold(),
        Unhold(),
        Mute(),
    ]
)
PHONES = st.sampled_from([2, 3, 4])
STATUSES = st.sampled_from([100, 180, 183, 200, 200, 200, 302, 401, 486, 487, 491, 503, 603])
CHALLENGE = 'WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth"\r\n'
LISTS = st.lists(ACTIONS, min_size=1, max_size=4)
REPLIES = st.one_of(LISTS.map(tuple), st.just(()), st.just((Answer(),)), st.just(InvalidReply("nonsense", "actions")))
OUTCOMES = st.sampled_from([DOWN, Outcome(500, None, None, 0.1), Outcome(404, None, None, 0.1)])
BODIES = st.sampled_from([OFFER, None, UNUSABLE, sdp(direction="sendonly"), sdp(5000), "nonsense"])
SECONDS = st.sampled_from([0.01, 0.2, 0.6, 2.5, 6.0, 35.0])
ENDPOINTS = [
    [Endpoint("hook", "http://app/", decision=True)],
    [Endpoint("hook", "http://app/", "http://spare/", decision=True), Endpoint("log", "http://log/")],
    [Endpoint("ends", "http://e/", events=frozenset({"call.ended"})), Endpoint("hook", "http://app/", decision=True)],
]
PLANS: list[tuple[Action, ...]] = [(Reject(),), (Ring(), Pause(seconds=3), Answer(), Pause(seconds=3)), ()]
# What an event tells the outcome of; a pause and a park are over without a word.
TOLD = (Ring, Answer, Reject, Redirect, Proxy, Hangup, Dial, Join, Hold, Unhold, Mute)


class Anything(RuleBasedStateMachine):
    """One node, its heirs, three callers, and three phones that are called."""

    world: World

    @initialize(endpoints=st.sampled_from(ENDPOINTS), plan=st.sampled_from(PLANS), max_calls=st.sampled_from([2, 100]))
    def begin(self, endpoints: list[Endpoint], plan: tuple[Action, ...], max_calls: int) -> None:
        plans = {"fallback": plan, "duration_limit_s": 100.0}
        schedule = Schedule(delays=(0.0, 2.0, 4.0, 8.0, 16.0))
        self.world = World(node_settings(endpoints=endpoints, plan=plans, max_calls=max_calls, schedule=schedule))
        self.world.accepting = False
        self.sequences = {"c1": 1, "c2": 1, "c3": 1}
        self.phones = {number: Callee(self.world, number) for number in (2, 3, 4)}
        self.made = 0
        self.packets: list[str] = []
        self.emptied = False
        self.stolen: set[CallId] = set()
        self.asked: list[tuple[CallId, ActionId, Action]] = []

    # The callers

    def _send(self, text: str) -> None:
        self.packets.append(text)
        self.world.packet(text)

    @rule(name=NAMES, body=BODIES)
    def invite(self, name: str, body: str | None) -> None:
        self._send(request("INVITE", name, sdp=body))

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        self._send(request("CANCEL", name))

    def _tag(self, name: str) -> str | None:
        known = [each for each in self.world.responses() if each.call_id.startswith(name) and each.status > 100]
        return known[-1].to_tag if known else None

    @rule(name=NAMES, body=st.sampled_from([None, OFFER, "nonsense"]))
    def ack(self, name: str, body: str | None) -> None:
        self._send(request("ACK", name, sequence=self.sequences[name], sdp=body, to_tag=self._tag(name)))

    @rule(name=NAMES)
    def ack_a_refusal(self, name: str) -> None:
        number = self.sequences[name]
        branch = f"z9hG4bK-{name}-{number}-INVITE"
        self._send(request("ACK", name, sequence=number, to_tag=self._tag(name), branch=branch))

    @rule(name=NAMES, method=st.sampled_from(["BYE", "INVITE", "OPTIONS"]), body=BODIES)
    def within(self, name: str, method: str, body: str | None) -> None:
        tag = self._tag(name)
        if tag is not None:
            number = self.sequences[name] + 1
            if method == "INVITE":
                self.sequences[name] = number
            content = body if method == "INVITE" else None
            self._send(request(method, name, sequence=number, sdp=content, to_tag=tag))

    @precondition(lambda self: self.packets)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.world.packet(data.draw(st.sampled_from(self.packets[-12:])))

    @precondition(lambda self: self.world.requests("INVITE"))
    @rule(status=st.sampled_from([100, 200, 200, 408, 481, 488, 491]), body=BODIES)
    def answer_a_reinvite(self, status: int, body: str | None) -> None:
        ours = self.world.requests("INVITE")[-1]
        self.world.packet(caller_reply(ours, status, (body or "") if status == 200 else ""))

    # Those who are called

    @rule(number=PHONES, status=STATUSES, tag=st.sampled_from(["b1", "b1", "b2"]), body=BODIES, first=st.booleans())
    def phone(self, number: int, status: int, tag: str, body: str | None, first: bool) -> None:
        phone = self.phones[number]
        asked = phone.requests("INVITE")
        if asked:
            extra = {302: "Contact: <sip:bob@192.0.2.4:5060>\r\n", 401: CHALLENGE}.get(status, "")
            offer = (body or "") if status in (183, 200) else ""
            phone.answer(status, tag=tag, offer=offer, extra=extra, invite=asked[0] if first else None)

    @rule(number=PHONES, method=st.sampled_from(["BYE", "INVITE", "OPTIONS"]), body=BODIES)
    def phone_within(self, number: int, method: str, body: str | None) -> None:
        phone = self.phones[number]
        if phone.requests("INVITE"):
            phone.within(method, (body or "") if method == "INVITE" else "")

    @rule(number=PHONES)
    def phone_acknowledges(self, number: int) -> None:
        if self.phones[number].requests("INVITE"):
            self.phones[number].acknowledge()

    @rule(number=PHONES, deaf=st.booleans())
    def phone_deaf(self, number: int, deaf: bool) -> None:
        self.phones[number].deaf = deaf

    @rule(to=st.sampled_from([(BOB,), (CAROL, DAVE), (NOBODY,)]), actions=st.lists(ACTIONS, max_size=2))
    def originate(self, to: tuple[Target, ...], actions: list[Action]) -> None:
        self.made += 1
        call = CallId("call_" + f"{self.made}".translate(str.maketrans("0189", "ghij")).rjust(24, "z"))
        originate(self.world, *to, call=call, timeout_s=9.0, actions=tuple(actions))

    @rule(data=st.data(), end_with_peer=st.booleans())
    def join(self, data: st.DataObject, end_with_peer: bool) -> None:
        known = [call.id for call in self.world.node.calls()]
        if known:
            one, other = data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known))
            self._command([Join(call_id=other, end_with_peer=end_with_peer)], one)

    # The application

    @precondition(lambda self: self.world.flying)
    @rule(reply=REPLIES)
    def reply(self, reply: tuple[Action, ...] | InvalidReply) -> None:
        decision = next(iter(self.world.flying.values()))[1].decision
        self.world.outcome(reply=reply if decision else None)

    @precondition(lambda self: self.world.flying)
    @rule(outcome=OUTCOMES)
    def fail(self, outcome: Outcome) -> None:
        self.world.outcome(outcome)

    @rule(actions=LISTS, data=st.data())
    def command(self, actions: list[Action], data: st.DataObject) -> None:
        known = [call.id for call in self.world.node.calls()]
        if known:
            self._command(actions, data.draw(st.sampled_from(known)))

    def _command(self, actions: list[Action], call: CallId) -> None:
        answer = self.world.command(*actions, listed=len(actions) > 1, call=call)
        if isinstance(answer, CommandAccepted):
            self.asked += [(call, *each) for each in zip(answer.action_ids, actions, strict=True)]

    # The store

    @rule()
    def slow(self) -> None:
        self.world.committing = False

    @precondition(lambda self: self.world.waiting)
    @rule()
    def commit_one(self) -> None:
        self.world.commit_one()

    @rule()
    def quick(self) -> None:
        self.world.commit_all()

    @rule(away=st.booleans())
    def away(self, away: bool) -> None:
        self.world.give(StoreAway() if away else StoreBack())

    @rule()
    def lose_everything(self) -> None:
        """The store restarts without its data."""
        self.emptied = True
        self.world.keyspace.empty()

    @rule()
    def claimed_by_another(self) -> None:
        """Another node takes every conversation that is stored."""
        claimed = self.world.keyspace.claim_predecessors("n1:thief", "thief")
        self.stolen |= {call.call for conversation in claimed for call in conversation.calls}

    @rule()
    def a_late_acknowledgement(self) -> None:
        """Of a write that was answered before, or of a node that is dead."""
        self.world.give(Committed(1_000_000))

    # The media worker

    @rule(opening=st.booleans(), closing=st.booleans(), ports_left=st.booleans())
    def worker(self, opening: bool, closing: bool, ports_left: bool) -> None:
        world = self.world
        world.opening, world.closing, world.ports_left = opening, closing, ports_left

    @rule()
    def open_ports(self) -> None:
        self.world.open_ports()

    @precondition(lambda self: self.world.ports)
    @rule(data=st.data(), lost=st.booleans())
    def media(self, data: st.DataObject, lost: bool) -> None:
        session = data.draw(st.sampled_from(sorted(self.world.ports)))
        if lost:
            del self.world.ports[session]
            self.world.give(MediaLost((session,)))
        else:
            self.world.give(MediaTimedOut(session))

    # Time, and worse

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(applied=st.integers(0, 3))
    def restart(self, applied: int) -> None:
        """All that is not stored is lost, what REST was granted a moment ago included."""
        self.world = self.world.restart(applied=applied)
        self.world.accepting = False
        for phone in self.phones.values():
            phone.world = self.world
        stored = {call: str(self.world.stored_events(call)) for call in {call for call, _, _ in self.asked}}
        self.asked = [each for each in self.asked if each[1] in stored[each[0]]]
        self.stolen.clear()  # the heir has claimed all of them

    # What must hold

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for phone in self.phones.values():
            phone.deaf = False
        world.accepting = world.opening = world.closing = world.ports_left = True
        world.reply = ()
        world.give(StoreBack())
        world.commit_all()
        world.open_ports()
        while world.flying:
            world.outcome(reply=())
        world.advance(400.0)
        kept = world.leftovers()
        if self.stolen:
            kept.pop("stored", None)  # they are the other node's
        assert kept == {}
        assert world.illegible == []
        for call in world.stored_calls():
            if call not in self.stolen:
                self._check(call)

    def _check(self, call: CallId) -> None:
        events = self.world.stored_events(call)
        types = [body["type"] for _, body in events]
        if self.emptied:
            # What had been delivered before is not written again, and that may have been everything.
            numbers = [sequence for sequence, _ in events]
            assert numbers == (list(range(numbers[0], numbers[-1] + 1)) if numbers else [])
            assert types.count("call.ended") <= 1
            return
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        assert types[0] in ("call.incoming", "call.initiated")
        assert types.count("call.ended") == 1
        assert types[-1] == "call.ended"
        told = {
            body["data"]["caused_by"]
            for each in self.world.stored_calls()
            for _, body in self.world.stored_events(each)
        }
        untold = [action for asked, name, action in self.asked if asked == call and name not in told]
        let_go = any(isinstance(it, Noted) and it.event == "conversation_let_go" for it in self.world.effects)
        assert let_go or [action for action in untold if isinstance(action, TOLD)] == []
        delivered = {
            body["data"]["sequence"]: body["id"] for body in self.world.bodies if body["data"]["call_id"] == call
        }
        stored = {sequence: body["id"] for sequence, body in events}
        assert delivered.items() <= stored.items()


def test_anything_in_any_order() -> None:
    settled = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Anything, settings=settled)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_anything_in_any_order_for_long() -> None:
    settled = settings(
        max_examples=3_000, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Anything, settings=settled)
