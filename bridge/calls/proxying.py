"""A call that we pass on as a stateful proxy (§16): its INVITE goes to each target, the chosen answer goes back, and then we are
out of it. No media, no dialog of ours: what is said within theirs goes past us, or through us without a memory of it.

The targets are found, the response context (`sip.response_context`) is stepped, and what it wants becomes effects and events. A
3xx is an answer like any other: it goes back to the caller, who alone may follow it (§16.5 has a proxy do so only for a domain
that it is responsible for). Knows nothing of transactions, flows and names.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from bridge.calls.actions import Proxy
from bridge.calls.call import Call
from bridge.calls.dialing import ELSEWHERE
from bridge.calls.effects import ArmTimer, CallTimer, Keep, Respond
from bridge.calls.ending import end, refuse
from bridge.calls.events import CallProxied, CallRinging
from bridge.calls.facts import ActionId, Contact, Ended, EndedBy
from bridge.calls.passage import (
    TARGETS_MOST,
    AbandonCopy,
    AnsweredAfterAll,
    CancelCopy,
    Copy,
    CopyAnswered,
    CopyLocated,
    CopySilent,
    CopyUndeliverable,
    LocateCopy,
    LookUp,
    OpenPassage,
    Passage,
    PassageInput,
    PassageOpened,
    PassageRefused,
    PassageTakenUp,
    PassBack,
    SendCopy,
    TargetsFound,
)
from bridge.sip.flow import Flow
from bridge.sip.grammar import REASON_PHRASES
from bridge.sip.message import Request, Response
from bridge.sip.response_context import (
    Abandon,
    Answered,
    ArmTimerC,
    CancelAttempt,
    Canceled,
    DisarmTimerC,
    Effect,
    Effects,
    Forget,
    Forward,
    Over,
    Refuse,
    Relay,
    ResponseContext,
    State,
    TimerCFired,
    TimeUp,
    Unanswered,
    Unreachable,
)
from bridge.sip.target_set import Fork, groups
from bridge.sip.user_agent import respond

_BEFORE = PassageOpened | PassageRefused | TargetsFound  # what comes before anybody is asked


def begin(call: Call, action: Proxy, action_id: ActionId) -> None:
    """Let the INVITE pass, if it may."""
    asked = action.targets or (Contact(_invite(call).uri),)
    call.passage = Passage(
        action_id,
        call.actions_made,
        asked,
        not action.targets,
        Fork(action.fork),
        action.record_route,
        action.timeout_s,
    )
    call.out.append(OpenPassage())


def step(call: Call, given: PassageInput, *, now: float) -> None:
    """What has come of it. What concerns a passage that is not there any more is nobody's business."""
    if isinstance(given, AnsweredAfterAll):
        _answered_after_all(call, given, now=now)
        return
    passage = call.passage
    if passage is None or (not isinstance(given, _BEFORE | PassageTakenUp) and given.attempt >= len(passage.copies)):
        return
    if isinstance(given, _BEFORE) and passage.context is not None:
        return
    match given:
        case PassageOpened(loop, breadth):
            passage.loop, passage.breadth = loop, breadth
            _look_up(call, passage, now=now)
        case PassageRefused(status, reason, headers):
            _refuse(call, status, "protocol_error", now=now, phrase=reason, headers=headers)
        case TargetsFound():
            _targets_found(call, passage, given, now=now)
        case CopyLocated(attempt, flow):
            _located(call, passage, attempt, flow, now=now)
        case CopyAnswered(attempt, response):
            passage.heard(attempt, response)
            _give(call, Answered(attempt, response), now=now)
        case CopySilent(attempt):
            _give(call, Unanswered(attempt), now=now)
        case CopyUndeliverable(attempt):
            _give(call, Unreachable(attempt), now=now)
        case PassageTakenUp():
            _taken_up(call, passage, now=now)


def is_under_way(call: Call) -> bool:
    """Whether targets have been asked, and the caller waits for what they say."""
    context = call.passage.context if call.passage is not None else None
    return context is not None and context.state in (State.SEEKING, State.ENDING) and not call.is_over


def canceled(call: Call, reason: str, *, q850: int | None, now: float) -> None:
    """The caller has given up: so do we, at each target, and their answers tell whether that came in time (§16.10)."""
    if call.passage is not None:
        call.passage.canceled, call.passage.q850 = reason, q850
        _give(call, Canceled(), now=now)


def expired(call: Call, *, everybody: bool, now: float) -> None:
    """Those who are tried have rung for long enough. `everybody`: so has the caller waited, and nobody else is tried."""
    _give(call, TimeUp(everybody), now=now)


