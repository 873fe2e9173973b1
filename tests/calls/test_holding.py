"""Re-INVITEs of the far end, one step at a time. Whole walks stand in tests/engine/test_holding.py."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Hangup
from bridge.calls.effects import Accept, Respond, SetMedia
from bridge.calls.events import CallHeld, CallResumed, CallUpdated
from bridge.calls.inputs import AcceptSent
from bridge.calls.streams import rule_of
from tests.calls.bench import STATES, Bench, answered
from tests.engine.world import OFFER, UNUSABLE, sdp


def changed(bench: Bench, body: str | None, sequence: int) -> list[type]:
    """The events that such a re-INVITE causes."""
    before = len(bench.events)
    bench.reinvite(body, sequence=sequence)
    bench.give(AcceptSent())
    bench.ack(sequence=sequence)
    return [type(event) for event in bench.events[before:]]


def test_what_a_new_description_means() -> None:
    bench = answered()
    assert changed(bench, OFFER, 2) == []
    assert changed(bench, sdp(direction="sendonly"), 3) == [CallHeld]
    assert changed(bench, sdp(direction="inactive"), 4) == [CallUpdated]
    assert changed(bench, sdp(5000), 5) == [CallResumed]
    assert changed(bench, sdp(5000, formats="8"), 6) == [CallUpdated]


def test_the_worker_is_told_with_a_generation_of_its_own() -> None:
    bench = answered()
    assert [effect for effect in bench.reinvite(sdp(5000)) if isinstance(effect, SetMedia)]
    rule = rule_of(bench.call)
    assert (rule.remote_port, rule.generation) == (5000, 1)


@pytest.mark.parametrize(("body", "status"), [(UNUSABLE, 488), ("nonsense", 400)])
def test_what_cannot_be_met_is_refused_and_changes_nothing(body: str, status: int) -> None:
    bench = answered()
    before = (bench.call.local_sdp, bench.call.negotiated, bench.call.sdp_version)
    effects = bench.reinvite(body)
    assert [type(effect) for effect in effects] == [Respond]
    assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [status]
    assert (bench.call.local_sdp, bench.call.negotiated, bench.call.sdp_version) == before


@pytest.mark.parametrize("state", [name for name in STATES if name not in ("answered", "timed", "held", "moved")])
def test_in_every_other_state_it_is_refused_rather_than_forgotten(state: str) -> None:
    effects = STATES[state]().reinvite()
    assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [491]
    assert [effect for effect in effects if isinstance(effect, Accept)] == []


def test_the_end_answers_what_is_still_pending() -> None:
    bench = answered()
    bench.reinvite()
    effects = bench.command(Hangup())
    assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [487]


def test_the_end_answers_nothing_twice() -> None:
    bench = answered()
    bench.reinvite()
    bench.give(AcceptSent())
    effects = bench.command(Hangup())
    assert [effect for effect in effects if isinstance(effect, Respond)] == []


def test_an_ack_of_another_invite_is_not_the_answer_to_ours() -> None:
    bench = answered()
    bench.reinvite(None, sequence=3)
    bench.give(AcceptSent())
    assert bench.ack(sequence=2) == []
    assert bench.call.reinvite is not None
