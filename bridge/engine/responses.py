"""What comes back of requests of ours that calls wait for: the answers to an INVITE, a re-INVITE or a BYE, and their silence.

§13.2.2 (every 2xx is acknowledged, also one that nobody wants any more), §22.2 and §22.3 (challenges), §18.1.1 (TCP that
was not taken), §12.2.1.2.
"""

from __future__ import annotations

from bridge.calls import session_timing
from bridge.calls.inputs import (
    InviteAnswered,
    InviteDeclined,
    InviteFailed,
    InviteRefused,
    NotifyAnswered,
    Progressed,
    ReferAnswered,
    ReferRefused,
    ReinviteAnswered,
    ReinviteRefused,
    UpdateAnswered,
    UpdateRefused,
)
from bridge.calls.passage import CopySilent, CopyUndeliverable
from bridge.calls.search import Stage
from bridge.engine import provisional, proxying, referred, referring, seeking
from bridge.engine.carrying import sip_outcomes, step
from bridge.engine.delivering import finish_if_done
from bridge.engine.effects import Dropped, Noted
from bridge.engine.holdings import Holdings, Leg, OurRequest
from bridge.sip.dialog import Dialog
from bridge.sip.digest import authorize, challenges_of
from bridge.sip.endpoint import ResponseArrived, TransportFailure
from bridge.sip.flow import Flow
from bridge.sip.headers import Line
from bridge.sip.invite_usage import AnswerReceived, NeedAck, RepeatAck, UsageEffects
from bridge.sip.invite_usage import InviteFailed as UsageInviteFailed
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import TransactionKey
from bridge.sip.user_agent import via_value

_CHALLENGES = frozenset({401, 407})
_CHALLENGES_MOST = 2
_DECLINED_MOST = 16  # answers of one fork that come too late: each costs an ACK and a BYE
_PROOFS = ("Authorization", "Proxy-Authorization")


def arrived(holdings: Holdings, given: ResponseArrived, *, now: float) -> None:
    """A response to a request of ours."""
    ours = holdings.ours.get(given.key)
    if ours is None:
        return  # to a CANCEL, or to a BYE that nobody waits for: it changes nothing (§15.1.1)
    leg = holdings.legs.get(ours.call)
    response = given.response
    if given.key.method == "BYE":
        _again_with_proof(holdings, ours, response, now=now)
    elif ours.proxied is not None:
        answered = proxying.answered(holdings, leg, ours, response)
        if leg is not None and answered is not None:
            step(holdings, leg, answered, now=now)
            finish_if_done(holdings, leg.holding, now=now)
    elif ours.attempt:
        _to_attempt(holdings, leg, ours, response, given.flow, now=now)
    elif given.key.method == "PRACK":
        return  # one that is refused changes nothing: what it was for is repeated, or answered
    elif leg is not None and given.key.method == "UPDATE":
        _to_update(holdings, leg, ours, response, now=now)
    elif leg is not None and given.key.method == "REFER":
        _to_refer(holdings, leg, ours, response, now=now)
    elif leg is not None and given.key.method == "NOTIFY":
        _to_notify(holdings, leg, ours, response, now=now)
    elif leg is not None:
        _to_reinvite(holdings, leg, ours, response, given.flow, now=now)


def silent(holdings: Holdings, key: TransactionKey, *, now: float) -> None:
    """Nobody has answered a request of ours in 64·T1 (Timers B and F)."""
    _lost(holdings, key, 408, "Request Timeout", now=now)


def undeliverable(holdings: Holdings, key: TransactionKey, failure: TransportFailure, *, now: float) -> None:
    """The transport cannot bring a request of ours to where it should go (§8.1.3.1)."""
    otherwise = failure.otherwise
    ours, leg = holdings.ours.get(key), _leg(holdings, key)
    if ours is not None and key.method == "BYE" and otherwise is not None:
        _send_otherwise(holdings, ours, failure.request, otherwise, now=now)
        return
    if ours is not None and leg is not None and ours.attempt:
        attempt = seeking.attempt_of(leg.call, ours.attempt)
        if attempt.reliable and not attempt.datagram_only and attempt.is_out:
            # It was TCP only because the INVITE is long (§18.1.1): UDP then, in fragments.
            attempt.reliable, attempt.datagram_only = False, True
            holdings.ours.pop(key, None)
            sip_outcomes(holdings, seeking.send_invite(holdings, leg, attempt.number, attempt.sequence, now=now))
            return
    _lost(holdings, key, 503, failure.why or "Service Unavailable", now=now)


def _send_otherwise(holdings: Holdings, ours: OurRequest, data: bytes, flow: Flow, *, now: float) -> None:
    """The same request in a transaction of its own (RFC 3263 §4.3). Its call may be over."""
    request = parse(data)
    if isinstance(request, Request):
        via = request.via
        request.replace_via(via.with_param("branch", f"{via.branch}r"))
        again = OurRequest(ours.call, request, flow, 0, ours.credentials, ours.challenges, ours.dialog)
        sip_outcomes(holdings, seeking.send(holdings, again, now=now))


