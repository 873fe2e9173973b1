"""One step of a call: an input and the time in, effects out.

Sends each input to the chapter it belongs to, then lets the action list go on as far as it can. This is where it is
written what each action does in which state (contract §1).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.calls import (
    answering,
    dialing,
    ending,
    holding,
    joining,
    moving,
    proxying,
    referred,
    reoffering,
    transferring,
)
from bridge.calls.actions import (
    Action,
    Answer,
    Dial,
    Hangup,
    Hold,
    Join,
    Leave,
    Mute,
    Park,
    Pause,
    Proxy,
    Redirect,
    Reject,
    Ring,
    Transfer,
    Unhold,
    Unmute,
)
from bridge.calls.call import Call, Phase
from bridge.calls.effects import (
    ActionsAccepted,
    ActionsRefused,
    ArmTimer,
    CallEffect,
    CallTimer,
    DisarmTimer,
    Meet,
    Tell,
)
from bridge.calls.events import ActionCompleted, ActionFailed, CallDtmf
from bridge.calls.facts import ActionId, Ended, EndedBy
from bridge.calls.inputs import (
    AcceptSent,
    Acknowledged,
    AckSent,
    ByeReceived,
    CallInput,
    CancelReceived,
    CarriedOn,
    CodecWanted,
    Commanded,
    Decided,
    DialRefused,
    Drained,
    Elapsed,
    EventsExhausted,
    InviteAnswered,
    InviteDeclined,
    InviteFailed,
    InviteLost,
    InviteRefused,
    Joined,
    JoinImpossible,
    JoinRefused,
    KeyPressed,
    Linked,
    Located,
    MediaClosed,
    MediaGone,
    MediaOpened,
    MediaRefused,
    MediaSilent,
    Pracked,
    Progressed,
    ReinviteAnswered,
    ReInvited,
    ReinviteRefused,
    ReplyUnusable,
    StoreTooLate,
    Unacknowledged,
    Undecided,
    Unpracked,
    UpdateAnswered,
    Updated,
    UpdateRefused,
)
from bridge.calls.lists import ActionList, Origin, Step
from bridge.calls.passage import PassageInput
from bridge.calls.peering import PeerAnswered, PeerFailed, PeerGone, PeerMedia, PeerRinging

_PARK_RING_S = 60.0  # contract: an unanswered parked call gets 180, repeated each minute
_IMPLIED_PARK = Park()
_LATER = ("Retry-After", "10")
# What changes how a call sounds and not what it is doing: one such command leaves the running list alone (docs/adr/0008).
_BESIDE = (Hold, Unhold, Mute, Unmute)
_REINVITING = (Hold, Unhold)
_DRAINED = ("Reason", 'SIP;cause=503;text="drained"')  # survival §4


def begin(call: Call) -> list[CallEffect]:
    """The first step of a new call."""
    if call.search is None:
        answering.announce(call)
    else:
        dialing.announce(call)
    return _taken(call)


def step(call: Call, given: CallInput, *, now: float) -> list[CallEffect]:
    """Whatever `given` causes, in the order in which it shall happen."""
    match given:
        case Acknowledged(sequence, ack) if call.phase is Phase.ACCEPTED:
            answering.acknowledged(call, ack, now=now)
            moving.go_on(call)
        case Acknowledged(sequence, ack):
            holding.reinvite_acknowledged(call, sequence, ack, now=now)
        case ByeReceived(q850) if call.search is None and not call.accept_sent:
            answering.canceled(
                call, "canceled", q850=q850, now=now
            )  # a BYE in the early dialog ends it as a CANCEL does (§15)
        case ByeReceived(q850):
            if not call.is_over:
                why = "transferred" if ending.has_referred(call) else "hangup"
                ending.end(call, Ended("remote", why, q850=q850), now=now)
        case MediaOpened(address, port, video):
            answering.media_opened(call, address, port, video=video, now=now)
            _offer_if_ready(call, now=now)
            moving.go_on(call)
        case MediaClosed(quality):
            ending.media_closed(call, quality)
        case Decided(actions):
            _decided(call, actions, now=now)
        case AcceptSent():
            call.accept_sent = True
            call.reinvite_key = None
        case Commanded(actions, listed):
            _command(call, actions, listed=listed, now=now)
        case Undecided(code, detail, field):
            if not call.is_over:
                call.emit(ActionFailed(None, None, code, detail, field))
                if not call.actions_made:  # else the application has spoken by REST, and is not to be fallen back from
                    _fall_back(call, "application_failed", now=now)
        case ReplyUnusable(detail, field):
            if not call.is_over:
                call.emit(ActionFailed(None, None, "invalid_reply", detail, field))
        case CancelReceived(q850, elsewhere) if proxying.is_under_way(call):
            proxying.canceled(call, "answered_elsewhere" if elsewhere else "canceled", q850=q850, now=now)
        case CancelReceived(q850, elsewhere):
            answering.canceled(call, "answered_elsewhere" if elsewhere else "canceled", q850=q850, now=now)
        case ReInvited(key, request):
            holding.reinvited(call, key, request, now=now)
        case Pracked():
            answering.acknowledged_provisional(call, given, now=now)
        case Unpracked():
            answering.unacknowledged_provisional(call, now=now)
        case Updated(key, request):
            holding.updated(call, key, request, now=now)
        case UpdateAnswered(response):
            reoffering.update_answered(call, response, now=now)
        case UpdateRefused(response):
            reoffering.update_refused(call, response, now=now)
        case Unacknowledged():
            answering.unacknowledged(call, now=now)
        case MediaRefused(video):
            _no_media(call, video=video, now=now)
            if call.media_open:
                moving.go_on(call)
        case MediaSilent():
            _end_for(call, "network", "media_timeout", now=now)
        case MediaGone():
            ending.media_closed(call, None)
            _end_for(call, "node", "node_lost", now=now)
        case CarriedOn(move):
            moving.carried_on(call, move)
        case StoreTooLate():
            if not call.is_over and not call.accept_sent:
                ending.refuse(call, 503, "node", "store_away", now=now, headers=(_LATER,), gated=False)
        case EventsExhausted():
            _end_for(call, "policy", "overload", now=now)
        case Drained():
            _drain(call, now=now)
        case Elapsed(timer):
            _elapsed(call, timer, now=now)
        case _ if isinstance(given, PassageInput):
            proxying.step(call, given, now=now)
        case _ if call.search is not None and _search_stepped(call, given, now=now):
            pass
        case _ if transferring.stepped(call, given, now=now):
            pass
        case _ if referred.concerns(call, given) and referred.stepped(call, given, now=now):
            pass
        case _:
            _link_stepped(call, given, now=now)
    if call.replacement is not None:
        referred.watched(call, given, now=now)
    _go_on(call, now=now)
    return _taken(call)


def _search_stepped(call: Call, given: CallInput, *, now: float) -> bool:
    """What an outbound call makes of what came of its INVITEs; False: this is something else."""
    match given:
        case Located(attempt, places, target):
            dialing.located(call, attempt, places, target, now=now)
        case Progressed(attempt, response):
            dialing.progressed(call, attempt, response)
        case InviteAnswered():
            dialing.answered(call, given, now=now)
        case InviteRefused(attempt, response, proof):
            dialing.refused(call, attempt, response, proof, now=now)
        case InviteFailed():
            dialing.failed(call, given, now=now)
        case InviteLost(attempt):
            dialing.lost(call, attempt, now=now)
        case InviteDeclined(attempt):
            dialing.declined(call, attempt)
        case AckSent() if call.phase is Phase.ACCEPTED:
            dialing.acknowledged(call, now=now)
            moving.go_on(call)
        case _:
            return False
    return True


def _link_stepped(call: Call, given: CallInput, *, now: float) -> None:
    """What concerns the call that this one is linked with, and re-INVITEs of ours."""
    if call.is_over:
        _came_too_late(call, given, now=now)
        return
    match given:
        case PeerRinging():
            joining.peer_ringing(call)
        case PeerMedia(agreed):
            joining.peer_media(call, agreed)
        case PeerAnswered(agreed):
            joining.peer_answered(call, agreed, now=now)
        case PeerFailed():
            joining.peer_failed(call, given)
        case PeerGone(ended):
            joining.peer_gone(call, ended=ended, now=now)
        case Linked(link, agreed):
            joining.linked(call, link, agreed, now=now)
            call.out.append(Meet())
        case Joined(agreed):
            joining.joined(call, agreed)
        case CodecWanted(agreed):
            reoffering.want_codec(call, agreed)
        case JoinImpossible(detail):
            joining.impossible(call, detail, now=now)
        case JoinRefused(action_id, code, detail):
            call.emit(ActionFailed("join", action_id, code, detail), caused_by=action_id)
            call.done(Join)
        case DialRefused(action_id, detail):
            joining.not_sought(call, action_id, detail)
        case ReinviteAnswered(response):
            reoffering.answered(call, response, now=now)
            moving.arrived(call, now=now)
            call.out.append(Meet())
        case ReinviteRefused(code, reason, chance):
            if not moving.refused(call, code, now=now):
                reoffering.refused(call, code, reason, chance=chance, now=now)
            call.out.append(Meet())
        case KeyPressed(digit, duration_ms, method):
            call.emit(CallDtmf(digit, duration_ms, method))


def _came_too_late(call: Call, given: CallInput, *, now: float) -> None:
    """A call that is over has said its last; but a 2xx wants its ACK, and whoever is to hear it is told."""
    match given:
        case ReinviteAnswered(response):
            reoffering.answered(call, response, now=now)
        case Linked(link):
            call.out.append(Tell(link.peer, PeerGone(ended=True)))


def _taken(call: Call) -> list[CallEffect]:
    effects, call.out = call.out, []
    return effects


def _offer_if_ready(call: Call, *, now: float) -> None:
    if call.is_sought and call.local_sdp is None and call.has_ports:
        dialing.media_opened(call, now=now)


def _no_media(call: Call, *, video: bool, now: float) -> None:
    if video:
        call.video_wanted = False  # a call without its picture is better than none
        if call.has_ports and not call.is_over:
            answering.ports_there(call, now=now)
            _offer_if_ready(call, now=now)
    elif call.move is not None and call.phase is Phase.ANSWERED:
        moving.no_media(call, now=now)
    elif call.is_sought:
        overloaded = Ended("policy", "overload", sip_code=503, sip_reason="Service Unavailable")
        ending.end(call, overloaded, now=now)
    else:
        answering.no_media(call, now=now)


def _end_for(call: Call, ended_by: EndedBy, reason: str, *, now: float) -> None:
    if not call.is_over:
        ending.hang_up(call, ended_by, reason, now=now)


def _drain(call: Call, *, now: float) -> None:
    if call.is_over:
        return
    if call.is_unanswered:
        ending.refuse(call, 503, "node", "drained", now=now, headers=(_LATER,))
    else:
        ending.hang_up(call, "node", "drained", now=now, headers=(_DRAINED,))


def _elapsed(call: Call, timer: CallTimer, *, now: float) -> None:
    match timer:
        case CallTimer.MEDIA_CLOSE:
            ending.media_closed(call, None)
        case CallTimer.PAUSE:
            call.wait_until = None
            call.done()
        case CallTimer.PARK:
            _fall_back(call, "park_timeout", now=now)
        case CallTimer.PARK_RING:
            _ring_parked(call)
        case CallTimer.PROXY:
            proxying.elapsed(call, now=now)
        case CallTimer.RING_LIMIT if proxying.is_under_way(call):
            proxying.expired(call, everybody=True, now=now)
        case CallTimer.RING_LIMIT:
            if call.is_unanswered:
                ending.refuse(call, 480, "policy", "no_answer", now=now)
            elif call.is_sought:
                too_long = Ended("policy", "no_answer", sip_code=408, sip_reason="Request Timeout")
                ending.end(call, too_long, now=now)
        case CallTimer.SEARCH:
            if call.is_sought:
                dialing.expired(call, now=now)
        case CallTimer.GLARE:
            reoffering.try_again(call)
        case CallTimer.TRANSFER:
            transferring.expired(call)
            referred.expired(call, now=now)
        case CallTimer.SESSION:
            reoffering.refresh_session(call, now=now)
        case CallTimer.DURATION_LIMIT:
            _end_for(call, "policy", "max_duration", now=now)


# Lists


def _decided(call: Call, actions: Sequence[Action], *, now: float) -> None:
    if call.is_over or (call.actions_made and all(action == _IMPLIED_PARK for action in actions)):
        # The application has commanded something by REST before it replied: a reply that says nothing (which means
        # `park`) takes nothing of that back.
        return
    _start(call, "decision", actions, now=now)


def _command(call: Call, actions: Sequence[Action], *, listed: bool, now: float) -> None:
    if call.is_over:
        call.out.append(ActionsRefused("ended", "the call has ended"))
        return
    problem = None if listed else _wrong_state(call, actions[0])
    if problem is not None:
        call.out.append(ActionsRefused("wrong_state", problem))
        return
    if not listed and isinstance(actions[0], _BESIDE):
        step = Step(call.new_action_id(), actions[0])
        _carry_out(call, step, now=now)
        call.out.append(ActionsAccepted((step.action_id,)))
        return
    steps = _start(call, "commands" if listed else "command", actions, now=now)
    call.out.append(ActionsAccepted(tuple(step.action_id for step in steps)))


def _start(call: Call, origin: Origin, actions: Sequence[Action], *, now: float) -> list[Step]:
    """Replace what is left of the running list by a new one."""
    call.abandon_list()
    if call.wait_until is not None:  # a pause or a park was running
        call.wait_until = None
        for timer in (CallTimer.PAUSE, CallTimer.PARK, CallTimer.PARK_RING):
            call.out.append(DisarmTimer(timer))
    if origin != "fallback":
        call.cause = None  # the application is with us again
    steps = [Step(call.new_action_id(), action) for action in actions]
    call.list = ActionList.of(origin, steps)
    if not steps:
        call.list = None
        _park(call, _IMPLIED_PARK.timeout_s, now=now)
    return steps


def _fall_back(call: Call, cause: str, *, now: float) -> None:
    if call.cause is not None:
        # The plan itself has come to nothing; there is no plan behind the plan.
        _give_up(call, now=now)
        return
    call.cause = cause
    _start(call, "fallback", call.plan.fallback, now=now)


def _give_up(call: Call, *, now: float) -> None:
    _end_for(call, "policy", call.cause or "application_failed", now=now)


def _go_on(call: Call, *, now: float) -> None:
    """Run the list until a step has to wait, or the list or the call is over.

    On a call that we make, a list has to wait for the answer, unless it is asked for in the meantime and hangs up.
    """
    if call.search is not None and call.phase in (Phase.UNANSWERED, Phase.ACCEPTED):
        asked = call.list if call.list is not None and call.list.origin != "originated" else None
        if asked is None or not asked.left or not isinstance(asked.left[0].action, Hangup):
            return
    while call.list is not None and call.list.current is None and not call.is_over:
        if call.reoffer is not None and call.list.left and isinstance(call.list.left[0].action, _REINVITING):
            return  # one re-INVITE at a time (§14.1): a list waits until the one under way is through
        step = call.list.take()
        if step is None:
            _list_ended(call, call.list.origin, now=now)
            return
        problem = _wrong_state(call, step.action)
        if problem is not None and not _ends_instead(call, call.list.origin, step.action):
            call.list.current = None
            call.emit(ActionFailed(step.action.name, step.action_id, "wrong_state", problem), caused_by=step.action_id)
            call.abandon_list()
            _fall_back(call, "application_failed", now=now)
            continue
        _carry_out(call, step, now=now)


def _list_ended(call: Call, origin: Origin, *, now: float) -> None:
    call.list = None
    if call.phase is not Phase.UNANSWERED or call.search is not None:
        return  # an answered call stays up, and its application may come back to it at any time
    if origin == "command":
        _park(call, _IMPLIED_PARK.timeout_s, now=now)  # one REST action does not say that nothing will follow
    elif call.cause is not None:
        _give_up(call, now=now)
    elif call.dial_failure is not None:
        code, phrase = call.dial_failure
        told = ending.passed_on(code)
        same = phrase or None if told == code else None
        ending.refuse(call, told, "local", ending.reason_of_code(code), now=now, phrase=same)
    else:
        ending.refuse(call, 480, "local", "rejected", now=now)


def _carry_out(call: Call, step: Step, *, now: float) -> None:
    action_id, action = step
    if action.client_state is not None and not isinstance(action, Dial):  # a dial's is the new call's
        call.client_state = action.client_state
    match action:
        case Ring():
            answering.ring(call)
            call.emit(ActionCompleted(action.name, action_id), caused_by=action_id)
            call.done()
        case Answer():
            answering.begin_answer(call, action, action_id, now=now)
            if call.list is not None and not call.list.left:
                call.list = None  # nothing is to follow, and the answer itself is kept in mind elsewhere
        case Reject(code=code, reason=phrase):
            call.done()
            _reject(call, code, phrase, action_id, now=now)
        case Redirect():
            call.done()
            _redirect(call, action, action_id, now=now)
        case Proxy() if call.is_unanswered:
            proxying.begin(call, action, action_id)
        case Proxy():
            call.done()
            ending.hang_up(call, "policy", call.cause or "proxied", now=now, caused_by=action_id)  # as with `reject`
        case Pause(seconds=seconds):
            call.wait_until = now + seconds
            call.out.append(ArmTimer(CallTimer.PAUSE, seconds))
        case Park(timeout_s=timeout_s):
            _park(call, timeout_s, now=now)
        case Hangup(reason=text, headers=extra):
            call.done()
            headers = [(name, value) for name, values in extra.items() for value in values]
            if text is not None:
                quoted = text.replace("\\", "\\\\").replace('"', '\\"')
                headers.append(("Reason", f'Q.850;cause=16;text="{quoted}"'))  # normal call clearing
            by: EndedBy = "policy" if call.cause else "local"
            ending.hang_up(call, by, call.cause or "hangup", now=now, headers=tuple(headers), caused_by=action_id)
        case Dial():
            joining.dial(call, action, action_id, now=now)
        case Join():
            joining.join(call, action, action_id)
        case Transfer():
            transferring.begin(call, action, action_id, now=now)
        case Hold():
            reoffering.hold(call, action_id)
        case Unhold():
            reoffering.unhold(call, action_id)
        case _:
            call.done(type(action))
            _change(call, action, action_id)


def _change(call: Call, action: Action, action_id: ActionId) -> None:
    """The actions that are done as soon as they have begun."""
    match action:
        case Leave():
            joining.leave(call, caused_by=action_id)
        case Mute() | Unmute():
            call.muted = isinstance(action, Mute)
            call.set_media()
            call.emit(ActionCompleted(action.name, action_id), caused_by=action_id)


def _reject(call: Call, code: int, phrase: str | None, action_id: ActionId, *, now: float) -> None:
    by: EndedBy = "policy" if call.cause else "local"
    reason = call.cause or ("rejected" if code == 480 else ending.reason_of_code(code))
    if call.is_unanswered:
        ending.refuse(call, code, by, reason, now=now, phrase=phrase, caused_by=action_id)
    else:
        # Only a fallback plan comes here: what would have refused the call now ends it.
        ending.hang_up(call, by, reason, now=now, caused_by=action_id)


def _redirect(call: Call, action: Redirect, action_id: ActionId, *, now: float) -> None:
    by: EndedBy = "policy" if call.cause else "local"
    reason = call.cause or "redirected"
    if call.is_unanswered:
        ending.redirect(call, action, by, reason, now=now, caused_by=action_id)
    else:
        ending.hang_up(call, by, reason, now=now, caused_by=action_id)  # as with `reject`


def _ends_instead(call: Call, origin: Origin, action: Action) -> bool:
    """Whether a fallback plan means to end a call that it can neither refuse nor send elsewhere any more."""
    if origin != "fallback":
        return False
    return isinstance(action, Reject) or (isinstance(action, Redirect | Proxy) and call.phase is not Phase.UNANSWERED)


def _park(call: Call, timeout_s: float, *, now: float) -> None:
    call.wait_until = now + timeout_s
    call.out.append(ArmTimer(CallTimer.PARK, timeout_s))
    _ring_parked(call)


def _ring_parked(call: Call) -> None:
    """180 now and each minute, so that neither the caller nor a proxy on the way takes us for dead."""
    if call.phase is Phase.UNANSWERED:
        answering.ring(call)
        call.out.append(ArmTimer(CallTimer.PARK_RING, _PARK_RING_S))


def _wrong_state(call: Call, action: Action) -> str | None:
    """Why this action cannot be carried out now; None when it can."""
    if call.is_sought and not isinstance(action, Hangup):
        return f"{action.name} needs a call that is answered, and the party of this one is still being sought"
    state = "being answered" if call.phase in (Phase.ANSWERING, Phase.ACCEPTED) else "answered"
    match action:
        case Ring() | Answer() | Reject() | Redirect() | Proxy() if call.phase is not Phase.UNANSWERED:
            return f"{action.name} needs an unanswered call, and this one is {state}"
        case Redirect(contacts=contacts) if any(ending.leads_astray(call, each) for each in contacts):
            return "redirect needs `sips:` contacts for a call that was made to a `sips:` address"
        case Dial() if call.link is not None:
            return f"dial needs a call that is alone, and this one has {call.link.peer}"
        case Leave() if not call.is_joined:
            return "leave needs a call that is joined, and this one is alone"
        case Transfer():
            return transferring.wrong_state(call)
        case Hold() | Unhold() if call.phase is not Phase.ANSWERED or call.reoffer is not None:
            doing = f"in the middle of {call.reoffer.purpose}" if call.reoffer is not None else "not answered"
            return f"{action.name} needs an answered call that nobody is changing, and this one is {doing}"
    return None
