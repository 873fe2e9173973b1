"""Carries out what a step of a call asks: some of it at once, the rest when the write it depends on is acknowledged.

The rule of architecture §5 in one place: a step that changes stored state becomes one `Commit`; what must not be seen
before it is stored waits at the conversation's gate.
"""

from __future__ import annotations

from bridge.calls import machine, snapshot
from bridge.calls.call import Phase
from bridge.calls.effects import (
    Accept,
    ActionsAccepted,
    ActionsRefused,
    ArmTimer,
    CallEffect,
    CallTimer,
    CloseMedia,
    DisarmAll,
    DisarmTimer,
    Emit,
    Finished,
    OpenMedia,
    Respond,
    SendRequest,
    SetMedia,
)
from bridge.calls.events import CallAnswered, CallEnded
from bridge.calls.inputs import AcceptSent, CallInput, EventsExhausted
from bridge.engine.commit import Ack, CallWrite, Commit, Ending, EventWrite
from bridge.engine.effects import ClosePorts, CommandAccepted, CommandRefused, Noted, OpenPorts, SetRule
from bridge.engine.gate import Answering, Concluded, Created, Publish, Waiting
from bridge.engine.holdings import Holding, Holdings, Leg, NodeTimer
from bridge.engine.routing import next_hop, without_connection
from bridge.errors import LocalProtocolError
from bridge.sip.endpoint import Outcome, TransactionEnded, response_flow
from bridge.sip.flow import Send
from bridge.sip.invite_usage import Answered, ArmUsage, Declined, DisarmUsage, UsageEffects, UsageTimer
from bridge.sip.message import Response
from bridge.sip.transaction import State, TransactionKey
from bridge.sip.user_agent import respond, via_value

_LATE_TIMERS: tuple[CallTimer | UsageTimer | NodeTimer, ...] = (*UsageTimer, *NodeTimer)  # of an ended call
_TIMERS = (*CallTimer, *_LATE_TIMERS)


def step(holdings: Holdings, leg: Leg, given: CallInput, *, now: float, request: int | None = None) -> None:
    """Let something happen to a call, and see everything through that it causes.

    `request` is the number of the REST command that this is, if it is one.
    """
    call = leg.call
    carry(holdings, leg, machine.step(call, given, now=now), now=now, request=request)
    if call.sequence >= holdings.settings.max_events_per_call and not call.is_over:
        carry(holdings, leg, machine.step(call, EventsExhausted(), now=now), now=now)


def carry(
    holdings: Holdings,
    leg: Leg,
    effects: list[CallEffect],
    *,
    now: float,
    request: int | None = None,
    first: tuple[Waiting, ...] = (),
) -> None:
    """Carry out a step's effects. `first`: what else waits for the write that this step makes."""
    write = False
    waiting: list[Waiting] = [*first]
    events: list[EventWrite] = []
    endings: list[Ending] = []
    call = leg.call
    for effect in effects:
        match effect:
            case Emit(event, caused_by):
                call.sequence += 1
                event_id = holdings.new_event_id()
                body = holdings.render.event(event_id, event, call, caused_by=caused_by, now=now)
                events.append(EventWrite(call.id, call.sequence, body))
                leg.published[call.sequence] = body
                waiting.append(Publish(call.id, event_id, event.type, call.sequence, body))
                if isinstance(event, CallAnswered):
                    holdings.out.append(Noted("info", "call_answered", call.id, (("ring_s", round(event.ring_s, 3)),)))
                elif isinstance(event, CallEnded):
                    _note_end(holdings, leg, event)
            case ArmTimer(timer, delay):
                holdings.agenda.arm((call.id, timer), now + delay)
            case DisarmTimer(timer):
                holdings.agenda.disarm((call.id, timer))
            case DisarmAll():
                for each in CallTimer:
                    holdings.agenda.disarm((call.id, each))
            case Accept() | Respond(gated=True):
                waiting.append(Answering(call.id, effect))
                if call.phase is not Phase.ANSWERED:
                    holdings.agenda.arm((call.id, NodeTimer.STORE), now + holdings.settings.store_patience_s)
            case Respond(key, response):
                send_response(holdings, leg, key, response, now=now)
            case SetMedia(rule):
                holdings.out.append(SetRule(call.id, rule))
            case OpenMedia():
                holdings.out.append(OpenPorts(call.id, call.id))
            case CloseMedia():
                holdings.out.append(ClosePorts(call.id))
            case SendRequest(method, headers, body):
                _send_request(holdings, leg, method, headers, body, now=now)
            case Finished():
                holdings.live -= 1
                endings.append(Ending(call.id, holdings.render.record(call)))
                waiting.append(Concluded(call.id))
            case ActionsAccepted(action_ids) if request is not None:
                holdings.out.append(CommandAccepted(request, action_ids))
                write = True  # what REST was promised is written before the next thing is promised
            case ActionsRefused(code, detail) if request is not None:
                holdings.out.append(CommandRefused(request, code, detail))
    if events or waiting or write or _must_write_decision(leg):
        commit(holdings, leg.holding, events=events, endings=endings, waiting=waiting)