def elapsed(call: Call, *, now: float) -> None:
    """The next deadline of this passage: of Timer C (§16.8), or of those who are tried."""
    passage = call.passage
    if passage is None or passage.context is None:
        return
    for number, copy in enumerate(passage.copies):
        if copy.timer_c_at and copy.timer_c_at <= now:
            copy.timer_c_at = 0.0
            _give(call, TimerCFired(number), now=now)
    if passage.expires_at and passage.expires_at <= now:
        passage.expires_at = 0.0
        expired(call, everybody=False, now=now)
    _arm(call, passage, now=now)


def _taken_up(call: Call, passage: Passage, *, now: float) -> None:
    """Timer C starts over, as nobody knows how long nobody was there."""
    if call.is_over:
        call.passage = None  # the losers have been canceled once more, and their transactions see to the rest
        return
    if passage.context is None:
        call.out.append(OpenPassage())
        return
    _carry_out(call, passage, passage.context.deadlines(), now=now)
    for number, copy in enumerate(passage.copies):
        if copy.flow is None and copy.timer_c_at:
            call.out.append(LocateCopy(number))


def _look_up(call: Call, passage: Passage, *, now: float) -> None:
    while passage.looked_up < len(passage.asked):
        asked = passage.asked[passage.looked_up]
        if passage.by_default or call.plan.destinations.permit(asked.uri):
            call.out.append(LookUp(asked.uri))
            return
        passage.looked_up += 1
        passage.forbidden += 1
    _set_out(call, passage, now=now)


def _targets_found(call: Call, passage: Passage, given: TargetsFound, *, now: float) -> None:
    if passage.context is not None or passage.looked_up >= len(passage.asked) or call.is_over:
        return
    asked = passage.asked[passage.looked_up]
    passage.looked_up += 1
    if given.targets is None:
        _refuse(call, 500, "store_away", now=now, phrase="Store Away", by="node")
        return
    for target, flow in given.targets:
        if flow is None and passage.by_default and not call.plan.destinations.permit(target.uri):
            passage.forbidden += 1
            continue
        if len(passage.found) >= TARGETS_MOST:
            break
        preferred = target if asked.q is None else target._replace(q=asked.q)
        if flow is not None:
            passage.ways.append(flow)
            preferred = preferred._replace(way=len(passage.ways))
        passage.found.append(preferred)
    _look_up(call, passage, now=now)


def _set_out(call: Call, passage: Passage, *, now: float) -> None:
    """The target set is complete: the first of them are asked."""
    order = groups(passage.found, passage.fork)
    passage.found = []
    if not order and passage.forbidden:
        _refuse(call, 403, "forbidden", now=now, phrase="Destination Not Allowed")
    elif any(len(each) > passage.breadth for each in order):
        _refuse(call, 440, "protocol_error", now=now)  # RFC 5393 §5.3.3: in turn would be slower than the caller thinks
    else:
        passage.share = passage.breadth // max([len(each) for each in order], default=1)
        passage.context = ResponseContext("INVITE", order)
        _carry_out(call, passage, passage.context.begin(), now=now)


def _refuse(
    call: Call,
    status: int,
    reason: str,
    *,
    now: float,
    phrase: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    by: EndedBy = "policy",
) -> None:
    passage = call.passage
    if passage is None or call.is_over:
        return
    call.done(Proxy)
    call.passage = None
    refuse(call, status, by, reason, now=now, phrase=phrase, headers=headers, caused_by=passage.action_id)


def _located(call: Call, passage: Passage, number: int, flow: Flow, *, now: float) -> None:
    """It is stored where the copy goes before it does: an heir has to know whom to ask for the answer."""
    copy = passage.copies[number]
    if copy.flow is None and not copy.canceled:
        copy.flow, copy.sent_at = flow, now
        call.out.append(SendCopy(number))


def _give(
    call: Call, given: Answered | Unanswered | Unreachable | TimerCFired | TimeUp | Canceled, *, now: float
) -> None:
    passage = call.passage
    if passage is not None and passage.context is not None:
        _carry_out(call, passage, passage.context.step(given), now=now)


