"""SIP coming in: from bytes to the call they belong to, or to the answer that needs no call (contract §6).

The user agent server of §8.2, §11, §12.2.2, §13.3, §14.2, §15.1.2 and §9.2, on top of `sip.endpoint`. What is refused
here has changed nothing and is answered at once.
"""

from __future__ import annotations

from bridge.calls import answering, machine, snapshot
from bridge.calls.call import Phase
from bridge.calls.facts import CallId
from bridge.calls.inputs import (
    Acknowledged,
    ByeReceived,
    CancelReceived,
    KeyPressed,
    Notified,
    Pracked,
    Referred,
    ReferRepeated,
    ReInvited,
    Unacknowledged,
    Updated,
)
from bridge.engine import authenticating, passing, proxying, referred, registering, responses, serving
from bridge.engine.carrying import carry, send_response, sip_outcomes, step, usage_effects
from bridge.engine.effects import Dropped, Noted
from bridge.engine.gate import Created
from bridge.engine.holdings import Holding, Holdings, Leg, NodeTimer
from bridge.engine.routing import application_for
from bridge.engine.settings import Application
from bridge.sdp.description import MalformedSdp
from bridge.sip.dialog import StaleSequence
from bridge.sip.endpoint import (
    AckArrived,
    Outcome,
    Overflow,
    RequestArrived,
    ResponseArrived,
    ResponsesMoved,
    Stray,
    TransactionEnded,
    TransactionTimedOut,
    TransportFailure,
    response_flow,
)
from bridge.sip.endpoint import fill_via as note_source
from bridge.sip.flow import Flow, Send
from bridge.sip.headers import Line, content_type, reason_q850, reason_sip
from bridge.sip.info import read_key
from bridge.sip.invite_usage import (
    AckMissing,
    AckReceived,
    InviteArrived,
    InviteUsage,
    RefuseInvite,
    RepeatResponse,
    UsageEffects,
    UsageState,
)
from bridge.sip.invite_usage import Acknowledged as UsageAcknowledged
from bridge.sip.invite_usage import ByeReceived as UsageByeReceived
from bridge.sip.message import Request, Response
from bridge.sip.parser import KeepAlive, MalformedMessage, parse
from bridge.sip.refer import EVENT, Unusable, is_about_refer, read_notice
from bridge.sip.stun import binding_answer
from bridge.sip.transaction import State, server_key
from bridge.sip.user_agent import Refused, asks_for_sips, check, options_headers, respond

_NOT_SECURE = ("Warning", '380 bridge "SIPS Not Allowed"')  # RFC 5630 §6.2: not by this way
_BINDING_REQUEST = b"\0\1"  # of STUN: no SIP begins like that
_LATER = ("Retry-After", "10")  # how soon a caller whom we turn away may come back, in seconds


def packet(holdings: Holdings, data: bytes, flow: Flow, *, returned: bool = False, now: float) -> None:
    """One datagram or framed message. `returned`: it was passed on, and nobody has its call."""
    turned_away = None if returned or flow.node else holdings.admission.look(data, flow.host, now=now)
    if turned_away is not None and not (turned_away.answer and _is_repeated(holdings, data, flow)):
        holdings.out.append(Dropped(turned_away.reason, flow))
        return
    if data[:2] == _BINDING_REQUEST and not flow.reliable:
        answer = binding_answer(data, flow.host, flow.port)
        holdings.out.append(Dropped("malformed", flow, "Bad STUN") if answer is None else Send(flow, answer))
        return
    message = parse(data)
    holdings.must_answer = returned
    match message:
        case Request() | Response():
            if holdings.settings.clustered and not returned and passing.passed_on(holdings, message, data, flow):
                return
            outcomes(holdings, holdings.endpoint.receive(message, flow, now=now), now=now)
        case KeepAlive(answer=answer):
            if answer:
                holdings.out.append(Send(flow, answer))
        case MalformedMessage(reason=reason, request=request, status=status):
            _malformed(holdings, request, flow, reason, status)