def commit(
    holdings: Holdings,
    holding: Holding,
    *,
    events: list[EventWrite],
    endings: list[Ending],
    waiting: list[Waiting],
    whole: bool = False,
) -> None:
    """One write of a conversation: what changed, with everything that is waiting to be acknowledged riding along."""
    holding.version += 1
    ticket = holdings.new_ticket(holding)
    writes: list[CallWrite] = []
    acks: list[Ack] = []
    for leg in holding.legs.values():
        call = leg.call
        first = holding.version == 1 or whole
        writes.append(
            CallWrite(
                call.id,
                round(call.created_at * 1000),
                fixed=leg.fixed if first else None,
                variable=snapshot.variable(call),
            )
        )
        settled = leg.cursors if whole else leg.acks
        if settled:
            acks += [Ack(call.id, endpoint, sequence) for endpoint, sequence in settled.items()]
            leg.acks.clear()
            holdings.agenda.disarm((call.id, NodeTimer.ACKNOWLEDGE))
    holding.decided = False
    holdings.out.append(
        Commit(
            ticket=ticket,
            conversation=holding.id,
            epoch=holding.epoch,
            nonce=holding.nonce,
            version=holding.version,
            owner=holdings.settings.owner,
            head=head_of(holding),
            calls=tuple(writes),
            events=tuple(events),
            acks=tuple(acks),
            endings=tuple(endings),
            whole=whole,
        )
    )
    if whole:
        holding.gate.rewrite(ticket)
    else:
        holding.gate.wait(ticket, waiting)


def head_of(holding: Holding) -> bytes:
    """The conversation's own record: small, and the same until calls can join."""
    calls = '","'.join(holding.legs)
    return f'{{"v":1,"created_at":{holding.created_at!r},"calls":["{calls}"]}}'.encode("ascii")


def release(holdings: Holdings, waiting: Waiting, *, now: float) -> None:
    """The write that this waited for is acknowledged."""
    leg = holdings.legs.get(waiting.call)
    if leg is None:
        return
    match waiting:
        case Created(call):
            holdings.agenda.disarm((call, NodeTimer.STORE))
            if (call, NodeTimer.TRYING) in holdings.agenda:  # else it has left already
                holdings.agenda.disarm((call, NodeTimer.TRYING))
                send_trying(holdings, leg, now=now)
        case Answering(call, Accept(key, response)):
            holdings.agenda.disarm((call, NodeTimer.STORE))
            _send_accept(holdings, leg, key, response, now=now)
        case Answering(call, Respond(key, response)):
            holdings.agenda.disarm((call, NodeTimer.STORE))
            send_response(holdings, leg, key, response, now=now)
        case Concluded():
            leg.concluded = True


