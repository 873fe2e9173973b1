"""Carries out what a step of a call asks: some of it at once, the rest when the write it depends on is acknowledged.

The rule of architecture §5 in one place: a step that changes stored state becomes one `Commit`; what must not be seen
before it is stored waits at the conversation's gate.
"""

from __future__ import annotations

from bridge.calls import joining, machine
from bridge.calls.call import Call, Phase
from bridge.calls.effects import (
    Accept,
    Acknowledge,
    ActionsAccepted,
    ActionsRefused,
    ArmTimer,
    CallEffect,
    CallTimer,
    CancelInvite,
    CloseMedia,
    DisarmAll,
    DisarmTimer,
    Emit,
    FindDialog,
    FindReplaced,
    Finished,
    JoinWith,
    Keep,
    LeaveTrunk,
    Locate,
    Meet,
    MoveOut,
    OpenMedia,
    Part,
    ReplaceDialog,
    Respond,
    Seek,
    SendInvite,
    SendNotify,
    SendRefer,
    SendReinvite,
    SendRequest,
    SendUpdate,
    SetMedia,
    TakePlace,
    Tell,
)
from bridge.calls.events import CallAnswered, CallEnded
from bridge.calls.inputs import AcceptSent, CallInput, EventsExhausted, Parted
from bridge.calls.passage import AbandonCopy, CancelCopy, LocateCopy, LookUp, OpenPassage, PassBack, SendCopy
from bridge.calls.streams import rule_of, video_rule_of, video_session
from bridge.engine import linking, locating, provisional, proxying, referred, referring, seeking, trunking
from bridge.engine.commit import Ending, EventWrite
from bridge.engine.effects import ClosePorts, CommandAccepted, CommandRefused, Noted, OpenPorts, Originated, SetRule
from bridge.engine.gate import (
    Acknowledging,
    Answering,
    Concluded,
    Created,
    Forwarding,
    Inviting,
    Notifying,
    Parting,
    PassingBack,
    Promised,
    Publish,
    Referring,
    Waiting,
)
from bridge.engine.holdings import Begin, Departure, Holding, Holdings, Leg, Meeting, NodeTimer, OurRequest
from bridge.engine.routing import without_connection
from bridge.sip.endpoint import Outcome, TransactionEnded, response_flow
from bridge.sip.flow import Send
from bridge.sip.invite_usage import Answered, ArmUsage, Declined, DisarmUsage, UsageEffects, UsageState, UsageTimer
from bridge.sip.message import Response
from bridge.sip.transaction import State, TransactionKey
from bridge.sip.user_agent import respond

_LATE_TIMERS: tuple[CallTimer | UsageTimer | NodeTimer, ...] = (
    *UsageTimer,
    *NodeTimer,
    CallTimer.PROXY,
)  # of an ended call
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
    if first:
        holdings.changed(leg.holding).waiting.extend(first)
    call = leg.call
    for effect in effects:
        match effect:
            case Emit(event, caused_by):
                call.sequence += 1
                event_id = holdings.new_event_id()
                body = holdings.render.event(event_id, event, call, caused_by=caused_by, now=now)
                leg.published[call.sequence] = body
                unwritten = holdings.changed(leg.holding)
                unwritten.events.append(EventWrite(call.id, call.sequence, body))
                unwritten.waiting.append(Publish(call.id, event_id, event.type, call.sequence, body))
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
                holdings.changed(leg.holding).waiting.append(Answering(call.id, effect))
                if call.phase is not Phase.ANSWERED:
                    holdings.agenda.arm((call.id, NodeTimer.STORE), now + holdings.settings.store_patience_s)
            case Respond(key, response):
                send_response(holdings, leg, key, response, now=now)
            case SetMedia():
                holdings.unruled[call.id] = leg
            case OpenMedia(video):
                open_ports(holdings, leg, video=video)
            case CloseMedia():
                close_ports(holdings, call)
            case SendRequest(method, headers, body):
                _send_request(holdings, leg, method, headers, body, now=now)
            case Finished():
                holdings.live -= 1
                unwritten = holdings.changed(leg.holding)
                unwritten.endings.append(Ending(call.id, holdings.render.record(call)))
                unwritten.waiting.append(Concluded(call.id))
            case ActionsAccepted(action_ids) if request is not None:
                holdings.out.append(CommandAccepted(request, action_ids))
                holdings.changed(leg.holding)  # what REST was promised is written before the next thing is promised
            case ActionsRefused(code, detail) if request is not None:
                holdings.out.append(CommandRefused(request, code, detail))
            case Tell(peer, said):
                holdings.errands.append((peer, said))
            case Meet():
                if call.link is not None:
                    holdings.errands.append((call.id, Meeting()))
            case _:
                _carry_request(holdings, leg, effect, now=now)
    if _must_write_decision(leg):
        holdings.changed(leg.holding)


