"""The far end asks us to connect its partner with somebody else: REFER (RFC 3515), blind or attended (RFC 5589).

Its application decides. Then the referrer's call lets go of its partner, the partner seeks the target, or takes the place of
another call of ours, and what comes of that is told to the referrer by NOTIFY. Once the two hear each other the referrer's call
ends; if they do not get there, it has its partner back. How a NOTIFY leaves, and how a call is found, stands in
`engine.referred`.
"""

from __future__ import annotations

from dataclasses import replace

from bridge.calls import joining
from bridge.calls.actions import Dial, Join, Target
from bridge.calls.call import Call, Link, Phase
from bridge.calls.effects import (
    ArmTimer,
    CallTimer,
    DisarmTimer,
    FindReplaced,
    Keep,
    Meet,
    Respond,
    Seek,
    SendNotify,
    TakePlace,
    Tell,
)
from bridge.calls.ending import hang_up, passed_on
from bridge.calls.events import ActionFailed, TransferCompleted, TransferFailed, TransferProgress, TransferRequested
from bridge.calls.inputs import (
    CallInput,
    DialRefused,
    JoinRefused,
    NotifyAnswered,
    NotifyLost,
    ReferralDecided,
    ReferralUndecided,
    Referred,
    ReferRepeated,
    ReplacedHere,
    ReplacedMissing,
)
from bridge.calls.peering import (
    DialogReplaced,
    PartnerReferred,
    PeerGone,
    PeerRinging,
    ReferralNews,
    ReferrerBack,
    ReferrerGone,
)
from bridge.calls.referral import AcceptTransfer, Referral, RejectTransfer, Replacement, TransferDecision
from bridge.sdp.offer_answer import Negotiated
from bridge.sip.grammar import REASON_PHRASES
from bridge.sip.message import Request
from bridge.sip.transaction import TransactionKey
from bridge.sip.user_agent import respond

TRANSFERS_MOST = 20  # of one call: two phones that refer it to each other do so no longer than that
_ANSWER_S = (
    25.0  # for the application: the REFER's transaction lasts 64·T1 (Timer F), and its answer has to come before
)
_OUTCOME_S = 300.0  # longer than anybody may ring
_FIRST = (Referred, PartnerReferred, ReferrerBack, DialogReplaced)  # what may come to a call that knows of none
_DECLINED = 603
_GONE = 481


def concerns(call: Call, given: CallInput) -> bool:
    """Whether this input may be about a REFER at all: most calls never see one."""
    return call.referral is not None or call.replacement is not None or isinstance(given, _FIRST)


def stepped(call: Call, given: CallInput, *, now: float) -> bool:
    """What a REFER of the far end's, or of this call's partner's, makes of this input; False: it is about something else."""
    match given:
        case Referred(referral):
            _received(call, referral, now=now)
        case ReferRepeated(key, request):
            _repeated(call, key, request)
        case ReferralDecided(decision):
            _decided(call, decision, now=now)
        case ReferralUndecided(code, detail, field):
            if call.referral is not None and call.referral.stage == "asked":
                call.emit(ActionFailed(None, None, code, detail, field))
                _refuse(call, _DECLINED, None)
        case ReplacedHere(action_id):
            if call.referral is not None and call.referral.stage == "finding" and call.referral.action_id == action_id:
                _let_go(call, call.referral, now=now)
        case ReplacedMissing(action_id):
            if call.referral is not None and call.referral.stage == "finding" and call.referral.action_id == action_id:
                _over(call, ReferralNews(_GONE, REASON_PHRASES[_GONE]), now=now)
        case ReferralNews():
            _news(call, given, now=now)
        case NotifyAnswered(status):
            _notify_answered(call, status, now=now)
        case NotifyLost():
            _notify_lost(call, now=now)
        case _:
            return _partner_stepped(call, given, now=now)
    return True


