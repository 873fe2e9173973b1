"""How a call ends, whoever ends it, and what the far end is told: a final response before the 200, BYE after the ACK
(§15, §15.1), silence where the far end has said it itself. Every way out leads through `end`, so every call has exactly
one `call.ended`, and it is the last event.
"""

from __future__ import annotations

from bridge.calls.actions import Redirect
from bridge.calls.call import Call, HangUp, Phase
from bridge.calls.effects import (
    ArmTimer,
    CallTimer,
    CancelInvite,
    CloseMedia,
    DisarmAll,
    DisarmTimer,
    Finished,
    LeaveTrunk,
    Respond,
    SendRequest,
    Tell,
)
from bridge.calls.events import CallEnded, CallRedirected
from bridge.calls.facts import ActionId, Contact, Ended, EndedBy, Quality
from bridge.calls.peering import PeerFailed, PeerGone, ReferralNews, ReferrerGone
from bridge.calls.search import InviteAttempt
from bridge.sip.grammar import REASON_PHRASES
from bridge.sip.headers import NameAddr
from bridge.sip.uri import is_sips
from bridge.sip.user_agent import respond

_MEDIA_CLOSE_S = 0.5  # what the last figures are worth waiting for

_REASONS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    407: "unauthorized",
    408: "no_answer",
    410: "not_found",
    415: "not_acceptable",
    480: "no_answer",
    486: "busy",
    487: "canceled",
    488: "not_acceptable",
    600: "busy",
    603: "declined",
    604: "not_found",
    606: "not_acceptable",
}


def reason_of_code(code: int) -> str:
    """The end reason that a final response stands for, whoever sent it (contract §4)."""
    if code < 400:
        return "redirected"
    return _REASONS.get(code) or ("server_error" if 500 <= code < 600 else "rejected")


def passed_on(code: int) -> int:
    """What a caller is answered when a party that was dialed for it has said this, or nobody has.

    As the party said, unless that was about our own request: a caller can prove nothing to whom we should have (and a 401
    names a realm), cannot be redirected without a Contact, and has not canceled.
    """
    if code < 400 or code == 487:
        return 480
    return 403 if code in (401, 407) else code


def refuse(
    call: Call,
    code: int,
    ended_by: EndedBy,
    reason: str,
    *,
    now: float,
    phrase: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    caused_by: ActionId | None = None,
    gated: bool = True,
) -> None:
    """End an unanswered call with a final response to its INVITE."""
    if call.invite is not None and call.invite_key is not None:
        response = respond(
            call.invite, code, phrase, to_tag=call.tag, headers=(("Server", call.identity.server), *headers)
        )
        call.out.append(Respond(call.invite_key, response, gated=gated))
    phrase = phrase or REASON_PHRASES.get(code)
    end(call, Ended(ended_by, reason, sip_code=code, sip_reason=phrase), now=now, caused_by=caused_by)


def redirect(call: Call, wanted: Redirect, ended_by: EndedBy, reason: str, *, now: float, caused_by: ActionId) -> None:
    """End an unanswered call with a 3xx response that says where else to look (§8.3)."""
    named = [("Contact", str(_address(contact))) for contact in wanted.contacts]
    extra = [(name, value) for name, values in wanted.headers.items() for value in values]
    call.emit(CallRedirected(wanted.code, wanted.contacts), caused_by=caused_by)
    refuse(
        call,
        wanted.code,
        ended_by,
        reason,
        now=now,
        phrase=wanted.reason,
        headers=(*named, *extra),
        caused_by=caused_by,
    )


def leads_astray(call: Call, contact: Contact) -> bool:
    """Whether a caller who asked for TLS on each hop is sent where there is none (RFC 5630 §5.4)."""
    return call.invite is not None and is_sips(call.invite.uri) and not is_sips(contact.uri)


def _address(contact: Contact) -> NameAddr:
    """In brackets, so that the URI's own parameters are not taken for those of the header field (§20.10)."""
    if contact.q is None:
        return NameAddr(None, contact.uri)
    return NameAddr(None, contact.uri, (("q", f"{contact.q:.3f}".rstrip("0").rstrip(".")),))


def hang_up(
    call: Call,
    ended_by: EndedBy,
    reason: str,
    *,
    now: float,
    headers: tuple[tuple[str, str], ...] = (),
    caused_by: ActionId | None = None,
) -> None:
    """End the call by whatever is right now.

    A 200 that is on its way cannot be taken back: BYE has to wait for its ACK (§15).
    """
    if call.is_over:
        return
    if call.is_sought:
        reason = "canceled" if reason == "hangup" else reason
        end(call, Ended(ended_by, reason, sip_code=487, sip_reason="Request Terminated"), now=now, caused_by=caused_by)
    elif not call.accept_sent and call.search is None:
        refuse(call, 480, ended_by, reason, now=now, headers=headers, caused_by=caused_by)
    elif call.phase is Phase.ACCEPTED:
        replaced = call.hangup_wanted
        if replaced is not None and replaced.caused_by is not None:
            call.cancel_action("hangup", replaced.caused_by)
        call.hangup_wanted = HangUp(ended_by, reason, headers, caused_by)
    else:
        call.out.append(SendRequest("BYE", headers))
        end(call, Ended(ended_by, reason), now=now, caused_by=caused_by)


