"""Whether the simulation finds what it is for: bugs are planted, and some invariant has to see each of them.

A planted bug is what a node does instead of what its engine says, from its first moment on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from bridge.calls.facts import ActionId, CallId
from bridge.engine.commit import Commit
from bridge.engine.effects import ClosePorts, CommandAccepted, Deliver, Effect, SetRule, Yielded, YieldRefused
from bridge.engine.holdings import NodeTimer
from bridge.engine.inputs import (
    Claimed,
    Command,
    Committed,
    Delivered,
    Input,
    MediaTimedOut,
    Packet,
    PortsClosed,
    Yield,
)
from bridge.outbox.schedule import Outcome
from bridge.sip.flow import Send
from tests.sim.process import Give, Mischief, Process
from tests.sim.scenario import run
from tests.sim.world import DRAINS_FROM, REGISTERING_FROM

SEEDS = 25  # within which each has to be found
OK = Outcome(200, None, None, 0.01)


def _without(unwanted: Callable[[Effect], bool]) -> Mischief:
    """A node that leaves some effects out."""
    return lambda process, given, give: [effect for effect in give(given) if not unwanted(effect)]


def _is_answer_to_bye(effect: Effect) -> bool:
    return isinstance(effect, Send) and effect.data.startswith(b"SIP/2.0 200") and b" BYE\r\n" in effect.data


def _is_ack(effect: Effect) -> bool:
    return isinstance(effect, Send) and effect.data.startswith(b"ACK ")


def _is_bye(effect: Effect) -> bool:
    return isinstance(effect, Send) and effect.data.startswith(b"BYE ")


def _tells(effect: Effect, event_type: str) -> bool:
    return isinstance(effect, Deliver) and effect.delivery.event_type == event_type


def _losing(event_type: str) -> Mischief:
    """An outbox that believes to have delivered what it has not."""

    def mischief(process: Process, given: Input | None, give: Give) -> list[Effect]:
        effects = give(given)
        for effect in effects:
            if isinstance(effect, Deliver) and _tells(effect, event_type):
                process._clock.later(0.0, partial(process.give, Delivered(effect.delivery.delivery, OK)))
        return [effect for effect in effects if not _tells(effect, event_type)]

    return mischief


def doubles_an_event(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """An outbox that renders an event anew for each attempt."""
    effects = give(given)
    for effect in effects:
        if isinstance(effect, Deliver) and _tells(effect, "call.ended"):
            body = json.loads(effect.delivery.body) | {"id": "evt_another"}
            process._post(process, effect.delivery._replace(body=json.dumps(body).encode()), lambda _: None)
    return effects


def delivers_out_of_order(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """An outbox that does not wait for an attempt to be over before the next event leaves."""
    kept = []
    for effect in give(given):
        if isinstance(effect, Deliver) and _tells(effect, "call.answered"):
            later = effect.delivery
            process._clock.later(40.0, partial(process._post, process, later, lambda _: None))
            process._clock.later(0.0, partial(process.give, Delivered(later.delivery, OK)))
        else:
            kept.append(effect)
    return kept


def leaks_a_timer(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A deadline that is armed for a call when it is forgotten already."""
    effects = give(given)
    if isinstance(given, PortsClosed):
        call = CallId(f"{given.session}, gone")
        process.node._holdings.agenda.arm((call, NodeTimer.AUDIT), process._clock.now() + 1e6)
    return effects


