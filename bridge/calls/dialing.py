"""From a wish to an answer, seen by the one who calls (§13.2): a party is sought at its targets, the first that answers
has it, the others are given up.

Parallel and serial forking, ringing and early media, credentials (§22.2), the best failure; where a redirect leads stands in
`following`. Knows nothing of transactions and of where packets go: the node says what came of each INVITE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.calls import session_timing
from bridge.calls.actions import Target
from bridge.calls.answering import our_codecs, party_of
from bridge.calls.call import Call, Identity, Phase, Plan
from bridge.calls.effects import (
    Acknowledge,
    ArmTimer,
    CallTimer,
    DisarmTimer,
    LeaveTrunk,
    Locate,
    Meet,
    SendInvite,
    Tell,
)
from bridge.calls.ending import end, fail_attempt, give_up, hang_up, reason_of_code
from bridge.calls.events import CallAnswered, CallAttemptFailed, CallEarlyMedia, CallInitiated, CallRinging
from bridge.calls.facts import ActionId, CallId, Contact, ConversationId, Ended, EndedBy
from bridge.calls.following import contacts_told, follow
from bridge.calls.inputs import InviteAnswered, InviteFailed
from bridge.calls.peering import PeerAnswered, PeerInput, PeerMedia, PeerRinging
from bridge.calls.search import InviteAttempt, Place, Search, Stage
from bridge.sdp.description import SessionDescription, parse
from bridge.sdp.offer_answer import Negotiated, Unacceptable, offer, read_answer
from bridge.sdp.relaying import mirrored_offer
from bridge.sdp.video import offers_video
from bridge.sip.headers import NameAddr, parse_name_addr
from bridge.sip.message import Response

CHALLENGES_MOST = 2  # per attempt: the second says that our nonce was stale (RFC 7616 §3.3)
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'  # RFC 3326 §2: no missed call for those who rang in vain

_TRYING = 100
_FLOW_FAILED = 430
_INVITES_MOST = 6  # of one attempt, with credentials and with ever longer sessions


def sought(
    *,
    id: CallId,  # noqa: A002 -- the public name of the field
    conversation_id: ConversationId,
    plan: Plan,
    identity: Identity,
    tag: str,
    search: Search,
    now: float,
) -> Call:
    """A call to a party that has not been found yet."""
    target = search.attempts[0].target.uri
    return Call(
        id=id,
        conversation_id=conversation_id,
        plan=plan,
        identity=identity,
        created_at=now,
        tag=tag,
        from_=party_of(parse_name_addr(search.from_) or NameAddr(None, search.from_)),
        to=party_of(NameAddr(None, target)),
        search=search,
    )


def announce(call: Call) -> None:
    """Its first event, the limit of how long it may be sought, and the ports that its offer names."""
    call.emit(CallInitiated(tuple([each.target.uri for each in _search(call).attempts])), caused_by=_cause(call))
    call.out.append(ArmTimer(CallTimer.RING_LIMIT, call.plan.ring_limit_s))
    call.open_media(video=call.mirrored is not None and offers_video(call.mirrored))


def media_opened(call: Call, *, now: float) -> None:
    """Ports are there: make the offer, and begin to look."""
    call.sdp_version = 1
    made: SessionDescription | Unacceptable
    if call.mirrored is not None:
        made = mirrored_offer(call.mirrored, call.local_end())
        call.mirrored = None
    else:
        made = offer(call.local_end(), codecs=our_codecs(call.plan))
    if isinstance(made, Unacceptable):
        end(call, Ended("policy", "not_acceptable", sip_code=488, sip_reason=made.warning_text), now=now)
        return
    call.local_sdp = made.encode()
    seek(call, now=now)


def seek(call: Call, *, now: float) -> None:
    """Begin whichever attempts are due; when none is left, nobody was found."""
    search = _search(call)
    for attempt in search.due():
        if not call.plan.destinations.permit(attempt.target.uri):
            _fail(call, attempt, 403, "Destination Not Allowed", ("policy", "forbidden"), now=now)
            return  # that has begun the others
        attempt.stage = Stage.LOCATING
        call.out.append(Locate(attempt.number))
    if search.is_over and search.answered() is None:
        _nobody(call, now=now)


def located(call: Call, number: int, places: Sequence[Place], target: Target | None, *, now: float) -> None:
    """Where a target is. Several places are the contacts of one address of record: all of them are tried at once. `target`:
    the same, with what its trunk has to say."""
    search = _search(call)
    attempt = search.attempt(number)
    if attempt is None or attempt.stage is not Stage.LOCATING:
        if target is not None and target.has_place and (call.is_over or not search.is_by(target.trunk)):
            call.out.append(LeaveTrunk(target.trunk))  # it was given up meanwhile
        return
    attempt.target = target or attempt.target
    _invite(call, attempt, places[0], now=now)
    for place in places[1:]:
        another = search.add(attempt.target, attempt)
        if another is not None:
            _invite(call, another, place, now=now)


def failed(call: Call, given: InviteFailed, *, now: float) -> None:
    """An attempt came to nothing without a final response: nowhere to be found, out of reach, or silent."""
    attempt = _search(call).attempt(given.attempt)
    if attempt is None:
        return
    attempt.given_up_at = 0.0
    if attempt.stage is Stage.INVITING and _turn(call, attempt, now=now):
        return
    if attempt.is_open and not _by_another_flow(call, attempt, given.code, given.reason, now=now):
        _fail(call, attempt, given.code, given.reason, ("network", given.why), now=now)


def _by_another_flow(call: Call, attempt: InviteAttempt, code: int, reason: str, *, now: float) -> bool:
    """Whether the phone has another flow, now that this one has failed (RFC 5626 §5.3): it is tried in an attempt of its own."""
    others = attempt.place.others if attempt.place is not None else ()
    another = _search(call).add(attempt.target, attempt) if others else None
    if another is None:
        return False
    attempt.fail(code, reason)
    call.emit(CallAttemptFailed(attempt.shown, code, reason), caused_by=_cause(call))
    _invite(call, another, replace(others[0], others=others[1:]), now=now)
    return True


def lost(call: Call, number: int, *, now: float) -> None:
    """What has become of its INVITE nobody knows, and it is too late to ask again: that might ring anew (survival §4.6)."""
    attempt = _search(call).attempt(number)
    if attempt is not None and attempt.is_out:
        give_up(call, attempt, now=now)
        _fail(call, attempt, 408, "Request Timeout", ("node", "node_lost"), now=now)


def declined(call: Call, number: int) -> None:
    """Its INVITE is answered, and nobody wants that any more: it has been acknowledged, and ended."""
    attempt = _search(call).attempt(number)
    if attempt is not None:
        attempt.given_up_at = 0.0


def progressed(call: Call, number: int, response: Response) -> None:
    """A provisional response. Each early dialog of a fork may bring its own media: the first that does is heard."""
    attempt = _search(call).attempt(number)
    if attempt is None or not attempt.is_out:
        return
    attempt.stage = Stage.PROCEEDING
    if response.status == _TRYING or call.phase is not Phase.UNANSWERED:
        return
    target = attempt.shown
    if not call.early_media and response.body:
        agreed = _answer_in(call, response)
        if isinstance(agreed, Negotiated):
            call.early_media, attempt.heard = True, response.to_tag
            if call.flow is None and attempt.place is not None and attempt.place.flow is not None:
                call.flow, call.via_host = attempt.place.flow, attempt.place.flow.host
            _take(call, agreed, response)
            call.emit(CallEarlyMedia(target), caused_by=_cause(call))
            _tell(call, PeerMedia(agreed))
            return
    if not call.ringing and response.status == 180:
        call.ringing = True
        call.emit(CallRinging(target), caused_by=_cause(call))
        _tell(call, PeerRinging())


def answered(call: Call, given: InviteAnswered, *, now: float) -> None:
    """The 2xx that has the party. Its ACK waits for the store: whoever carries the call on must know the dialog."""
    search = _search(call)
    attempt = search.attempt(given.attempt)
    if attempt is None or not call.is_sought:
        return
    attempt.given_up_at = 0.0
    attempt.stage, attempt.code, attempt.reason = Stage.ANSWERED, given.response.status, given.response.reason
    call.phase = Phase.ACCEPTED
    call.dialog = given.dialog
    call.sip_call_id = given.dialog.call_id
    call.flow = given.dialog.flow
    call.via_host = given.dialog.flow.host
    call.shown = None  # what never changes of a call is fixed from here
    call.user_agent = given.response.headers.get("Server") or given.response.headers.get("User-Agent")
    _give_up_others(call, but=attempt, now=now)
    call.out.append(DisarmTimer(CallTimer.SEARCH))
    call.out.append(DisarmTimer(CallTimer.RING_LIMIT))
    call.out.append(Acknowledge(given.response.cseq.number))
    agreed = _answer_in(call, given.response)
    if agreed is None and attempt.heard is not None and attempt.heard == given.dialog.remote_tag:
        agreed = call.negotiated  # the same party's answer came with a provisional response already (§13.2.1)
    if not isinstance(agreed, Negotiated):
        hang_up(call, "policy", "not_acceptable", now=now, caused_by=_cause(call))  # once it is acknowledged
        return
    _take(call, agreed, given.response)
    call.answered_at = now
    call.emit(CallAnswered(ring_s=now - call.created_at), caused_by=_cause(call))
    call.out.append(ArmTimer(CallTimer.DURATION_LIMIT, call.duration_limit_s))
    session_timing.answered(call, given.response, now=now)
    _tell(call, PeerAnswered(agreed))


def acknowledged(call: Call, *, now: float) -> None:
    """Our ACK has left: from here a BYE may (§15), and the call may be joined."""
    if call.phase is not Phase.ACCEPTED:
        return
    call.phase = Phase.ANSWERED
    call.accept_sent = True
    call.out.append(Meet())
    wanted = call.hangup_wanted
    if wanted is not None:
        hang_up(call, wanted.ended_by, wanted.reason, now=now, headers=wanted.headers, caused_by=wanted.caused_by)


def refused(
    call: Call, number: int, response: Response, proof: tuple[tuple[str, str], ...] | None, *, now: float
) -> None:
    """A final response from 300 on. `proof`: the header lines that answer its challenge, where we can answer it."""
    search = _search(call)
    attempt = search.attempt(number)
    if attempt is None:
        return
    attempt.given_up_at = 0.0
    if not attempt.is_open:
        return
    if proof and attempt.challenges < CHALLENGES_MOST and attempt.place is not None:
        attempt.challenges += 1
        attempt.proof = proof
        _invite(call, attempt, attempt.place, now=now)
        return
    asks_for_more = response.status == 422 and attempt.sequence < _INVITES_MOST and attempt.place is not None
    if asks_for_more and attempt.place is not None and session_timing.raised(call, response):
        _invite(call, attempt, attempt.place, now=now)
        return
    if attempt.is_out and _asks_elsewhere(attempt, response.status) and _turn(call, attempt, now=now):
        return
    if 300 <= response.status < 400 and search.on_redirect == "follow" and follow(search, attempt, response):
        fail_attempt(call, attempt, response.status, response.reason)
        seek(call, now=now)
        return
    if response.status == _FLOW_FAILED and _by_another_flow(call, attempt, 430, response.reason, now=now):
        return
    by: EndedBy = "remote"
    cause = by, reason_of_code(response.status)
    _fail(call, attempt, response.status, response.reason, cause, now=now, told=contacts_told(response))


def expired(call: Call, *, now: float) -> None:
    """Some have rung for as long as they may."""
    search = _search(call)
    for attempt in search.attempts:
        if attempt.is_out and attempt.expires_at <= now:
            rang = attempt.stage is Stage.PROCEEDING
            give_up(call, attempt, now=now)
            _fail(
                call,
                attempt,
                408,
                "Request Timeout",
                ("local", "no_answer") if rang else ("network", "unreachable"),
                now=now,
            )
            if call.is_over:
                return
    _arm(call, now=now)


def _invite(call: Call, attempt: InviteAttempt, place: Place, *, now: float) -> None:
    """An INVITE, or the same once more with credentials: then its number rises, and it keeps its Call-ID (§8.1.3.5)."""
    attempt.stage, attempt.place = Stage.INVITING, place
    attempt.sequence += 1
    attempt.sent_at = now
    attempt.expires_at = attempt.expires_at or now + _search(call).timeout_s
    call.out.append(SendInvite(attempt.number, attempt.sequence))
    _arm(call, now=now)


def _turn(call: Call, attempt: InviteAttempt, *, now: float) -> bool:
    """The same INVITE to another server of the same name, but for its branch (RFC 3263 §4.3): should both have got it, the
    second finds that out by its CSeq (§8.2.2.2). Whoever calls hears nothing of that."""
    if not attempt.take_next_way():
        return False
    attempt.stage, attempt.sent_at = Stage.INVITING, now
    call.out.append(SendInvite(attempt.number, attempt.sequence))
    return True


def _asks_elsewhere(attempt: InviteAttempt, status: int) -> bool:
    """Whether this says something about the server alone, so that the next one may do better (RFC 3263 §4.3); of a trunk's
    servers that goes for each 5xx, and for whatever its operator says. A busy or unwilling party is the same behind all of them."""
    target = attempt.target
    return status == 503 or (target.trunk != "" and (500 <= status < 600 or status in target.next_on))


def _arm(call: Call, *, now: float) -> None:
    """One timer for all: the next attempt whose time is up."""
    times = [each.expires_at for each in _search(call).attempts if each.is_open and each.expires_at]
    if times:
        call.out.append(ArmTimer(CallTimer.SEARCH, max(0.0, min(times) - now)))


def _fail(
    call: Call,
    attempt: InviteAttempt,
    code: int,
    reason: str,
    cause: tuple[EndedBy, str],
    *,
    now: float,
    told: tuple[Contact, ...] = (),
) -> None:
    fail_attempt(call, attempt, code, reason)
    attempt.cause = cause
    call.emit(CallAttemptFailed(attempt.shown, code, reason, told), caused_by=_cause(call))
    if code >= 600:
        _give_up_others(call, but=attempt, now=now)  # §16.7 step 5: who says so speaks for the party
    seek(call, now=now)


def _nobody(call: Call, *, now: float) -> None:
    best = _search(call).best_failure()
    code, reason = (best.code or 480, best.reason) if best is not None else (480, None)
    by, why = best.cause if best is not None and best.cause is not None else ("local", "canceled")
    end(call, Ended(by, why, sip_code=code, sip_reason=reason), now=now, caused_by=_cause(call))


def _give_up_others(call: Call, *, but: InviteAttempt, now: float) -> None:
    for attempt in _search(call).attempts:
        if attempt is not but and attempt.is_open:
            give_up(call, attempt, now=now, reason=ELSEWHERE if but.stage is Stage.ANSWERED else None)


def _answer_in(call: Call, response: Response) -> Negotiated | Unacceptable | None:
    """What the response's SDP answers to our offer; None where it has none that can be read."""
    ours = parse(call.local_sdp) if call.local_sdp is not None else None
    theirs = parse(response.body) if response.body else None
    if not isinstance(ours, SessionDescription) or not isinstance(theirs, SessionDescription):
        return None
    return read_answer(ours, theirs)


def _take(call: Call, agreed: Negotiated, response: Response) -> None:
    if agreed == call.negotiated:
        return
    call.negotiated, call.held = agreed, agreed.held
    call.media_generation += 1
    call.set_media()


def _tell(call: Call, given: PeerInput) -> None:
    if call.link is not None:
        call.out.append(Tell(call.link.peer, given))


def _cause(call: Call) -> ActionId | None:
    """The dial that wanted this party."""
    return None if call.link is None else call.link.action_id


def _search(call: Call) -> Search:
    if call.search is None:
        raise AssertionError("an outbound call has a search")
    return call.search