def _is_repeated(holdings: Holdings, data: bytes, flow: Flow) -> bool:
    """Whether a request of a source that asks too much has been taken before; if not, it gets its refusal. No Retry-After:
    that would silence a whole trunk (§21.5.4)."""
    request = parse(data)
    if not isinstance(request, Request):
        return False
    if holdings.endpoint.state(server_key(request)) is not None:
        return True
    if request.method != "ACK":
        note_source(request, flow)
        holdings.out.append(Send(response_flow(request, flow), respond(request, 503, "Too Many Requests").encode()))
    return False


def stream_broken(holdings: Holdings, data: bytes, flow: Flow, reason: str, status: int) -> None:
    """The last message of a connection, as far as it has come."""
    message = parse(data)
    request = message.request if isinstance(message, MalformedMessage) else message
    _malformed(holdings, request if isinstance(request, Request) else None, flow, reason, status)


def _malformed(holdings: Holdings, request: Request | None, flow: Flow, reason: str, status: int) -> None:
    """Answered where that is possible, and counted."""
    if request is not None and request.method != "ACK":
        note_source(request, flow)
        refused = respond(request, status, reason)
        holdings.out.append(Send(response_flow(request, flow), refused.encode()))
    holdings.out.append(Dropped("malformed", flow, reason))


def outcomes(holdings: Holdings, given: list[Outcome], *, now: float) -> None:
    """What the transactions made of it."""
    for outcome in given:
        match outcome:
            case Send():
                holdings.out.append(outcome)
            case RequestArrived():
                _request(holdings, outcome, now=now)
            case AckArrived(request, flow):
                _ack(holdings, request, flow, now=now)
            case TransactionEnded(key):
                holdings.invites.pop(key, None)
                holdings.ours.pop(key, None)
            case Overflow(request, flow):
                turned_away = respond(request, 503, headers=(_LATER,))
                holdings.out.append(Send(response_flow(request, flow), turned_away.encode()))
                holdings.out.append(Dropped("transactions_full", flow))
            case Stray(response, flow):
                responses.stray(holdings, response, flow)
            case ResponseArrived():
                responses.arrived(holdings, outcome, now=now)
            case ResponsesMoved(key, flow):
                leg = holdings.legs.get(holdings.invites.get(key, CallId("")))
                if leg is not None:
                    leg.usage.move(flow)
            case TransactionTimedOut(key):
                responses.silent(holdings, key, now=now)
            case TransportFailure(key):
                # Of an answer of ours nobody need hear: the caller may come back by another connection, and the timers run.
                responses.undeliverable(holdings, key, outcome, now=now)


def usage_outcomes(holdings: Holdings, leg: Leg, effects: UsageEffects, *, now: float) -> None:
    """What the INVITE usage makes of a message or a deadline."""
    usage_effects(holdings, leg, effects, now=now)
    for effect in effects:
        match effect:
            case RepeatResponse(send):
                holdings.out.append(send)
            case UsageAcknowledged(sequence, ack):
                step(holdings, leg, Acknowledged(sequence, ack), now=now)
            case AckMissing():
                step(holdings, leg, Unacknowledged(), now=now)


