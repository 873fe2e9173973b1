"""One step of a call: an input and the time in, effects out.

Sends each input to the chapter it belongs to, then lets the action list go on as far as it can. This is where it is
written what each action does in which state (contract §1).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.calls import answering, ending, holding
from bridge.calls.actions import Action, Answer, Hangup, Park, Pause, Reject, Ring
from bridge.calls.call import Call, Phase
from bridge.calls.effects import ActionsAccepted, ActionsRefused, ArmTimer, CallEffect, CallTimer, DisarmTimer
from bridge.calls.events import ActionCompleted, ActionFailed
from bridge.calls.facts import ActionId, Ended, EndedBy
from bridge.calls.inputs import (
    AcceptSent,
    Acknowledged,
    ByeReceived,
    CallInput,
    CancelReceived,
    Commanded,
    Decided,
    Drained,
    Elapsed,
    EventsExhausted,
    MediaClosed,
    MediaGone,
    MediaOpened,
    MediaRefused,
    MediaSilent,
    ReInvited,
    ReplyUnusable,
    StoreTooLate,
    Unacknowledged,
    Undecided,
)
from bridge.calls.lists import ActionList, Origin, Step

_PARK_RING_S = 60.0  # contract: an unanswered parked call gets 180, repeated each minute
_IMPLIED_PARK = Park()
_LATER = ("Retry-After", "10")
_DRAINED = ("Reason", 'SIP;cause=503;text="drained"')  # survival §4


def begin(call: Call) -> list[CallEffect]:
    """The first step of a new call."""
    answering.announce(call)
    return _taken(call)


def step(call: Call, given: CallInput, *, now: float) -> list[CallEffect]:
    """Whatever `given` causes, in the order in which it shall happen."""
    match given:
        case Acknowledged(sequence, ack) if call.phase is Phase.ACCEPTED:
            answering.acknowledged(call, ack, now=now)
        case Acknowledged(sequence, ack):
            holding.reinvite_acknowledged(call, sequence, ack, now=now)
        case ByeReceived(q850) if not call.accept_sent:
            answering.canceled(call, q850=q850, now=now)  # a BYE in the early dialog ends it as a CANCEL does (§15)
        case ByeReceived(q850):
            if not call.is_over:
                ending.end(call, Ended("remote", "hangup", q850=q850), now=now)
        case MediaOpened(address, port):
            answering.media_opened(call, address, port, now=now)
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
        case CancelReceived(q850):
            answering.canceled(call, q850=q850, now=now)
        case ReInvited(key, request):
            holding.reinvited(call, key, request)
        case Unacknowledged():
            answering.unacknowledged(call, now=now)
        case MediaRefused():
            answering.no_media(call, now=now)
        case MediaSilent():
            _end_for(call, "network", "media_timeout", now=now)
        case MediaGone():
            ending.media_closed(call, None)
            _end_for(call, "node", "node_lost", now=now)
        case StoreTooLate():
            if not call.is_over and not call.accept_sent:
                ending.refuse(call, 503, "node", "store_away", now=now, headers=(_LATER,), gated=False)
        case EventsExhausted():
            _end_for(call, "policy", "overload", now=now)
        case Drained():
            _drain(call, now=now)
        case Elapsed(timer):
            _elapsed(call, timer, now=now)
    _go_on(call, now=now)
    return _taken(call)


def _taken(call: Call) -> list[CallEffect]:
    effects, call.out = call.out, []
    return effects


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
            _done(call)
        case CallTimer.PARK:
            _fall_back(call, "park_timeout", now=now)
        case CallTimer.PARK_RING:
            _ring_parked(call)
        case CallTimer.RING_LIMIT:
            if call.is_unanswered:
                ending.refuse(call, 480, "policy", "no_answer", now=now)
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
    """Run the list until a step has to wait, or the list or the call is over."""
    while call.list is not None and call.list.current is None and not call.is_over:
        step = call.list.take()
        if step is None:
            _list_ended(call, call.list.origin, now=now)
            return
        problem = _wrong_state(call, step.action)
        if problem is not None and not (call.list.origin == "fallback" and isinstance(step.action, Reject)):
            call.list.current = None
            call.emit(ActionFailed(step.action.name, step.action_id, "wrong_state", problem), caused_by=step.action_id)
            call.abandon_list()
            _fall_back(call, "application_failed", now=now)
            continue
        _carry_out(call, step, now=now)


def _list_ended(call: Call, origin: Origin, *, now: float) -> None:
    call.list = None
    if call.phase is not Phase.UNANSWERED:
        return  # an answered call stays up, and its application may come back to it at any time
    if origin == "command":
        _park(call, _IMPLIED_PARK.timeout_s, now=now)  # one REST action does not say that nothing will follow
    elif call.cause is not None:
        _give_up(call, now=now)
    else:
        ending.refuse(call, 480, "local", "rejected", now=now)


def _carry_out(call: Call, step: Step, *, now: float) -> None:
    action_id, action = step
    if action.client_state is not None:
        call.client_state = action.client_state
    match action:
        case Ring():
            answering.ring(call)
            call.emit(ActionCompleted(action.name, action_id), caused_by=action_id)
            _done(call)
        case Answer():
            answering.begin_answer(call, action, action_id)
            if call.list is not None and not call.list.left:
                call.list = None  # nothing is to follow, and the answer itself is kept in mind elsewhere
        case Reject(code=code, reason=phrase):
            _done(call)
            _reject(call, code, phrase, action_id, now=now)
        case Pause(seconds=seconds):
            call.wait_until = now + seconds
            call.out.append(ArmTimer(CallTimer.PAUSE, seconds))
        case Park(timeout_s=timeout_s):
            _park(call, timeout_s, now=now)
        case Hangup(reason=text, headers=extra):
            _done(call)
            headers = [(name, value) for name, values in extra.items() for value in values]
            if text is not None:
                quoted = text.replace("\\", "\\\\").replace('"', '\\"')
                headers.append(("Reason", f'Q.850;cause=16;text="{quoted}"'))  # normal call clearing
            by: EndedBy = "policy" if call.cause else "local"
            ending.hang_up(call, by, call.cause or "hangup", now=now, headers=tuple(headers), caused_by=action_id)


def _done(call: Call) -> None:
    if call.list is not None:
        call.list.current = None


def _reject(call: Call, code: int, phrase: str | None, action_id: ActionId, *, now: float) -> None:
    by: EndedBy = "policy" if call.cause else "local"
    reason = call.cause or ("rejected" if code == 480 else ending.reason_of_code(code))
    if call.is_unanswered:
        ending.refuse(call, code, by, reason, now=now, phrase=phrase, caused_by=action_id)
    else:
        # Only a fallback plan comes here: what would have refused the call now ends it.
        ending.hang_up(call, by, reason, now=now, caused_by=action_id)


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
    if isinstance(action, Ring | Answer | Reject) and call.phase is not Phase.UNANSWERED:
        state = "being answered" if call.phase in (Phase.ANSWERING, Phase.ACCEPTED) else "answered"
        return f"{action.name} needs an unanswered call, and this one is {state}"
    return None