def _carry_request(holdings: Holdings, leg: Leg, effect: CallEffect, *, now: float) -> None:
    """What a call that we make, or that is joined, asks."""
    call = leg.call
    match effect:
        case Locate(attempt):
            locating.locate(holdings, leg, attempt, now=now)
        case LeaveTrunk(trunk):
            trunking.leave(holdings, call.id, trunk)
        case SendInvite(attempt, sequence):
            seeking.sign(holdings, call, attempt)
            holdings.changed(leg.holding).waiting.append(Inviting(call.id, attempt, sequence))
        case SendReinvite():
            holdings.changed(leg.holding).waiting.append(Inviting(call.id))
        case Acknowledge(sequence):
            holdings.changed(leg.holding).waiting.append(Acknowledging(call.id, sequence))
        case CancelInvite(attempt, sequence, reason):
            sip_outcomes(holdings, seeking.cancel(holdings, leg, attempt, sequence, reason, now=now))
        case Seek(action_id, action):
            linking.seek_party(holdings, leg, action, action_id, now=now)
        case JoinWith():
            linking.join_with(holdings, leg, effect, now=now)
        case SendRefer():
            holdings.changed(leg.holding).waiting.append(Referring(call.id))
        case Part():
            holdings.changed(leg.holding).waiting.append(Parting(call.id))
        case FindDialog():
            referring.find(holdings, leg, effect)
        case SendNotify():
            holdings.changed(leg.holding).waiting.append(Notifying(call.id, effect))
        case FindReplaced():
            referred.find(holdings, leg, effect)
        case TakePlace():
            referred.take_place(holdings, leg, effect, now=now)
        case ReplaceDialog():
            referred.replace_dialog(holdings, leg, effect, now=now)
        case SendUpdate():
            sip_outcomes(holdings, seeking.send_update(holdings, leg, now=now))
        case Keep():
            holdings.changed(leg.holding)
        case MoveOut():
            holdings.errands.append((call.id, Departure()))
        case _:
            _carry_passage(holdings, leg, effect, now=now)


def _carry_passage(holdings: Holdings, leg: Leg, effect: CallEffect, *, now: float) -> None:
    """What a call that is passed on asks."""
    call = leg.call
    match effect:
        case OpenPassage():
            proxying.open_passage(holdings, leg)
        case LookUp(uri):
            proxying.look_up(holdings, leg, uri)
        case LocateCopy(attempt):
            proxying.locate_copy(holdings, leg, attempt)
        case SendCopy(attempt):
            proxying.sign(holdings, call, attempt)
            holdings.changed(leg.holding).waiting.append(Forwarding(call.id, attempt))
        case CancelCopy():
            sip_outcomes(holdings, proxying.cancel_copy(holdings, leg, effect, now=now))
        case AbandonCopy(attempt):
            proxying.abandon_copy(holdings, leg, attempt)
        case PassBack(response, gated=True):
            holdings.changed(leg.holding).waiting.append(PassingBack(call.id, response))
        case PassBack(response):
            if not len(leg.holding.gate):  # else the first of them waits there; whoever repeats it goes on doing so
                sip_outcomes(holdings, proxying.pass_back(holdings, leg, response, now=now))