def expired(call: Call, *, now: float) -> None:
    """The application has not decided in time, or nothing has come of it for longer than anything may take."""
    if call.referral is None:
        return
    if call.referral.stage == "asked":
        _refuse(call, _DECLINED, None)
    elif call.referral.stage != "over":
        _over(call, ReferralNews(408, REASON_PHRASES[408]), now=now)


def waiting(call: Call) -> FindReplaced | None:
    """The call that still has to be brought here."""
    referral = call.referral
    if referral is None or referral.stage != "finding" or call.is_over:
        return None
    if referral.replaces is None or referral.action_id is None:
        return None
    return FindReplaced(referral.replaces, referral.action_id)


# The referrer


def _received(call: Call, referral: Referral, *, now: float) -> None:
    if call.is_over or call.referral is not None:
        return
    call.referral = referral = replace(referral)
    _wait(call, referral, _ANSWER_S, now=now)
    call.emit(
        TransferRequested(referral.target, referral.referred_by, referral.replaces, referral.partner or ""),
    )


def _repeated(call: Call, key: TransactionKey, request: Request) -> None:
    referral = call.referral
    if referral is None:
        return
    referral.key, referral.request = key, request
    if referral.stage != "asked":
        _answer(call, referral, 202, None)


def _decided(call: Call, decision: TransferDecision, *, now: float) -> None:
    referral, link = call.referral, call.link
    if referral is None or referral.stage != "asked" or call.is_over:
        return
    if isinstance(decision, RejectTransfer):
        _refuse(call, decision.code, decision.reason)
        return
    if link is None or not link.joined or link.peer != referral.partner:
        _refuse(call, 480, None)  # whom it has meant has gone meanwhile
        return
    attended = referral.replaces is not None and decision.to is None
    if not attended and not call.plan.destinations.permit(decision.to or referral.target):
        _refuse(call, 403, "Destination Not Allowed")
        return
    referral.action_id = call.new_action_id()
    _accept(referral, decision)
    _answer(call, referral, 202, None)
    referral.stage = "finding" if attended else "accepted"
    _wait(call, referral, _OUTCOME_S, now=now)
    call.emit(TransferProgress(referral.target, 100, "Trying"), caused_by=referral.action_id)
    _say(call, referral, 100, "Trying")
    if referral.replaces is not None and attended:
        call.out.append(FindReplaced(referral.replaces, referral.action_id))
    else:
        _let_go(call, referral, timeout_s=decision.timeout_s, now=now)


def _accept(referral: Referral, decision: AcceptTransfer) -> None:
    """Another target than the far end has named is no dialog of anybody's."""
    if decision.to is not None:
        referral.target, referral.replaces, referral.dialog = decision.to, None, ""


def _let_go(call: Call, referral: Referral, *, timeout_s: float = 60.0, now: float) -> None:
    """The partner is told whom it is to hear instead, and this call hears it no more."""
    link = call.link
    if link is None or not link.joined or referral.action_id is None:
        _over(call, ReferralNews(480, REASON_PHRASES[480]), now=now)
        return
    referral.stage = "accepted"
    referral.link = [link.peer, link.how, link.asked, link.action_id, link.end_with_peer, True]
    headers: dict[str, tuple[str, ...]] = {}
    if referral.referred_by is not None:
        headers["Referred-By"] = (f"<{referral.referred_by}>",)
    if referral.dialog and referral.replaces is None:
        headers["Replaces"] = (referral.dialog,)  # of somebody else's dialog: whoever has it knows what is meant
    joining.unlink(call, caused_by=referral.action_id)
    asked = PartnerReferred(
        call.id, referral.action_id, referral.target, timeout_s, headers, referral.replaces, referral.dialog
    )
    call.out.append(Tell(link.peer, asked))
    call.out.append(Keep())


def _news(call: Call, news: ReferralNews, *, now: float) -> None:
    referral = call.referral
    if referral is None or referral.stage != "accepted" or call.is_over:
        return
    if news.code >= 200:
        _over(call, news, now=now)
    elif news.code > referral.code:
        call.emit(TransferProgress(referral.target, news.code, news.reason), caused_by=referral.action_id)
        _say(call, referral, news.code, news.reason)


