"""What waits for which write."""

from __future__ import annotations

from bridge.calls.effects import Accept, Respond
from bridge.calls.facts import CallId
from bridge.engine.gate import Answering, Concluded, Created, Gate
from bridge.sip.message import Response
from bridge.sip.transaction import TransactionKey

CALL, OTHER = CallId("call_1"), CallId("call_2")
KEY = TransactionKey("branch", "host", "INVITE")
REFUSAL = Respond(KEY, Response(486, "Busy Here"), gated=True)


def test_what_waits_leaves_with_its_own_write_and_not_before() -> None:
    gate = Gate()
    gate.wait(1, [Created(CALL)])
    gate.wait(2, [Concluded(CALL)])
    assert gate.open(1) == [Created(CALL)]
    assert gate.open(2) == [Concluded(CALL)]
    assert len(gate) == 0


def test_an_acknowledgement_covers_every_write_before_it() -> None:
    gate = Gate()
    gate.wait(1, [Created(CALL)])
    gate.wait(2, [Concluded(CALL)])
    assert gate.open(2) == [Created(CALL), Concluded(CALL)]


def test_a_late_acknowledgement_opens_nothing() -> None:
    gate = Gate()
    gate.wait(2, [Created(CALL)])
    assert gate.open(1) == []
    assert gate.tickets() == [2]


def test_a_rewrite_takes_over_all_that_waits_in_its_order() -> None:
    gate = Gate()
    gate.wait(1, [Created(CALL)])
    gate.wait(2, [Concluded(CALL)])
    gate.rewrite(3)
    assert gate.tickets() == [3]
    assert gate.open(2) == []
    assert gate.open(3) == [Created(CALL), Concluded(CALL)]


def test_only_the_refusals_of_that_call_can_be_taken_out() -> None:
    gate = Gate()
    accept = Answering(CALL, Accept(KEY, Response(200, "OK")))
    gate.wait(1, [accept, Answering(CALL, REFUSAL), Answering(OTHER, REFUSAL)])
    assert gate.take_refusals(CALL) == [REFUSAL]
    assert gate.open(1) == [accept, Answering(OTHER, REFUSAL)]