def send_trying(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """100 to the INVITE or re-INVITE that waits, unless something better has been said already."""
    call = leg.call
    if call.is_over:
        return
    if call.reinvite is not None and call.reinvite_key is not None:
        send_response(holdings, leg, call.reinvite_key, respond(call.reinvite, 100), now=now)
    elif call.invite is not None and call.invite_key is not None and not call.accept_sent and not call.ringing:
        send_response(holdings, leg, call.invite_key, respond(call.invite, 100), now=now)


def hurry(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """The store keeps us waiting: a caller who has been refused need not wait with us to hear of it."""
    for refusal in leg.holding.gate.take_refusals(leg.call.id):
        send_response(holdings, leg, refusal.key, refusal.response, now=now)


def send_response(holdings: Holdings, leg: Leg, key: TransactionKey, response: Response, *, now: float) -> None:
    """A response through its transaction. Where that is gone (it ended, or died with another process) nobody waits."""
    if holdings.endpoint.state(key) is None:
        return
    if response.status >= 300 and response.cseq.method == "INVITE" and leg.usage.sequence == response.cseq.number:
        usage_effects(holdings, leg, leg.usage.step(Declined(response.cseq.number)), now=now)
    sip_outcomes(holdings, holdings.endpoint.respond(key, response, now=now))


def sip_outcomes(holdings: Holdings, outcomes: list[Outcome]) -> None:
    """Those outcomes that our own sending can have: bytes, and a transaction that is over."""
    for outcome in outcomes:
        if isinstance(outcome, Send):
            holdings.out.append(outcome)
        elif isinstance(outcome, TransactionEnded):
            holdings.invites.pop(outcome.key, None)


def usage_effects(holdings: Holdings, leg: Leg, effects: UsageEffects, *, now: float) -> None:
    """The deadlines of the INVITE usage."""
    for effect in effects:
        match effect:
            case ArmUsage(timer, delay):
                holdings.agenda.arm((leg.call.id, timer), now + delay)
            case DisarmUsage(timer):
                holdings.agenda.disarm((leg.call.id, timer))


def _send_accept(holdings: Holdings, leg: Leg, key: TransactionKey | None, response: Response, *, now: float) -> None:
    """A 2xx leaves, and is ours to repeat until its ACK (§13.3.1.4). Not if the call ended while it was being written."""
    call = leg.call
    if call.is_over or call.dialog is None:
        return
    sequence = response.cseq.number
    if key is not None and holdings.endpoint.state(key) is not None:
        outcomes = holdings.endpoint.respond(key, response, now=now)
        sip_outcomes(holdings, outcomes)
        sent = next((outcome for outcome in outcomes if isinstance(outcome, Send)), None)
    else:
        request = call.invite or call.reinvite
        flow = response_flow(request, call.flow) if request is not None else call.flow
        sent = Send(flow, response.encode())
        holdings.out.append(sent)
    if sent is not None:
        usage_effects(holdings, leg, leg.usage.step(Answered(sequence, sent)), now=now)
    holdings.agenda.disarm((call.id, NodeTimer.TRYING))
    call.dialog.confirm()
    step(holdings, leg, AcceptSent(), now=now)


def _send_request(
    holdings: Holdings, leg: Leg, method: str, headers: tuple[tuple[str, str], ...], body: bytes, *, now: float
) -> None:
    call = leg.call
    if call.dialog is None:
        raise LocalProtocolError(f"{method} needs a dialog")
    flow = next_hop(call.dialog, via_host=call.via_host)
    leg.branches += 1
    listener = holdings.settings.listeners[flow.listener]
    # The epoch keeps the branches of one owner apart from those of the next.
    branch = holdings.names.branch(call.id, leg.holding.epoch * 1000 + leg.branches)
    via = via_value(flow.transport, listener.sent_by, branch)
    lines = (("User-Agent", call.identity.server), *headers)
    request = call.dialog.new_request(method, via=via, headers=lines, body=body)
    otherwise = without_connection(call.dialog, via_host=call.via_host)
    sip_outcomes(holdings, holdings.endpoint.request(request, flow, now=now, otherwise=otherwise))


def _must_write_decision(leg: Leg) -> bool:
    """A decision whose first step has begun to wait must not live in memory alone.

    While ports are being opened nothing is written: the 200 is next, and its write carries the decision's ack.
    """
    return leg.holding.decided and leg.call.phase not in (Phase.ANSWERING, Phase.ENDING)


def _note_end(holdings: Holdings, leg: Leg, event: CallEnded) -> None:
    ended = leg.call.ended
    if ended is None:
        return
    facts: list[tuple[str, object]] = [
        ("by", ended.by),
        ("reason", ended.reason),
        ("duration_s", round(event.duration_s, 3)),
    ]
    if ended.sip_code is not None:
        facts.append(("sip_code", ended.sip_code))
    holdings.out.append(Noted("info", "call_ended", leg.call.id, facts))


def drop(holdings: Holdings, holding: Holding) -> None:
    """Let go of a conversation without a word to anybody: it is over, or it lives elsewhere now."""
    if holdings.conversations.pop(holding.id, None) is None:
        return
    for ticket in holding.gate.tickets():
        holdings.tickets.pop(ticket, None)
    for call_id, leg in holding.legs.items():
        call = leg.call
        del holdings.legs[call_id]
        holdings.outbox.forget(call_id)
        for timer in _LATE_TIMERS if call.phase is Phase.ENDED else _TIMERS:
            holdings.agenda.disarm((call_id, timer))
        for key in (call.invite_key, call.reinvite_key):
            if key is not None and holdings.endpoint.state(key) is State.PROCEEDING:
                holdings.endpoint.abandon(key)
                holdings.invites.pop(key, None)
        if call.phase is not Phase.ENDED:
            holdings.live -= 1
            if call.media_open or call.phase is Phase.ANSWERING:
                holdings.out.append(ClosePorts(call_id))