def leaks_ports(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A node that does not tell its workers when a call is over."""
    effects = give(given)
    for effect in effects:
        if isinstance(effect, ClosePorts):
            process._clock.later(0.0, partial(process.give, PortsClosed(effect.session, None)))
    return [effect for effect in effects if not isinstance(effect, ClosePorts)]


def ignores_the_key(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A write that claims no Idempotency-Key."""
    return [effect._replace(claim=None) if isinstance(effect, Commit) else effect for effect in give(given)]


def writes_in_vain(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A store that acknowledges what it has not written."""
    effects = give(given)
    for effect in effects:
        if isinstance(effect, Commit) and not effect.endings:
            process._clock.later(0.001, partial(process.give, Committed(effect.ticket)))
    return [effect for effect in effects if not isinstance(effect, Commit) or effect.endings]


def joins_nobody(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """Calls that are joined, and do not hear each other."""
    return [
        SetRule(effect.session, replace(effect.rule, relay_to=None)) if isinstance(effect, SetRule) else effect
        for effect in give(given)
    ]


def promises_too_much(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A command that is accepted, and not carried out."""
    if not isinstance(given, Command):
        return give(given)
    names = [ActionId(f"act_{given.request}_{number}") for number in range(len(given.actions))]
    return [CommandAccepted(given.request, tuple(names))]


def raises(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A step that one input breaks."""
    if isinstance(given, PortsClosed):
        raise LookupError("planted")
    return give(given)


def forgets_the_end(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A final record that is never written."""
    return [effect._replace(endings=()) if isinstance(effect, Commit) else effect for effect in give(given)]


def stays_in_the_call(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A BYE that is answered, and forgotten; nor does silence end the call."""
    if isinstance(given, MediaTimedOut):
        return []
    if isinstance(given, Packet) and given.data.startswith(b"BYE "):
        answer = b"SIP/2.0 200 OK\r\n" + given.data.partition(b"\r\n")[2]
        return [Send(given.flow, answer)]
    return give(given)


def leaves_without_a_word(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A call that ends without a BYE, and whose media plays on."""
    effects = give(given)
    for effect in effects:
        if isinstance(effect, ClosePorts):
            process._clock.later(0.0, partial(process.give, PortsClosed(effect.session, None)))
    return [each for each in effects if not isinstance(each, ClosePorts) and not _is_bye(each)]


def takes_what_is_not_its() -> Mischief:
    """A node that claims what another one carries, and is alive."""
    victims: list[Process] = []

    def mischief(process: Process, given: Input | None, give: Give) -> list[Effect]:
        if process.name == "n1" and not victims and isinstance(given, Committed):
            victims.append(process)
        if process.name == "n2" and victims and victims[0] is not process:
            stolen = process._store.keyspace.claim_predecessors("n1:thief", "thief")
            victims[0] = process  # once is enough
            process._clock.later(0.0, partial(process.give, Claimed(tuple(stolen))))
        return give(given)

    return mischief


def keeps_what_it_hands_over(process: Process, given: Input | None, give: Give) -> list[Effect]:
    """A conversation that goes to another node, and is carried on here."""
    if not isinstance(given, Yield):
        return give(given)
    held = process.node.conversation(given.conversation)
    if held is None or held.unwritten is not None or held.gate.tickets():
        return [YieldRefused(given.request, "busy")]
    return [Yielded(given.request, held.id, held.epoch, held.nonce, held.version, tuple(held.legs), held.snapshot)]


PLANTED: dict[str, tuple[Callable[[], Mischief], str]] = {
    "drops the 200 to a BYE": (lambda: _without(_is_answer_to_bye), "BYE .* was never answered"),
    "drops the ACK": (lambda: _without(_is_ack), "was never acknowledged"),
    "loses an event": (lambda: _losing("call.answered"), "never got .* of call_"),
    "loses an event of a registration": (lambda: _losing("registration.created"), "never got .* of aor:"),
    "doubles an event": (lambda: doubles_an_event, "two different"),
    "delivers out of order": (lambda: delivers_out_of_order, "after #"),
    "leaks a timer": (lambda: leaks_a_timer, "timers left"),
    "leaks ports": (lambda: leaks_ports, "ports left"),
    "ignores the key": (lambda: ignores_the_key, "key. made"),
    "writes in vain": (lambda: writes_in_vain, "at its node, and .* in the store|is not in the store"),
    "joins nobody": (lambda: joins_nobody, "is joined with"),
    "promises too much": (lambda: promises_too_much, "nothing was told of act_"),
    "raises": (lambda: raises, "LookupError: planted"),
    "forgets the end": (lambda: forgets_the_end, "no final record"),
    "stays in the call": (lambda: stays_in_the_call, "is answered at its node, and no phone is in"),
    "leaves without a word": (lambda: leaves_without_a_word, "of which no node knows"),
    "takes what is not its": (takes_what_is_not_its, "both carry"),
    "keeps what it hands over": (lambda: keeps_what_it_hands_over, "both carry"),
}
HANDING_OVER = ("keeps what it hands over",)  # what only a node that is told to end does


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    plant, sentence = PLANTED[bug]
    first = DRAINS_FROM if bug in HANDING_OVER else REGISTERING_FROM
    for seed in range(first, first + SEEDS):
        violations = run(seed, mischief=plant()).violations
        if any(_matches(sentence, violation) for violation in violations):
            return
    pytest.fail(f"{SEEDS} seeds have not found that a node {bug}")


def _matches(sentence: str, violation: str) -> bool:
    return re.search(sentence, violation, re.DOTALL) is not None