def _over(call: Call, news: ReferralNews, *, now: float) -> None:
    """Its outcome is known: told to the application at once, and to the far end once that is stored."""
    referral = call.referral
    if referral is None:
        return
    referral.stage = "over"
    call.out.append(DisarmTimer(CallTimer.TRANSFER))
    kind = TransferCompleted if news.code < 300 else TransferFailed
    call.emit(kind(referral.target, news.code, news.reason), caused_by=referral.action_id)
    _say(call, referral, news.code, news.reason)
    if news.code >= 300:
        _return(call, referral, news, now=now)
    if not referral.subscribed:
        _conclude(call, now=now)


def _return(call: Call, referral: Referral, news: ReferralNews, *, now: float) -> None:
    """Hear the partner again, where it is there and nobody else is heard meanwhile; else it is as if that one had left."""
    if referral.link is None:
        return
    link = Link(*referral.link)
    if call.link is not None:
        if news.agreed is not None:
            call.out.append(Tell(link.peer, ReferrerBack(None, None)))
        return
    link.joined = False
    if news.agreed is None:
        link.joined = True
        call.link = link
        referral.link = None
        call.done(Dial)
        joining.peer_gone(call, ended=news.ended, now=now)
        return
    referral.link = None
    call.link, call.peer_media = link, news.agreed
    back = link.mirrored(call.id)
    data = [back.peer, back.how, back.asked, back.action_id, back.end_with_peer]
    call.out.append(Tell(link.peer, ReferrerBack(data, call.negotiated)))


def _say(call: Call, referral: Referral, code: int, reason: str) -> None:
    """One NOTIFY at a time: what has come meanwhile is told by the next, or has been overtaken."""
    referral.code, referral.reason = code, reason
    if not referral.subscribed or referral.saying:
        return
    referral.saying = code
    call.out.append(SendNotify(code, reason, code >= 200, round(_OUTCOME_S)))


def _notify_answered(call: Call, status: int, *, now: float) -> None:
    referral = call.referral
    if referral is None or not referral.saying:
        return
    said, referral.saying = referral.saying, 0
    if status >= 300:
        referral.subscribed = False  # it does not want to hear, or does not hear any more (RFC 6665 §4.2.2)
    else:
        referral.told = said
        if referral.code != said:
            _say(call, referral, referral.code, referral.reason)
            return
    call.out.append(Keep())
    if referral.stage == "over":
        _conclude(call, now=now)


def _notify_lost(call: Call, *, now: float) -> None:
    """Say it again: whoever hears it twice hears nothing new."""
    referral = call.referral
    if referral is None or referral.saying:
        return
    if referral.code and referral.told != referral.code and referral.subscribed:
        _say(call, referral, referral.code, referral.reason)
    elif referral.stage == "over":
        _conclude(call, now=now)


def _conclude(call: Call, *, now: float) -> None:
    """The far end has heard the last word, or will not."""
    referral, call.referral = call.referral, None
    if referral is None or call.is_over:
        return
    call.out.append(Keep())
    if referral.code < 300:
        call.done(Dial)
        hang_up(call, "local", "transferred", now=now)


def _refuse(call: Call, code: int, reason: str | None) -> None:
    referral, call.referral = call.referral, None
    if referral is None:
        return
    call.out.append(DisarmTimer(CallTimer.TRANSFER))
    call.emit(TransferFailed(referral.target, code, reason or REASON_PHRASES.get(code, "")))
    _answer(call, referral, code, reason)


def _answer(call: Call, referral: Referral, code: int, reason: str | None) -> None:
    """Where its transaction has died with another process, the far end's next repetition is answered."""
    if referral.key is None or referral.request is None:
        return
    lines = [("Server", call.identity.server), ("Contact", call.identity.contact)]
    if code < 300 and not referral.subscribed:
        lines.append(("Refer-Sub", "false"))  # RFC 4488 §4
    call.out.append(Respond(referral.key, respond(referral.request, code, reason, headers=lines), gated=True))
    referral.key = referral.request = None