def settle(holdings: Holdings, *, now: float) -> None:
    """See through what an input has caused beyond its own call."""
    while holdings.errands:
        call_id, errand = holdings.errands.popleft()
        leg = holdings.legs.get(call_id)
        if leg is None:
            continue
        match errand:
            case Begin():
                carry(holdings, leg, machine.begin(leg.call), now=now)
            case Departure():
                linking.move_out(holdings, leg, now=now)
            case Meeting():
                _meet(holdings, leg, now=now)
            case _:
                step(holdings, leg, errand, now=now)
    if holdings.unruled:
        _set_rules(holdings)


def _meet(holdings: Holdings, leg: Leg, *, now: float) -> None:
    link = leg.call.link
    other = holdings.legs.get(link.peer) if link is not None else None
    if other is not None:
        for call, given in joining.meet(leg.call, other.call):
            step(holdings, holdings.legs[call.id], given, now=now)


def _set_rules(holdings: Holdings) -> None:
    """Tell the workers what becomes of the packets of these calls, and of those that hear them."""
    unruled, holdings.unruled = holdings.unruled, {}
    for leg in list(unruled.values()):
        link = leg.call.link
        peer = holdings.legs.get(link.peer) if link is not None else None
        if peer is not None:
            unruled[peer.call.id] = peer
    for leg in unruled.values():
        call = leg.call
        if call.media_open and call.negotiated is not None and not call.is_over:
            peer = holdings.legs.get(call.link.peer) if call.link is not None else None
            heard_by = peer.call if peer is not None else None
            holdings.out.append(SetRule(call.id, rule_of(call, heard_by)))
            video = video_rule_of(call, heard_by) if call.video_port is not None else None
            if video is not None:
                holdings.out.append(SetRule(video_session(call.id), video))


def open_ports(holdings: Holdings, leg: Leg, *, video: bool) -> None:
    """Ask for ports, in the worker of the call that this one is linked with where that has some."""
    call, link = leg.call, leg.call.link
    peer = link.peer if link is not None else None
    holdings.out.append(OpenPorts(call.id, call.id, peer))
    if video:
        holdings.out.append(OpenPorts(video_session(call.id), call.id, video_session(peer) if peer else None))


def close_ports(holdings: Holdings, call: Call) -> None:
    """Give them back."""
    holdings.out.append(ClosePorts(call.id))
    if call.video_wanted:
        holdings.out.append(ClosePorts(video_session(call.id)))


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
        case Inviting(call, 0):
            sip_outcomes(holdings, seeking.send_reinvite(holdings, leg, now=now))
        case Inviting(call, attempt, number):
            sip_outcomes(holdings, seeking.send_invite(holdings, leg, attempt, number, now=now))
        case Referring():
            sip_outcomes(holdings, referring.send_refer(holdings, leg, now=now))
        case Notifying(_, told):
            sip_outcomes(holdings, referred.send_notify(holdings, leg, told, now=now))
        case Parting():
            holdings.errands.append((leg.call.id, Parted()))
        case Acknowledging(call, number):
            seeking.acknowledge(holdings, leg, number)
        case Forwarding(call, attempt):
            sip_outcomes(holdings, proxying.send_copy(holdings, leg, attempt, now=now))
        case PassingBack(call, response):
            sip_outcomes(holdings, proxying.pass_back(holdings, leg, response, now=now))
        case Promised(call, request, body):
            holdings.out.append(Originated(request, call, body))


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
    """A response through its transaction. Where that is gone (it ended, or died with another process) nobody waits; nor where
    a final response has overtaken this one while it was being written."""
    if holdings.endpoint.state(key) not in (State.PROCEEDING, State.TRYING):
        return
    # Only theirs is declined: one of ours may have the same number, because each side counts for itself (§12.2.1.1).
    pending = leg.usage.state is UsageState.INVITED and leg.usage.sequence == response.cseq.number
    if response.status >= 300 and response.cseq.method == "INVITE" and pending:
        usage_effects(holdings, leg, leg.usage.step(Declined(response.cseq.number)), now=now)
    if leg.call.provisionals is not None and response.cseq.method == "INVITE":
        provisional.sent(holdings, leg, key, response, now=now)
    sip_outcomes(holdings, holdings.endpoint.respond(key, response, now=now))