def _request(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    request = arrived.request
    if proxying.passes_through(holdings, arrived):
        return
    if not arrived.merged and serving.serves(holdings, arrived, now=now):
        return
    refused = check(request, holdings.capabilities)
    if refused is not None:
        _answer(holdings, arrived, refused.status, refused.reason, refused.headers, now=now)
    elif arrived.merged:
        _answer(holdings, arrived, 482, now=now)
    elif request.method == "CANCEL":
        _cancel(holdings, arrived, now=now)
    elif not arrived.flow.secure and asks_for_sips(request):
        # Somebody on the way has broken what `sips:` promises to both ends (§26.2.2, RFC 5630 §3.1.3).
        _answer(holdings, arrived, 480, headers=(_NOT_SECURE,), now=now)
    elif request.to_tag is not None:
        _within_dialog(holdings, arrived, now=now)
    elif request.method == "INVITE":
        _invite(holdings, arrived, now=now)
    elif request.method == "REGISTER":
        registering.requested(holdings, arrived, now=now)
    elif request.method == "OPTIONS":
        _answer(holdings, arrived, 200, headers=options_headers(holdings.capabilities), now=now)
    elif request.method == "REFER":
        _answer(holdings, arrived, 403, "Only Within A Call", now=now)  # whom it would move is not told (RFC 3515 §5.2)
    else:
        _answer(holdings, arrived, 481, now=now)


def _answer(
    holdings: Holdings,
    arrived: RequestArrived,
    status: int,
    reason: str | None = None,
    headers: tuple[Line, ...] | list[Line] = (),
    *,
    now: float,
) -> None:
    """An answer that changes nothing, at once."""
    lines = (("Server", holdings.settings.server), *headers)
    response = respond(arrived.request, status, reason, headers=lines)
    sip_outcomes(holdings, holdings.endpoint.respond(arrived.key, response, now=now))


# Outside any dialog


def _invite(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    request = arrived.request
    call_id = holdings.names.inbound_call(request.call_id, request.from_tag or "", request.cseq.number)
    if call_id in holdings.legs:
        # The very INVITE that made this call, and its transaction is over: a copy that was under way for very long.
        holdings.endpoint.abandon(arrived.key)
        holdings.out.append(Dropped("late_invite", arrived.flow))
        return
    if holdings.draining and holdings.settings.clustered and not holdings.must_answer:
        passing.pass_new_on(holdings, arrived)
        return
    if _may_be_stale(holdings, arrived, now=now):
        return
    turned_away = _admission(holdings, now=now)
    if turned_away is not None:
        _answer(holdings, arrived, turned_away.status, turned_away.reason, turned_away.headers, now=now)
        holdings.out.append(Noted("warning", "call_turned_away", None, (("why", turned_away.reason),)))
        return
    caller = authenticating.caller(holdings, arrived, now=now)
    if caller is None:
        return
    if "Replaces" in request.headers:
        replaced = referred.replaced_by(holdings, request, caller.username)
        if isinstance(replaced, Unusable):
            _answer(holdings, arrived, replaced.status, replaced.reason, now=now)
        else:
            _create(
                holdings, arrived, call_id, replaced.application, caller.username, replaces=replaced.call.id, now=now
            )
        return
    application = application_for(request.uri, holdings.settings.applications, domains=holdings.settings.domains)
    if application is None:
        holdings.out.append(
            Noted("warning", "no_application", None, (("uri", request.uri), ("source", str(arrived.flow))))
        )
        _answer(holdings, arrived, 404, now=now)
        return
    _create(holdings, arrived, call_id, application, caller.username, now=now)


def _may_be_stale(holdings: Holdings, arrived: RequestArrived, *, now: float) -> bool:
    """Whether it may have waited in the socket while we slept, so that its call is another node's by now, and answered: then
    nothing is said of it. Who still wants it repeats it, and by then we know."""
    if not holdings.has_slept(now) or arrived.flow.reliable:
        return False
    holdings.endpoint.abandon(arrived.key)
    holdings.out.append(Dropped("not_leased", arrived.flow))
    return True


def _create(
    holdings: Holdings,
    arrived: RequestArrived,
    call_id: CallId,
    application: Application,
    username: str | None,
    *,
    replaces: CallId | None = None,
    now: float,
) -> None:
    """A new call in a conversation of its own; nothing of it leaves before it is stored."""
    settings, request = holdings.settings, arrived.request
    call = answering.invited(
        id=call_id,
        conversation_id=holdings.names.conversation_of(call_id),
        plan=application.plan,
        identity=settings.listener_of(arrived.flow).identity,
        tag=holdings.names.tag(call_id),
        invite=request,
        flow=arrived.flow,
        now=now,
    )
    if isinstance(call, MalformedSdp):
        _answer(holdings, arrived, 400, f"Bad SDP: {call.reason}", now=now)
        return
    call.invite_key, call.authenticated_as, call.replaces = arrived.key, username, replaces
    call.came_by = holdings.trunks.at(arrived.flow.host)
    if call.came_by is not None and (trunk := holdings.trunks.get(call.came_by)) is not None:
        call.came_by_latching = trunk.latching
    holding = Holding(call.conversation_id, created_at=now, epoch=1, nonce=holdings.new_nonce())
    usage = InviteUsage(settings.timers)
    fixed = snapshot.fixed(call, request, version=holdings.snapshot)
    leg = Leg(call, holding, application, usage, fixed)
    leg.snapshot = holdings.snapshot
    leg.passed_on = holdings.must_answer
    holding.legs[call_id] = leg
    holdings.conversations[holding.id] = holding
    holdings.legs[call_id] = leg
    holdings.invites[arrived.key] = call_id
    holdings.live += 1
    usage_effects(holdings, leg, usage.step(InviteArrived(request.cseq.number)), now=now)
    holdings.agenda.arm((call_id, NodeTimer.TRYING), now + settings.trying_after_s)
    holdings.agenda.arm((call_id, NodeTimer.STORE), now + settings.store_patience_s)
    facts = (("from", call.from_.uri), ("to", call.to.uri), ("source", str(arrived.flow)))
    holdings.out.append(Noted("info", "call_incoming", call_id, (*facts, ("application", application.name))))
    carry(holdings, leg, machine.begin(call), now=now, first=(Created(call_id),))


def _admission(holdings: Holdings, *, now: float) -> Refused | None:
    """Whether the whole service has room for one more call (contract §6)."""
    if holdings.draining:
        return Refused(503, "Draining", (_LATER,))
    if holdings.live >= holdings.settings.max_calls:
        return Refused(503, "Too Many Calls", (_LATER,))
    if holdings.is_in_limbo(now):
        return Refused(503, "Store Away", (_LATER,))
    return None


def _cancel(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    """§9.2: 200 to the CANCEL whenever its INVITE is known, an effect only before our final response."""
    request = arrived.request
    if arrived.matches is not None:
        call_id = holdings.invites.get(arrived.matches)
    else:
        call_id = holdings.names.inbound_call(request.call_id, request.from_tag or "", request.cseq.number)
    leg = holdings.legs.get(call_id) if call_id is not None else None
    if leg is None and arrived.matches is None:
        _answer(holdings, arrived, 481, now=now)
        return
    if _may_be_stale(holdings, arrived, now=now):
        return
    tag = leg.call.tag if leg is not None else None
    sip_outcomes(holdings, holdings.endpoint.respond(arrived.key, respond(request, 200, to_tag=tag), now=now))
    if leg is not None:
        given = CancelReceived(reason_q850(request), elsewhere=reason_sip(request) == 200)
        step(holdings, leg, given, now=now)


# Within a dialog


def _ack(holdings: Holdings, request: Request, flow: Flow, *, now: float) -> None:
    leg = _leg_of(holdings, request)
    if leg is None:
        if not proxying.ack_passes_through(holdings, request, flow):
            holdings.out.append(Dropped("stray_ack", flow))
        return
    usage_outcomes(holdings, leg, leg.usage.step(AckReceived(request)), now=now)


def _leg_of(holdings: Holdings, request: Request) -> Leg | None:
    """The call whose dialog this message belongs to: our tag names it, the rest has to fit (§12.2.2)."""
    tag = request.to_tag or ""
    leg = holdings.legs.get(holdings.names.call_claimed_by(tag))
    if leg is None or not holdings.names.matches(tag, leg.call.tag):
        return None
    call = leg.call
    if call.dialog is not None:
        remote_tag = call.dialog.remote_tag
    elif call.invite is not None:
        remote_tag = call.invite.from_tag or ""
    else:
        return None  # it ended before there was a dialog
    fits = call.sip_call_id == request.call_id and remote_tag == (request.from_tag or "")
    return leg if fits else None


def _within_dialog(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    request = arrived.request
    leg = _leg_of(holdings, request)
    if leg is None and request.method == "UPDATE" and _is_early(holdings, request):
        _update_early(holdings, arrived, now=now)
        return
    if leg is None or leg.call.phase is Phase.ENDED:
        _answer(holdings, arrived, 481, now=now)
        return
    if referred.is_repeated(leg, request):
        step(holdings, leg, ReferRepeated(arrived.key, request), now=now)
        return
    dialog = leg.call.dialog
    if dialog is None and request.method in ("UPDATE", "PRACK"):
        dialog = answering.early_dialog(leg.call)  # its numbers and its target are kept from here on
    if dialog is not None:
        if dialog.secure and not arrived.flow.secure:
            _answer(holdings, arrived, 480, headers=(_NOT_SECURE,), now=now)
            return
        if isinstance(dialog.admits(request), StaleSequence):
            _answer(holdings, arrived, 500, "Stale CSeq", now=now)
            return
        dialog.flow = arrived.flow
    match request.method:
        case "BYE":
            _answer(holdings, arrived, 200, now=now)
            usage_effects(holdings, leg, leg.usage.step(UsageByeReceived()), now=now)
            step(holdings, leg, ByeReceived(reason_q850(request)), now=now)
        case "INVITE":
            _reinvite(holdings, leg, arrived, now=now)
        case "UPDATE":
            _update(holdings, leg, arrived, now=now)
        case "OPTIONS":
            _answer(holdings, arrived, 200, headers=options_headers(holdings.capabilities), now=now)
        case "NOTIFY":
            _notify(holdings, leg, arrived, now=now)
        case "REFER":
            _refer(holdings, leg, arrived, now=now)
        case "PRACK":
            _prack(holdings, leg, arrived, now=now)
        case "INFO":
            _info(holdings, leg, arrived, now=now)
        case _:
            _answer(holdings, arrived, 481, now=now)


def _info(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    """A key, or nothing that we need to understand (RFC 2976 §2.2)."""
    request = arrived.request
    key = read_key(content_type(request) or "", request.body) if request.body else None
    if request.body and key is None:
        _answer(holdings, arrived, 400, "No Key In This Body", now=now)
        return
    _answer(holdings, arrived, 200, now=now)
    if key is not None:
        step(holdings, leg, KeyPressed(key.digit, key.duration_ms, "info"), now=now)


def _update(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    """RFC 3311 §5.2: at most one at a time, and no offer while another one is open."""
    request, usage = arrived.request, leg.usage
    if leg.call.is_over:
        _answer(holdings, arrived, 481, now=now)
    elif holdings.is_in_limbo(now):
        _answer(holdings, arrived, 500, "Store Away", (_LATER,), now=now)  # limbo: survival §1
    elif leg.update_key is not None and holdings.endpoint.state(leg.update_key) is State.TRYING:
        _answer(holdings, arrived, 500, headers=(_a_little_later(request),), now=now)
    elif request.body and usage.state is UsageState.INVITING:
        _answer(holdings, arrived, 491, now=now)
    elif request.body and usage.state is UsageState.INVITED and leg.call.phase is Phase.ANSWERED:
        _answer(holdings, arrived, 500, headers=(_a_little_later(request),), now=now)
    else:
        leg.update_key = arrived.key
        step(holdings, leg, Updated(arrived.key, request), now=now)


def _notify(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    """What comes of a REFER of ours (RFC 3515 §2.4.4). We subscribe to nothing else."""
    if not is_about_refer(arrived.request):
        _answer(holdings, arrived, 489, headers=(("Allow-Events", EVENT),), now=now)
    elif holdings.is_in_limbo(now):
        _answer(holdings, arrived, 500, "Store Away", (_LATER,), now=now)  # limbo: survival §1
    elif leg.notify_key is not None and holdings.endpoint.state(leg.notify_key) is State.TRYING:
        _answer(holdings, arrived, 500, headers=(_a_little_later(arrived.request),), now=now)
    else:
        leg.notify_key = arrived.key
        step(holdings, leg, Notified(arrived.key, arrived.request, read_notice(arrived.request)), now=now)


def _refer(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    """The far end wants its partner to be connected with somebody else (RFC 3515)."""
    if holdings.is_in_limbo(now):
        _answer(holdings, arrived, 500, "Store Away", (_LATER,), now=now)  # limbo: survival §1
        return
    referral = referred.considered(holdings, leg, arrived.key, arrived.request)
    if isinstance(referral, Unusable):
        _answer(holdings, arrived, referral.status, referral.reason, now=now)
        return
    if leg.call.dialog is not None:
        leg.call.dialog.refresh_target(arrived.request)  # RFC 3515 §2.2
    step(holdings, leg, Referred(referral), now=now)


def _prack(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    """RFC 3262 §3. Outside of an INVITE that waits for its answer there is nothing that it could acknowledge."""
    if leg.call.search is not None or leg.call.invite is None or leg.call.is_over:
        _answer(holdings, arrived, 481, now=now)
    elif holdings.is_in_limbo(now):
        _answer(holdings, arrived, 500, "Store Away", (_LATER,), now=now)  # limbo: survival §1
    else:
        step(holdings, leg, Pracked(arrived.key, arrived.request), now=now)


def _is_early(holdings: Holdings, request: Request) -> bool:
    """Whether it comes from somebody whom we call, before the answer."""
    tag = request.to_tag or ""
    leg = holdings.legs.get(holdings.names.call_claimed_by(tag))
    if leg is None or leg.call.search is None or not holdings.names.matches(tag, leg.call.tag):
        return False
    attempts = leg.call.search.attempts
    return leg.call.is_sought and any(each.is_out and each.sip_call_id == request.call_id for each in attempts)


def _update_early(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    """The offer of our INVITE has no answer yet that counts; and the target comes with the 2xx once more (§13.2.2.4)."""
    if arrived.request.body:
        _answer(holdings, arrived, 491, now=now)
        return
    listener = holdings.settings.listener_of(arrived.flow)
    identity = listener.named(secure=asks_for_sips(arrived.request))
    _answer(holdings, arrived, 200, headers=(("Contact", identity.contact), ("Allow", identity.allow)), now=now)


def _a_little_later(request: Request) -> Line:
    """A number of our own choosing between 0 and 10 (§14.2); CSeq spreads it well enough."""
    return "Retry-After", str(request.cseq.number % 11)


def _reinvite(holdings: Holdings, leg: Leg, arrived: RequestArrived, *, now: float) -> None:
    request = arrived.request
    if leg.call.is_over:
        _answer(holdings, arrived, 481, now=now)
        return
    if holdings.is_in_limbo(now):
        _answer(holdings, arrived, 500, "Store Away", (_LATER,), now=now)  # limbo: survival §1
        return
    effects = leg.usage.step(InviteArrived(request.cseq.number))
    for effect in effects:
        if isinstance(effect, RefuseInvite):
            wait = (_a_little_later(request),) if effect.status == 500 else ()
            response = respond(request, effect.status, headers=wait)
            send_response(holdings, leg, arrived.key, response, now=now)
            return
    step(holdings, leg, ReInvited(arrived.key, request), now=now)
    if leg.call.reinvite_key is not None:
        holdings.agenda.arm((leg.call.id, NodeTimer.TRYING), now + holdings.settings.trying_after_s)
