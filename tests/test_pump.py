"""The pump: one input at a time, effects in their order, writes at the end of the turn, one timer, and no fault that stops
the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast, get_args

import pytest
from structlog.testing import capture_logs

from bridge.calls.actions import Target
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Ack, Commit, Postponed, Release
from bridge.engine.effects import (
    Acknowledge,
    AdoptPorts,
    ClosePorts,
    CommandAccepted,
    CommandRefused,
    Deliver,
    Dropped,
    Effect,
    HeldPorts,
    Noted,
    OpenPorts,
    Originated,
    OriginateRefused,
    Postpone,
    SetRule,
)
from bridge.engine.inputs import (
    Command,
    Committed,
    Delivered,
    FlowLost,
    Input,
    InvalidReply,
    Originate,
    Packet,
    PortsOpened,
    StoreAway,
    StoreBack,
    StreamBroken,
    Woken,
)
from bridge.engine.node import Node
from bridge.errors import BridgeError, StoreUnavailable
from bridge.outbox.effects import Delivery
from bridge.outbox.schedule import Outcome
from bridge.pump import GRAIN_S, Pump
from bridge.rtp.rules import Rule
from bridge.sip.flow import Flow, Send
from bridge.telemetry.flood import LINES_PER_SECOND
from bridge.telemetry.metrics import Metrics

CALL = CallId("call_a")
FLOW = Flow("udp", "udp:5060", "192.0.2.1", 5062)
COMMIT = Commit(1, ConversationId("conv_a"), 1, "m", 1, "n1:a", b"{}")
RULE = Rule("192.0.2.1", 4000, ("192.0.2.1",), "strict", False, (0,), None, 8000, 1, False)
NOTHING = Committed(0)


class Script:
    """A node that does as the test says: an input's effects, an exception, what it has to write, a deadline."""

    def __init__(self) -> None:
        self.effects: Callable[[Input], list[Effect]] = lambda _: []
        self.changed: list[Effect | Exception] = []
        self.given: list[Input] = []
        self.times: list[float] = []
        self.wanted: float | None = None

    def take(self, given: Input, *, now: float) -> list[Effect]:
        self.given.append(given)
        self.times.append(now)
        return self.effects(given)

    @property
    def unwritten(self) -> bool:
        return bool(self.changed)

    def write(self) -> list[Effect]:
        written: list[Effect] = []
        while self.changed:
            change = self.changed.pop(0)
            if isinstance(change, Exception):
                raise change
            written.append(change)
        return written

    def deadline(self) -> float | None:
        return self.wanted


class Outlet:
    """Every adapter in one: remembers in order what it was asked to carry out."""

    def __init__(self) -> None:
        self.carried: list[Any] = []
        self.on: Callable[[Any], None] = lambda _: None

    def take(self, what: Any) -> None:
        self.on(what)
        self.carried.append(what)

    send = commit = acknowledge = postpone = release = take
    read_bindings = write_registration = forget_events = deregistered = take
    open_ports = set_rule = close_ports = reconcile = resolve = take_place = leave_place = take


class Timer:
    """What `call_later` gives."""

    def __init__(self, delay: float, wake: Callable[[], None]) -> None:
        self.delay = delay
        self.wake = wake
        self.canceled = False

    def cancel(self) -> None:
        self.canceled = True