def _carry_out(call: Call, passage: Passage, effects: Effects, *, now: float) -> None:
    """What the context wants, one after the other; a copy that has never left says nothing, and is over when it is given up."""
    context = passage.context
    if context is None:
        raise AssertionError("a context has said something")
    wanted: deque[Effect] = deque(effects)
    while wanted:
        effect = wanted.popleft()
        match effect:
            case Forward(number, target):
                passage.copies.append(Copy())
                passage.expires_at = now + passage.timeout_s
                way = passage.way(target)
                if way is None:
                    call.out.append(LocateCopy(number))
                else:
                    _located(call, passage, number, way, now=now)
            case CancelAttempt(number):
                copy = passage.copies[number]
                copy.canceled = True
                if copy.sent_at:
                    call.out.append(CancelCopy(passage.serial, passage.loop, number, _farewell(passage, context)))
                else:
                    wanted.extend(context.step(Unanswered(number)))
            case Abandon(number):
                call.out.append(AbandonCopy(number))
            case ArmTimerC(number, delay):
                passage.copies[number].timer_c_at = now + delay
            case DisarmTimerC(number):
                passage.copies[number].timer_c_at = 0.0
            case Relay(response, beside):
                _relay(call, passage, response, beside=beside, now=now)
            case Refuse(status):
                refusal = respond(_invite(call), status, to_tag=call.tag, headers=(("Server", call.identity.server),))
                _final(call, passage, refusal, None, now=now)
            case Over():
                passage.expires_at = 0.0
            case Forget():
                pass  # said of what is no INVITE
            case _:
                assert_never(effect)
    if not call.is_over:
        call.out.append(Keep())
    _arm(call, passage, now=now)


def _relay(call: Call, passage: Passage, response: Response, *, beside: bool, now: float) -> None:
    """Back to the caller: what is no 2xx in the transaction of its INVITE, and each 2xx, how many there may be."""
    if 200 <= response.status < 300:
        first = not (beside or call.is_over)
        call.out.append(PassBack(response, gated=first))
        if first:
            _finish(call, passage, response, passage.said_by(passage.speaking), now=now)
    elif response.status >= 300:
        _final(call, passage, response, passage.said_by(passage.refused_by(response)), now=now)
    elif call.invite_key is not None and not call.is_over:
        call.out.append(Respond(call.invite_key, response, gated=False))
        if response.status == 180 and not call.ringing:
            call.ringing = True
            call.emit(CallRinging(passage.said_by(passage.speaking) or call.to.uri), caused_by=passage.action_id)


def _final(call: Call, passage: Passage, response: Response, target: str | None, *, now: float) -> None:
    if call.is_over:
        return
    if call.invite_key is not None:
        call.out.append(Respond(call.invite_key, response, gated=True))
    _finish(call, passage, response, target, now=now)


def _finish(call: Call, passage: Passage, response: Response, target: str | None, *, now: float) -> None:
    """The final response has passed: the call is over for us, though some who were asked may not have said their last word."""
    call.done(Proxy)
    status, reason = response.status, response.reason or REASON_PHRASES.get(response.status, "")
    if passage.canceled and status == 487:
        given_up = Ended("remote", passage.canceled, sip_code=487, sip_reason="Request Terminated", q850=passage.q850)
        end(call, given_up, now=now)
        return
    call.emit(CallProxied(status, reason, target), caused_by=passage.action_id)
    by: EndedBy = "local" if target is None else "remote"
    end(call, Ended(by, "proxied", sip_code=status, sip_reason=reason), now=now, caused_by=passage.action_id)


def _answered_after_all(call: Call, given: AnsweredAfterAll, *, now: float) -> None:
    """A 2xx goes back whatever has become of its passage (§16.7 step 5), and then the caller has whom it wanted: while nothing
    else has been answered, this is what its call has come to."""
    if not call.is_unanswered:
        call.out.append(PassBack(given.response, gated=False))
        return
    call.abandon_list()
    call.out.append(PassBack(given.response, gated=True))
    status, reason = given.response.status, given.response.reason
    call.emit(CallProxied(status, reason, given.target))
    end(call, Ended("remote", "proxied", sip_code=status, sip_reason=reason), now=now)


def _farewell(passage: Passage, context: ResponseContext) -> str | None:
    """No missed call for those who rang while somebody else answered (RFC 3326)."""
    elsewhere = context.state is State.ANSWERED or passage.canceled == "answered_elsewhere"
    return ELSEWHERE if elsewhere else None


def _arm(call: Call, passage: Passage, *, now: float) -> None:
    """One timer for all."""
    times = [each.timer_c_at for each in passage.copies if each.timer_c_at]
    if passage.expires_at and not call.is_over:
        times.append(passage.expires_at)
    if times:
        call.out.append(ArmTimer(CallTimer.PROXY, max(0.0, min(times) - now)))


def _invite(call: Call) -> Request:
    if call.invite is None:
        raise AssertionError("the INVITE is kept as long as it has no answer")
    return call.invite