def stray(holdings: Holdings, response: Response, flow: Flow) -> None:
    """A response that no transaction waits for: one to what we have passed on goes on its way; a 2xx that a dead predecessor has acknowledged, and that has come again
    because that ACK was lost, gets another."""
    if proxying.passes_back(holdings, response):
        return
    call_id = holdings.names.call_of_branch(response.via.branch)
    leg = holdings.legs.get(call_id) if call_id is not None else None
    invited = response.cseq.method == "INVITE" and 200 <= response.status < 300
    if invited and leg is not None and leg.call.dialog is not None and _is_of(leg.call.dialog, response):
        number = response.cseq.number
        proof = seeking.proof_of(leg, number)
        holdings.out.append(seeking.ack(holdings, leg.call.id, leg.call.dialog, number, proof))
    else:
        holdings.out.append(Dropped("stray_response", flow))


def _lost(holdings: Holdings, key: TransactionKey, code: int, reason: str, *, now: float) -> None:
    ours, leg = holdings.ours.get(key), _leg(holdings, key)
    if ours is None:
        return
    if key.method == "BYE":
        holdings.out.append(Noted("info", "bye_unanswered", ours.call))
    elif leg is None or key.method == "PRACK":
        return
    elif ours.proxied is not None:
        passage = leg.call.passage
        if passage is not None and passage.serial == ours.proxied.serial:
            number = ours.proxied.attempt
            step(holdings, leg, CopySilent(number) if code == 408 else CopyUndeliverable(number), now=now)
            finish_if_done(holdings, leg.holding, now=now)
    elif ours.attempt:
        if seeking.attempt_of(leg.call, ours.attempt).stage is Stage.INVITING:
            holdings.outages.silent(ours.flow, now=now)
        step(holdings, leg, InviteFailed(ours.attempt, code, reason, "unreachable"), now=now)
        finish_if_done(holdings, leg.holding, now=now)
    elif key.method == "UPDATE":
        step(holdings, leg, UpdateRefused(None), now=now)
    elif key.method == "REFER":
        step(holdings, leg, ReferRefused(code, reason), now=now)
    elif key.method == "NOTIFY":
        step(holdings, leg, NotifyAnswered(code), now=now)
    else:
        leg.usage.step(UsageInviteFailed(ours.request.cseq.number))
        step(holdings, leg, ReinviteRefused(408, reason, holdings.chance()), now=now)


def _leg(holdings: Holdings, key: TransactionKey) -> Leg | None:
    ours = holdings.ours.get(key)
    return None if ours is None else holdings.legs.get(ours.call)


def _to_attempt(
    holdings: Holdings, leg: Leg | None, ours: OurRequest, response: Response, flow: Flow, *, now: float
) -> None:
    status = response.status
    if status < 200:
        pracks = None if leg is None else provisional.heard(holdings, leg, ours, response, flow, now=now)
        if leg is not None and pracks is not None:
            sip_outcomes(holdings, pracks)
            step(holdings, leg, Progressed(ours.attempt, response), now=now)
    elif status >= 300:
        if status == 503:
            holdings.outages.overloaded(ours.flow, response, now=now)
        if leg is not None:
            proof = _proof(holdings, ours, response)
            step(holdings, leg, InviteRefused(ours.attempt, response, proof), now=now)
    elif leg is not None and leg.call.is_sought:
        dialog = Dialog.as_client(ours.request, response, flow)
        dialog.local_sequence += seeking.attempt_of(leg.call, ours.attempt).pracked
        leg.call.identity = holdings.settings.listener_of(flow).named(secure=dialog.secure)
        step(holdings, leg, InviteAnswered(ours.attempt, response, dialog), now=now)
    elif leg is not None and _is_of(leg.call.dialog, response):
        _usage(holdings, leg.usage.step(AnswerReceived(response.cseq.number)))
    else:
        _decline(holdings, ours, response, flow, now=now)
        if leg is not None:
            step(holdings, leg, InviteDeclined(ours.attempt), now=now)
    if leg is not None:
        finish_if_done(holdings, leg.holding, now=now)  # what is left of a call may have waited for this


def _to_reinvite(holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, flow: Flow, *, now: float) -> None:
    status, number = response.status, response.cseq.number
    if status < 200:
        return
    if status < 300:
        effects = leg.usage.step(AnswerReceived(number))
        _usage(holdings, effects)
        if any(isinstance(effect, NeedAck) for effect in effects):
            step(holdings, leg, ReinviteAnswered(response), now=now)
        return
    leg.usage.step(UsageInviteFailed(number))
    if not leg.call.is_over and leg.call.reoffer is not None and _may_prove(ours, response):
        leg.call.reoffer.sent = False
        proof = _proof(holdings, ours, response)
        if proof is not None:
            sip_outcomes(
                holdings, seeking.send_reinvite(holdings, leg, proof=proof, challenges=ours.challenges + 1, now=now)
            )
            return
    if status == 422 and _ask_for_more(holdings, leg, ours, response, now=now):
        return
    step(holdings, leg, ReinviteRefused(status, response.reason, holdings.chance()), now=now)