class Bench:
    """A pump, a scripted node, outlets, a clock that is a number and an event loop's timers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        self.node = Script()
        self.outlet = Outlet()
        self.metrics = Metrics()
        self.timers: list[Timer] = []
        self.pump = Pump(clock=self, metrics=self.metrics)
        self.pump.connect(
            cast(Node, self.node),
            listeners={"udp:5060": self.outlet},
            store=self.outlet,
            media=self.outlet,
            webhooks=self.outlet,
            names=self.outlet,
            registrations=self.outlet,
            trunks=self.outlet,
        )
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def now(self) -> float:
        return self.time

    def _call_later(self, delay: float, wake: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, wake))
        return self.timers[-1]

    def causes(self, *effects: Effect) -> None:
        """The next inputs cause these."""
        self.node.effects = lambda _: list(effects)

    def counted(self, sample: str) -> float:
        """One sample of the exposition."""
        _, text = self.metrics.exposition()
        found = [line for line in text.decode().splitlines() if line.startswith(sample + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(asyncio.get_running_loop(), monkeypatch)


def delivery(*, decision: bool = False, endpoint: str = "desk", number: int = 7) -> Delivery:
    return Delivery(
        number, endpoint, "http://app/calls", "evt_1", "call.answered", CALL, 2, b"{}", 1, 10.0, decision=decision
    )


REFUSED = Outcome(None, "refused", None, 0.01, detail="Connection refused")


class TestCarrying:
    async def test_effects_are_carried_out_in_their_order_each_by_its_adapter(self, bench: Bench) -> None:
        send, opened, ruled, closed = (
            Send(FLOW, b"SIP/2.0 200 OK"),
            OpenPorts(CALL, CALL),
            SetRule(CALL, RULE),
            ClosePorts(CALL),
        )
        ack, later, over = Ack(CALL, "desk", 1), Postponed(CALL, "desk", 1, 1, 5), Release(COMMIT.conversation, (), "n")
        posted = delivery()
        adopted = {str(CALL): HeldPorts(20000, RULE)}
        bench.causes(
            *(opened, COMMIT, send, ruled, Acknowledge((ack,)), Postpone(later), Release(COMMIT.conversation, (), "n")),
            *(Deliver(posted), closed, AdoptPorts(adopted)),
        )
        bench.pump.give(NOTHING)
        assert bench.outlet.carried == [opened, COMMIT, send, ruled, (ack,), later, over, posted, closed, adopted]

    async def test_every_effect_has_somebody_who_carries_it_out(self, bench: Bench) -> None:
        assert set(bench.pump._carry) == set(get_args(Effect))

    async def test_a_packet_is_counted_as_it_comes_and_as_it_leaves(self, bench: Bench) -> None:
        bench.causes(Send(FLOW, b"SIP/2.0 200 OK\r\nCSeq: 1 BYE\r\n\r\n"))
        bench.pump.packet(Packet(b"BYE sip:a@b SIP/2.0\r\n", FLOW))
        assert bench.counted('bridge_sip_messages_total{code_class="request",direction="in",method="BYE"}') == 1
        assert bench.counted('bridge_sip_messages_total{code_class="2xx",direction="out",method="BYE"}') == 1

    async def test_what_a_connection_brings_is_counted_and_what_it_costs_is_too(self, bench: Bench) -> None:
        for given in (
            Packet(b"ACK sip:a@b SIP/2.0\r\n", FLOW),
            StreamBroken(b"x", FLOW, "Not SIP", 400),
            FlowLost(FLOW),
        ):
            bench.pump.stream(given)
            assert bench.node.given[-1] == given
        assert bench.counted('bridge_sip_messages_total{code_class="request",direction="in",method="ACK"}') == 1
        bench.pump.dropped("connections_full", FLOW)
        assert bench.counted('bridge_dropped_total{reason="connections_full"}') == 1

    async def test_time_is_the_clock_s_at_each_input(self, bench: Bench) -> None:
        bench.pump.give(NOTHING)
        bench.time += 1.5
        bench.pump.give(NOTHING)
        assert bench.node.times == [1000.0, 1001.5]


class TestWriting:
    async def test_what_the_inputs_of_a_turn_have_changed_is_written_at_its_end(self, bench: Bench) -> None:
        later = COMMIT._replace(ticket=2)
        bench.node.changed = [COMMIT]
        bench.pump.give(NOTHING)
        bench.node.changed.append(later)
        bench.pump.give(NOTHING)
        assert bench.outlet.carried == []
        await asyncio.sleep(0)
        assert bench.outlet.carried == [COMMIT, later]

    async def test_where_nothing_has_changed_nothing_is_asked(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[None] = []
        monkeypatch.setattr(bench.node, "write", lambda: asked.append(None) or [])
        bench.pump.give(NOTHING)
        await asyncio.sleep(0)
        assert asked == []

    async def test_a_store_that_answers_at_once_is_heard_after_all_writes(self, bench: Bench) -> None:
        later = COMMIT._replace(ticket=2)
        bench.node.changed = [COMMIT, later]
        bench.outlet.on = lambda what: bench.pump.give(Committed(what.ticket))
        bench.pump.give(NOTHING)
        seen: list[int] = []
        bench.node.effects = lambda _: seen.append(len(bench.outlet.carried)) or []
        await asyncio.sleep(0)
        assert bench.node.given == [NOTHING, Committed(1), Committed(2)]
        assert seen == [2, 2]

    async def test_a_fault_in_one_write_does_not_stop_the_others(self, bench: Bench) -> None:
        bench.node.changed = [ValueError("no such phase"), COMMIT]
        bench.pump.give(NOTHING)
        with capture_logs() as lines:
            await asyncio.sleep(0)
        assert bench.outlet.carried == [COMMIT]
        assert [(line["event"], line["about"]) for line in lines] == [("fault", "write")]

    async def test_it_is_not_closed_with_something_unwritten(self, bench: Bench) -> None:
        bench.node.changed = [COMMIT]
        bench.pump.give(NOTHING)
        bench.pump.close()
        assert bench.outlet.carried == [COMMIT]
        bench.node.changed = [COMMIT]
        await asyncio.sleep(0)
        assert bench.outlet.carried == [COMMIT]


class TestReEntrance:
    async def test_an_answer_from_within_an_effect_is_heard_after_all_effects_of_this_input(self, bench: Bench) -> None:
        opened, first, last = PortsOpened(CALL, "192.0.2.10", 20000), OpenPorts(CALL, CALL), ClosePorts(CALL)
        seen: list[int] = []

        def step(given: Input) -> list[Effect]:
            seen.append(len(bench.outlet.carried))
            return [first, last] if given is NOTHING else []

        bench.node.effects = step
        bench.outlet.on = lambda what: bench.pump.give(opened) if what is first else None
        bench.pump.give(NOTHING)
        assert bench.node.given == [NOTHING, opened]
        assert seen == [0, 2]  # both effects had been carried out when the answer was heard

    async def test_what_is_given_from_within_comes_before_what_is_given_next(self, bench: Bench) -> None:
        bench.node.effects = lambda given: [COMMIT] if given == Committed(1) else []

        def answer(_: Any) -> None:
            bench.pump.give(Committed(2))
            bench.pump.give(Committed(3))

        bench.outlet.on = answer
        bench.pump.give(Committed(1))
        bench.pump.give(Committed(4))
        assert bench.node.given == [Committed(1), Committed(2), Committed(3), Committed(4)]


class TestTimer:
    async def test_there_is_none_without_a_deadline(self, bench: Bench) -> None:
        bench.pump.give(NOTHING)
        assert bench.timers == []

    async def test_it_is_set_to_the_deadline_and_wakes_the_node(self, bench: Bench) -> None:
        bench.node.wanted = 1000.5
        bench.pump.give(NOTHING)
        (timer,) = bench.timers
        assert timer.delay == pytest.approx(0.5)
        bench.time, bench.node.wanted = 1000.5, None
        timer.wake()
        assert bench.node.given[-1] == Woken()
        assert len(bench.timers) == 1

    async def test_an_earlier_deadline_replaces_it(self, bench: Bench) -> None:
        for wanted in (1002.0, 1000.1):
            bench.node.wanted = wanted
            bench.pump.give(NOTHING)
        assert [timer.canceled for timer in bench.timers] == [True, False]
        assert bench.timers[-1].delay == pytest.approx(0.1)

    async def test_a_later_deadline_leaves_it_and_it_looks_again_when_it_wakes(self, bench: Bench) -> None:
        for wanted in (1000.1, 1002.0):
            bench.node.wanted = wanted
            bench.pump.give(NOTHING)
        (timer,) = bench.timers
        assert not timer.canceled
        bench.time = 1000.1
        timer.wake()
        assert bench.timers[-1].delay == pytest.approx(1.9)

    async def test_a_deadline_that_has_passed_wakes_at_once(self, bench: Bench) -> None:
        bench.node.wanted = 990.0
        bench.pump.give(NOTHING)
        assert bench.timers[-1].delay == 0.0

    async def test_it_wakes_the_node_at_most_once_in_a_while_however_many_deadlines_there_are(
        self, bench: Bench
    ) -> None:
        bench.node.wanted = 1000.0
        bench.pump.give(NOTHING)
        bench.node.wanted = 1000.001
        bench.timers[-1].wake()
        assert bench.timers[-1].delay == pytest.approx(GRAIN_S)

    async def test_one_that_wakes_in_a_moment_is_soon_enough_for_everything(self, bench: Bench) -> None:
        for wanted in (1000.0 + GRAIN_S, 1000.0 + GRAIN_S / 2):
            bench.node.wanted = wanted
            bench.pump.give(NOTHING)
        (timer,) = bench.timers
        assert not timer.canceled

    async def test_it_is_set_once_after_everything_an_input_causes(self, bench: Bench) -> None:
        bench.node.wanted = 1001.0
        bench.node.effects = lambda given: [COMMIT] if given is NOTHING else []
        bench.outlet.on = lambda _: bench.pump.give(Committed(1))
        bench.pump.give(NOTHING)
        assert len(bench.timers) == 1


class TestFaults:
    async def test_a_fault_in_one_input_does_not_stop_the_next_and_its_timers(self, bench: Bench) -> None:
        def step(given: Input) -> list[Effect]:
            if given == Committed(1):
                raise KeyError("no such call")
            return [COMMIT]

        bench.node.effects = step
        bench.node.wanted = 1001.0
        with capture_logs() as lines:
            bench.pump.give(Committed(1))
            bench.pump.give(Committed(2))
        assert bench.outlet.carried == [COMMIT]
        assert len(bench.timers) == 1
        (line,) = lines
        assert (line["event"], line["log_level"], line["about"]) == ("fault", "error", "Committed")
        assert line["exc_info"]
        assert bench.counted('bridge_dropped_total{reason="fault"}') == 1

    async def test_a_fault_in_one_effect_does_not_stop_those_behind_it(self, bench: Bench) -> None:
        bench.causes(OpenPorts(CALL, CALL), COMMIT)

        def refuse(what: Any) -> None:
            if isinstance(what, OpenPorts):
                raise RuntimeError("out of order")

        bench.outlet.on = refuse
        with capture_logs() as lines:
            bench.pump.give(NOTHING)
        assert bench.outlet.carried == [COMMIT]
        assert [(line["event"], line["about"], line["call"]) for line in lines] == [("fault", "OpenPorts", CALL)]

    async def test_a_listener_that_is_not_there_any_more_is_a_fault_too(self, bench: Bench) -> None:
        bench.causes(Send(FLOW._replace(listener="udp:gone"), b""), COMMIT)
        with capture_logs() as lines:
            bench.pump.give(NOTHING)
        assert bench.outlet.carried == [COMMIT]
        assert [line["about"] for line in lines] == ["Send"]

    async def test_a_fault_in_every_packet_does_not_flood_the_log_and_is_counted_all_the_same(
        self, bench: Bench
    ) -> None:
        def fail(_: Input) -> list[Effect]:
            raise ValueError

        bench.node.effects = fail
        with capture_logs() as lines:
            for _ in range(3 * LINES_PER_SECOND):
                bench.pump.give(NOTHING)
            bench.time += 1.0
            bench.pump.give(NOTHING)
        assert len(lines) == LINES_PER_SECOND + 1
        assert lines[-1]["withheld_before"] == 2 * LINES_PER_SECOND
        assert bench.counted('bridge_dropped_total{reason="fault"}') == 3 * LINES_PER_SECOND + 1

    async def test_strangers_cannot_flood_the_log_and_a_call_s_own_lines_are_all_written(self, bench: Bench) -> None:
        with capture_logs() as lines:
            bench.causes(Noted("warning", "call_turned_away", None, (("why", "Draining"),)))
            for _ in range(3 * LINES_PER_SECOND):
                bench.pump.give(NOTHING)
            bench.time += 1.0
            bench.pump.give(NOTHING)
            bench.causes(Noted("warning", "decision_failed", CALL))
            for _ in range(2 * LINES_PER_SECOND):
                bench.pump.give(NOTHING)
        turned_away = [line for line in lines if line["event"] == "call_turned_away"]
        assert len(turned_away) == LINES_PER_SECOND + 1
        assert turned_away[-1]["withheld_before"] == 2 * LINES_PER_SECOND
        assert len(lines) - len(turned_away) == 2 * LINES_PER_SECOND


class TestWebhooks:
    async def test_a_decision_s_reply_is_read_and_goes_with_its_outcome(self, bench: Bench) -> None:
        outcome = Outcome(200, None, None, 0.01, b'{"actions": [{"action": "dance"}]}', "", "application/json")
        bench.pump.delivered(delivery(decision=True), outcome)
        (given,) = bench.node.given
        assert isinstance(given, Delivered)
        assert (given.delivery, given.outcome) == (7, outcome)
        assert isinstance(given.reply, InvalidReply)

    @pytest.mark.parametrize(
        "outcome", [Outcome(500, None, None, 0.01, b"{}"), Outcome(200, "too_large", None, 0.01), REFUSED]
    )
    async def test_a_decision_without_a_whole_2xx_has_no_reply_and_is_told_by_the_engine(
        self, bench: Bench, outcome: Outcome
    ) -> None:
        with capture_logs() as lines:
            bench.pump.delivered(delivery(decision=True), outcome)
        assert bench.node.given == [Delivered(7, outcome, None)]
        assert lines == []

    async def test_a_failed_notification_is_one_line_that_says_what_to_do(self, bench: Bench) -> None:
        with capture_logs() as lines:
            bench.pump.delivered(delivery(), REFUSED)
        assert lines == [
            {
                "event": "webhook_failed",
                "log_level": "warning",
                "call": CALL,
                "type": "call.answered",
                "endpoint": "desk",
                "attempt": 1,
                "advice": "nothing listens at http://app. Is the application running there? (Connection refused).",
            }
        ]
        assert bench.counted('bridge_webhook_attempts_total{outcome="refused"}') == 1

    async def test_one_that_is_taken_says_nothing(self, bench: Bench) -> None:
        with capture_logs() as lines:
            bench.pump.delivered(delivery(), Outcome(204, None, None, 0.01))
        assert lines == []
        assert bench.counted('bridge_webhook_attempts_total{outcome="2xx"}') == 1

    async def test_an_endpoint_that_is_down_neither_floods_the_log_nor_hides_another(self, bench: Bench) -> None:
        with capture_logs() as lines:
            for _ in range(2 * LINES_PER_SECOND):
                bench.pump.delivered(delivery(), REFUSED)
            bench.pump.delivered(delivery(endpoint="billing"), REFUSED)
            bench.time += 1.0
            bench.pump.delivered(delivery(), REFUSED)
        assert [line["endpoint"] for line in lines] == ["desk"] * LINES_PER_SECOND + ["billing", "desk"]
        assert lines[-1]["withheld_before"] == LINES_PER_SECOND
        assert len(bench.node.given) == 2 * LINES_PER_SECOND + 2


class TestNotes:
    async def test_what_the_engine_tells_is_logged_with_its_call_and_counted(self, bench: Bench) -> None:
        bench.causes(
            Noted("info", "call_answered", CALL, (("ring_s", 1.2),)),
            Noted("info", "call_ended", CALL, (("by", "remote"), ("reason", "busy"))),
            Dropped("malformed", FLOW, "no CSeq"),
        )
        with capture_logs() as lines:
            bench.pump.give(NOTHING)
        assert [(line["event"], line.get("call")) for line in lines[:2]] == [
            ("call_answered", CALL),
            ("call_ended", CALL),
        ]
        assert bench.counted("bridge_setup_seconds_count") == 1
        assert bench.counted("bridge_setup_seconds_sum") == pytest.approx(1.2)
        assert bench.counted('bridge_calls_ended_total{reason="busy"}') == 1
        assert bench.counted('bridge_dropped_total{reason="malformed"}') == 1

    async def test_what_is_below_the_log_s_level_is_counted_and_not_written(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bench.pump, "_level", 30)
        bench.causes(Noted("info", "call_ended", CALL, (("reason", "busy"),)), Noted("warning", "odd", CALL))
        with capture_logs() as lines:
            bench.pump.give(NOTHING)
        assert [line["event"] for line in lines] == ["odd"]
        assert bench.counted('bridge_calls_ended_total{reason="busy"}') == 1

    async def test_the_store_s_absence_and_return_are_told_and_passed_on(self, bench: Bench) -> None:
        with capture_logs() as lines:
            for given in (StoreAway(), StoreBack(), Committed(3)):
                bench.pump.store(given)
        assert [(line["event"], line["log_level"]) for line in lines] == [
            ("store_away", "error"),
            ("store_back", "warning"),
        ]
        assert bench.node.given == [StoreAway(), StoreBack(), Committed(3)]


def originate(request: int) -> Originate:
    return Originate(
        request=request,
        call=CALL,
        application="desk",
        to=(Target("sip:b@example.org"),),
        from_=None,
        timeout_s=60.0,
        max_duration_s=None,
        fork="parallel",
        on_redirect="follow",
        client_state=None,
        tags=(),
        conversation=None,
        actions=(),
        claim=None,
    )


class TestAsked:
    @pytest.mark.parametrize("answer", [CommandAccepted(5, ()), CommandRefused(5, "not_found", "no such call")])
    async def test_a_command_is_answered_at_once(self, bench: Bench, answer: CommandAccepted | CommandRefused) -> None:
        bench.causes(answer)
        assert await bench.pump.ask(Command(5, CALL, (), False)) is answer

    async def test_what_has_to_be_stored_is_answered_when_it_is(self, bench: Bench) -> None:
        answers = {1: Originated(8, CALL, b"{}"), 2: OriginateRefused(7, "overload", "full")}
        bench.node.effects = lambda given: [answers[given.ticket]] if isinstance(given, Committed) else []
        asked = [asyncio.ensure_future(bench.pump.ask(originate(request))) for request in (7, 8)]
        await asyncio.sleep(0)
        assert bench.node.given == [originate(7), originate(8)]
        assert not any(each.done() for each in asked)
        bench.pump.give(Committed(1))
        assert await asked[1] is answers[1]
        assert not asked[0].done()
        bench.pump.give(Committed(2))
        assert await asked[0] is answers[2]

    async def test_an_answer_that_comes_too_late_is_nobody_s(self, bench: Bench) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await bench.pump.ask(originate(7))
        bench.causes(Originated(7, CALL, b"{}"))
        with capture_logs() as lines:
            bench.pump.give(NOTHING)
        assert lines == []
        assert await bench.pump.ask(originate(7)) == Originated(7, CALL, b"{}")  # nothing is left of the first

    async def test_one_whose_step_fails_does_not_wait(self, bench: Bench) -> None:
        def fail(_: Input) -> list[Effect]:
            raise KeyError("no such call")

        bench.node.effects = fail
        for asked in (Command(5, CALL, (), False), originate(6)):
            with capture_logs() as lines, pytest.raises(BridgeError):
                await bench.pump.ask(asked)
            assert [line["about"] for line in lines] == [type(asked).__name__]


class TestClosed:
    async def test_nothing_is_heard_any_more_and_nothing_wakes(self, bench: Bench) -> None:
        bench.node.wanted = 1001.0
        bench.pump.give(NOTHING)
        bench.pump.close()
        with capture_logs() as lines:
            bench.pump.give(Committed(1))
            bench.pump.packet(Packet(b"OPTIONS", FLOW))
            bench.pump.delivered(delivery(), Outcome(None, "canceled", None, 0.0))
        assert bench.node.given == [NOTHING]
        assert [timer.canceled for timer in bench.timers] == [True]
        assert lines == []

    async def test_what_is_asked_is_for_somebody_else(self, bench: Bench) -> None:
        waiting = asyncio.ensure_future(bench.pump.ask(originate(5)))
        await asyncio.sleep(0)
        bench.pump.close()
        with pytest.raises(StoreUnavailable):
            await waiting
        with pytest.raises(StoreUnavailable):
            await bench.pump.ask(Command(6, CALL, (), False))
        assert bench.node.given == [originate(5)]