def sip_outcomes(holdings: Holdings, outcomes: list[Outcome]) -> None:
    """Those outcomes that our own sending can have: bytes, and a transaction that is over."""
    for outcome in outcomes:
        if isinstance(outcome, Send):
            holdings.out.append(outcome)
        elif isinstance(outcome, TransactionEnded):
            holdings.invites.pop(outcome.key, None)
            holdings.ours.pop(outcome.key, None)


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
    if key is not None and call.provisionals is not None:
        provisional.sent(holdings, leg, key, response, now=now)
    sequence = response.cseq.number
    if key is not None and holdings.endpoint.state(key) is not None:
        outcomes = holdings.endpoint.respond(key, response, now=now)
        sip_outcomes(holdings, outcomes)
        sent = next((outcome for outcome in outcomes if isinstance(outcome, Send)), None)
    else:
        request = call.invite or call.reinvite
        flow = response_flow(request, call.way) if request is not None else call.way
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
    lines = (("User-Agent", leg.call.identity.server), *headers)
    request, flow = seeking.within_dialog(holdings, leg, method, lines, body)
    credentials = seeking.credentials_of(leg.call)
    ours = OurRequest(leg.call.id, request, flow, credentials=credentials, dialog=leg.call.dialog)
    otherwise = without_connection(leg.call.dialog, via_host=leg.call.via_host) if leg.call.dialog is not None else None
    sip_outcomes(holdings, seeking.send(holdings, ours, now=now, otherwise=otherwise))


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


def drop(holdings: Holdings, holding: Holding, *, keep_ports: bool = False) -> None:
    """Let go of a conversation without a word to anybody: it is over, or it lives elsewhere now."""
    if holdings.conversations.pop(holding.id, None) is None:
        return
    holdings.unwritten.pop(holding.id, None)
    for ticket in holding.gate.tickets():
        holdings.tickets.pop(ticket, None)
    for leg in list(holding.legs.values()):
        forget(holdings, leg, keep_ports=keep_ports)
    # What was put aside waits no longer: an attempt that is over frees its place, and whoever commands is answered.
    holdings.again.extend(holding.aside)
    holding.aside.clear()


def forget(holdings: Holdings, leg: Leg, *, keep_ports: bool = False) -> None:
    """One call of it."""
    call = leg.call
    del holdings.legs[call.id], leg.holding.legs[call.id]
    holdings.outbox.forget(call.id)
    for timer in _LATE_TIMERS if call.phase is Phase.ENDED else _TIMERS:
        holdings.agenda.disarm((call.id, timer))
    refer_key = call.referral.key if call.referral is not None else None
    for key in (call.invite_key, call.reinvite_key, leg.update_key, leg.notify_key, refer_key):
        if key is not None and holdings.endpoint.state(key) in (State.PROCEEDING, State.TRYING):
            holdings.endpoint.abandon(key)
            holdings.invites.pop(key, None)
    if call.phase is Phase.ENDED:
        return
    holdings.live -= 1
    seeking.abandon(holdings, call)
    proxying.abandon(holdings, call)
    if not keep_ports and (call.media_open or call.phase is Phase.ANSWERING or call.is_sought):
        close_ports(holdings, call)