def end(call: Call, ended: Ended, *, now: float, caused_by: ActionId | None = None) -> None:
    """The call is over for the far end. Its `call.ended` follows as soon as the media worker has told its figures."""
    call.end_action = caused_by
    _cancel_what_is_left(call, caused_by)
    if call.search is not None:
        for attempt in call.search.attempts:
            if attempt.is_open:
                give_up(call, attempt, now=now)
            elif attempt.has_place:  # the one that has answered
                call.out.append(LeaveTrunk(attempt.target.trunk))
    _tell_peer(call, ended)
    _let_referrals_go(call)
    call.ended = ended
    call.ended_at = now
    call.out.append(DisarmAll())
    if call.reinvite is not None and call.reinvite_key is not None:
        # Whatever ends a dialog, a request that is still pending in it gets its answer (§15.1.2).
        response = respond(call.reinvite, 487, headers=(("Server", call.identity.server),))
        call.out.append(Respond(call.reinvite_key, response, gated=False))
    if not call.media_open:
        _finish(call)
        return
    call.phase = Phase.ENDING
    call.out.append(CloseMedia())
    call.out.append(ArmTimer(CallTimer.MEDIA_CLOSE, _MEDIA_CLOSE_S))


def has_referred(call: Call) -> bool:
    """Whether its far end has had its partner connected with somebody else, or we are about that."""
    return call.referral is not None and call.referral.stage != "asked" and call.referral.code < 300


def give_up(call: Call, attempt: InviteAttempt, *, now: float, reason: str | None = None) -> None:
    """This target is not wanted any more: CANCEL its INVITE, if one is out (§9.1). `reason`: of a Reason header."""
    if attempt.is_out:
        attempt.given_up_at = now
        call.out.append(CancelInvite(attempt.number, attempt.sequence, reason))
    fail_attempt(call, attempt, 487, "Request Terminated")


def fail_attempt(call: Call, attempt: InviteAttempt, code: int, reason: str) -> None:
    """It has come to nothing, and needs its place on a trunk no more."""
    had_place = attempt.has_place
    attempt.fail(code, reason)
    if had_place and call.search is not None and not call.search.is_by(attempt.target.trunk):
        call.out.append(LeaveTrunk(attempt.target.trunk))


def _tell_peer(call: Call, ended: Ended) -> None:
    link = call.link
    if link is None:
        return
    if link.how == "dial" and not link.asked and call.answered_at is None:
        code, phrase = ended.sip_code or (488 if ended.reason == "not_acceptable" else 480), ended.sip_reason or ""
        if code == 503 and ended.by != "policy":
            code, phrase = 500, ""  # nobody is to give up this service because another one is overloaded (§16.7 step 6)
        call.out.append(Tell(link.peer, PeerFailed(code, phrase)))
    else:
        call.out.append(Tell(link.peer, PeerGone(ended=True)))


def _let_referrals_go(call: Call) -> None:
    """Its far end's REFER is answered, and who was referred is on its own; who has referred this call hears that it is gone."""
    referral, replacement = call.referral, call.replacement
    call.referral = call.replacement = None
    if referral is not None and referral.key is not None and referral.request is not None:
        response = respond(referral.request, 487, headers=(("Server", call.identity.server),))
        call.out.append(Respond(referral.key, response, gated=False))
    if referral is not None and referral.stage == "accepted" and referral.partner is not None:
        call.out.append(Tell(referral.partner, ReferrerGone()))
    if replacement is not None and not replacement.is_alone:
        gone = ReferralNews(487, REASON_PHRASES[487], ended=True)
        call.out.append(Tell(replacement.referrer, gone))


def _cancel_what_is_left(call: Call, caused_by: ActionId | None) -> None:
    """Every action that was accepted is told of: those that do not come to their end any more, as canceled."""
    wanted, under_way = call.hangup_wanted, call.reoffer
    if under_way is not None and under_way.action_id not in (None, caused_by):
        call.cancel_action(under_way.purpose, under_way.action_id)
    if call.answer_action not in (None, caused_by):
        call.cancel_action("answer", call.answer_action)
    call.abandon_list()
    if call.transfer is not None and call.transfer.stage != "completed":
        call.cancel_action("transfer", call.transfer.action_id)
    if wanted is not None and wanted.caused_by not in (None, caused_by):
        call.cancel_action("hangup", wanted.caused_by)
    call.answer_action = call.hangup_wanted = call.reoffer = call.transfer = None


def media_closed(call: Call, quality: Quality | None) -> None:
    """The ports are given back, or nobody will ever say so (then `quality` is None)."""
    call.media_open = False
    call.video_port = None
    call.quality = quality
    if call.phase is Phase.ENDING:
        call.out.append(DisarmTimer(CallTimer.MEDIA_CLOSE))
        _finish(call)


def _finish(call: Call) -> None:
    if call.ended is None or call.ended_at is None:
        raise AssertionError("a call finishes only after it has ended")
    call.phase = Phase.ENDED
    answered_s = call.ended_at - call.answered_at if call.answered_at is not None else 0.0
    call.emit(CallEnded(duration_s=call.ended_at - call.created_at, answered_s=answered_s), caused_by=call.end_action)
    call.out.append(Finished())
    call.invite = call.offer = call.peer_media = None