def _to_update(holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, *, now: float) -> None:
    if 200 <= response.status < 300:
        step(holdings, leg, UpdateAnswered(response), now=now)
    elif response.status >= 300:
        proof = _proof(holdings, ours, response) if _may_prove(ours, response) else None
        more = response.status == 422 and ours.challenges < _CHALLENGES_MOST
        if proof is None and not (more and session_timing.raised(leg.call, response)):
            step(holdings, leg, UpdateRefused(response), now=now)
            return
        outcomes = seeking.send_update(holdings, leg, proof=proof or (), challenges=ours.challenges + 1, now=now)
        sip_outcomes(holdings, outcomes)


def _to_refer(holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, *, now: float) -> None:
    if 200 <= response.status < 300:
        step(holdings, leg, ReferAnswered(response.status, response.reason), now=now)
    elif response.status >= 300:
        proof = _proof(holdings, ours, response) if _may_prove(ours, response) else None
        if proof is None:
            step(holdings, leg, ReferRefused(response.status, response.reason), now=now)
            return
        again = referring.send_refer(holdings, leg, proof=proof, challenges=ours.challenges + 1, now=now)
        sip_outcomes(holdings, again)


def _to_notify(holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, *, now: float) -> None:
    if response.status < 200:
        return
    proof = _proof(holdings, ours, response) if _may_prove(ours, response) else None
    if proof is None or ours.notice is None:
        step(holdings, leg, NotifyAnswered(response.status), now=now)
        return
    again = referred.send_notify(holdings, leg, ours.notice, proof=proof, challenges=ours.challenges + 1, now=now)
    sip_outcomes(holdings, again)


def _ask_for_more(holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, *, now: float) -> bool:
    """Whether a re-INVITE whose session was too short for somebody has left again, with a longer one (RFC 4028 §7.3)."""
    call = leg.call
    if call.is_over or call.reoffer is None or ours.challenges >= _CHALLENGES_MOST:
        return False
    if not session_timing.raised(call, response):
        return False
    call.reoffer.sent = False
    sip_outcomes(
        holdings, seeking.send_reinvite(holdings, leg, proof=leg.proof, challenges=ours.challenges + 1, now=now)
    )
    return True


def _usage(holdings: Holdings, effects: UsageEffects) -> None:
    holdings.out.extend(effect.send for effect in effects if isinstance(effect, RepeatAck))


def _is_of(dialog: Dialog | None, response: Response) -> bool:
    return dialog is not None and (dialog.call_id, dialog.remote_tag) == (response.call_id, response.to_tag or "")


def _decline(holdings: Holdings, ours: OurRequest, response: Response, flow: Flow, *, now: float) -> None:
    """An answer too late or too many: it is acknowledged, and its dialog ended (§13.2.2.4)."""
    tag = response.to_tag or ""
    known = ours.declined.get(tag)
    if known is not None:
        holdings.out.append(known)
        return
    if len(ours.declined) >= _DECLINED_MOST:
        holdings.out.append(Dropped("answers_without_end", flow))
        return
    dialog = Dialog.as_client(ours.request, response, flow)
    proof = [(name, value) for name in _PROOFS for value in ours.request.headers.lines(name)]
    acknowledged = seeking.ack(holdings, ours.call, dialog, response.cseq.number, proof)
    ours.declined[tag] = acknowledged
    holdings.out.append(acknowledged)
    listener = holdings.settings.listener_of(acknowledged.flow)
    branch = holdings.names.branch(ours.call, f"b{ours.attempt}.{ours.request.cseq.number}.{len(ours.declined)}")
    bye = dialog.new_request("BYE", via=via_value(acknowledged.flow.transport, listener.sent_by, branch))
    sip_outcomes(holdings, holdings.endpoint.request(bye, acknowledged.flow, now=now))


def _again_with_proof(holdings: Holdings, ours: OurRequest, response: Response, *, now: float) -> None:
    """A BYE that is asked for credentials is sent again with them; the call has ended all the same."""
    dialog, proof = ours.dialog, _proof(holdings, ours, response)
    if dialog is None or proof is None or not _may_prove(ours, response):
        return
    request, flow = seeking.repeated(holdings, ours, dialog, proof)
    again = OurRequest(ours.call, request, flow, 0, ours.credentials, ours.challenges + 1, dialog)
    sip_outcomes(holdings, seeking.send(holdings, again, now=now))


def _may_prove(ours: OurRequest, response: Response) -> bool:
    return response.status in _CHALLENGES and ours.credentials is not None and ours.challenges < _CHALLENGES_MOST


def _proof(holdings: Holdings, ours: OurRequest, response: Response) -> tuple[Line, ...] | None:
    """The header line that answers a challenge, where we have been given something to answer it with."""
    given = ours.credentials
    if given is None or given.password is None or response.status not in _CHALLENGES:
        return None
    line = authorize(
        challenges_of(response),
        method=ours.request.method,
        uri=ours.request.uri,
        username=given.username,
        password=given.password,
        body=ours.request.body,
        cnonce=holdings.names.cnonce(ours.call, f"{ours.attempt}.{ours.request.cseq.number}"),
    )
    return (line,) if isinstance(line, tuple) else None