def _wait(call: Call, referral: Referral, seconds: float, *, now: float) -> None:
    referral.expires_at = now + seconds
    call.out.append(ArmTimer(CallTimer.TRANSFER, seconds))


# The partner


def _partner_stepped(call: Call, given: CallInput, *, now: float) -> bool:
    match given:
        case PartnerReferred():
            _seek(call, given)
        case ReferrerGone():
            if call.replacement is not None:
                call.replacement.is_alone = True
                call.out.append(Keep())
        case ReferrerBack(link, agreed):
            _have_back(call, None if link is None else Link(*link), agreed, now=now)
        case DialogReplaced():
            _be_replaced(call, now=now)
        case DialRefused() | JoinRefused() if call.replacement is not None:
            overloaded = isinstance(given, DialRefused)
            _fail(call, call.replacement, 503 if overloaded else _GONE, now=now)
        case _:
            return False
    return True


def _seek(call: Call, given: PartnerReferred) -> None:
    link = call.link
    if call.is_over or call.phase is not Phase.ANSWERED or link is None or link.peer != given.referrer:
        call.out.append(Tell(given.referrer, ReferralNews(480, REASON_PHRASES[480], ended=call.is_over)))
        return
    call.replacement = Replacement(given.referrer, link.end_with_peer)
    call.transfers += 1
    call.dial_failure = None
    joining.unlink(call, caused_by=given.action_id)
    if given.replaces is not None:
        taken = TakePlace(given.replaces, given.dialog, given.referrer, given.action_id, link.end_with_peer)
        call.out.append(taken)
        return
    target = Target(given.target, headers=given.headers)
    dial = Dial(to=(target,), timeout_s=given.timeout_s, end_with_peer=link.end_with_peer)
    call.out.append(Seek(given.action_id, dial))


def watched(call: Call, given: CallInput, *, now: float) -> None:
    """What this step has made of the replacement: the party is heard, or is lost, or rings."""
    replacement, link = call.replacement, call.link
    if replacement is None or replacement.party is None or call.is_over:
        return
    if link is None or link.peer != replacement.party:
        code = call.dial_failure[0] if call.dial_failure is not None else 487
        _fail(call, replacement, passed_on(code), now=now)
    elif link.joined:
        call.replacement = None
        call.out.append(Tell(replacement.referrer, ReferralNews(200, "OK")))
        call.out.append(Keep())
    elif isinstance(given, PeerRinging):
        call.out.append(Tell(replacement.referrer, ReferralNews(180, "Ringing")))


def _fail(call: Call, replacement: Replacement, code: int, *, now: float) -> None:
    """Nobody has come in the referrer's place: that one is had back, if it is still there."""
    call.replacement = None
    call.out.append(Keep())
    if not replacement.is_alone:
        agreed = call.negotiated if call.link is None else None
        call.out.append(Tell(replacement.referrer, ReferralNews(code, REASON_PHRASES.get(code, ""), agreed)))
        return
    if call.link is None and replacement.ends_with_peer:
        hang_up(call, "policy", "peer_ended", now=now)
    elif call.link is None:
        call.done(Dial)


def _have_back(call: Call, link: Link | None, agreed: Negotiated | None, *, now: float) -> None:
    if link is None:
        if call.link is None:
            call.done(Dial)
        return
    if call.is_over or call.link is not None:
        call.out.append(Tell(link.peer, PeerGone(ended=call.is_over)))
        return
    joining.linked(call, link, agreed, now=now)
    call.out.append(Meet())


def _be_replaced(call: Call, *, now: float) -> None:
    """Whom this call has heard hears another one now."""
    if call.is_over:
        return
    joining.unlink(call)
    call.done(Dial)
    call.done(Join)
    hang_up(call, "local", "replaced", now=now)
