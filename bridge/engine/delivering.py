"""From events that are stored to webhooks that are settled: turns the outbox's effects into the node's, and an
application's reply into what its call does next.
"""

from __future__ import annotations

from bridge.calls.actions import Action
from bridge.calls.events import DECISIONS, REFERRING
from bridge.calls.facts import CallId
from bridge.calls.inputs import Decided, ReferralDecided, ReferralUndecided, ReplyUnusable, Undecided
from bridge.calls.referral import AcceptTransfer, RejectTransfer, TransferDecision
from bridge.calls.sealing import sealed_actions
from bridge.engine import registering, streams
from bridge.engine.carrying import drop, step
from bridge.engine.commit import Ack, Postponed, Release
from bridge.engine.effects import Acknowledge, Deliver, Noted, Postpone
from bridge.engine.gate import Publish
from bridge.engine.holdings import Holding, Holdings, Leg, NodeTimer
from bridge.engine.registrations import RegistrationDecision, aor_of
from bridge.outbox.health import advice, mask_url
from bridge.outbox.queue import (
    Attempt,
    DeadEvent,
    DecisionFailed,
    DecisionReached,
    EndpointDisabled,
    FallbackAsked,
    LateReply,
    OutboxEffect,
    Retried,
    Settled,
)


def publish(holdings: Holdings, leg: Leg, publish: Publish, *, now: float) -> None:
    """An event is stored: queue it for every endpoint of its application."""
    # Nobody waits for the decision of a call that ended, or was commanded by REST, while its first event was written.
    decision = publish.type in DECISIONS and leg.call.is_undecided
    if publish.type == REFERRING and leg.call.referral is not None and leg.call.referral.stage == "asked":
        leg.asking, decision = publish.event_id, True
    leg.queued = publish.sequence
    effects = holdings.outbox.enqueue(
        publish.call,
        publish.event_id,
        publish.type,
        publish.sequence,
        publish.body,
        leg.application.endpoints,
        decision=decision,
        now=now,
    )
    carry_deliveries(holdings, effects, now=now)
    let_go(holdings, leg)


def carry_deliveries(
    holdings: Holdings, effects: list[OutboxEffect[Action | RegistrationDecision | TransferDecision]], *, now: float
) -> None:
    """Carry out what the outbox asks, in its order. Streams that are no call's are the registrar's."""
    for effect in effects:
        match effect:
            case Attempt(delivery):
                holdings.out.append(Deliver(delivery))
            case Settled(call, endpoint, sequence):
                _settled(holdings, call, endpoint, sequence, now=now)
            case DecisionReached():
                _decided(holdings, effect, now=now)
            case DecisionFailed():
                _undecided(holdings, effect, now=now)
            case FallbackAsked():
                _fallback_asked(holdings, effect, now=now)
            case Retried(call, endpoint, sequence, attempts, due):
                due_ms = round(due * 1000)
                holdings.out.append(Postpone(Postponed(call, endpoint, sequence, attempts, due_ms)))
            case DeadEvent():
                dead = (
                    ("endpoint", effect.endpoint),
                    ("type", effect.event_type),
                    ("reason", effect.reason),
                    ("id", effect.event_id),
                )
                holdings.out.append(Noted("error", "webhook_dead", CallId(effect.call), dead))
            case EndpointDisabled(endpoint, url):
                holdings.out.append(
                    Noted("error", "endpoint_disabled", None, (("endpoint", endpoint), ("url", mask_url(url))))
                )
            case LateReply(call, event_id, endpoint, _, outcome):
                late = (("endpoint", endpoint), ("id", event_id), ("took_s", round(outcome.took_s, 3)))
                holdings.out.append(Noted("warning", "late_reply_ignored", CallId(call), late))


def _decided(
    holdings: Holdings,
    reached: DecisionReached[Action | RegistrationDecision | TransferDecision],
    *,
    now: float,
) -> None:
    leg, aor = holdings.legs.get(CallId(reached.call)), aor_of(reached.call)
    if leg is None:
        if aor is not None:
            registering.decided(holdings, aor, reached.reply, now=now)
        return
    leg.holding.decided = not leg.call.is_over
    if reached.event_id == leg.asking:
        leg.asking = None
        decisions = (each for each in reached.reply if isinstance(each, AcceptTransfer | RejectTransfer))
        step(holdings, leg, ReferralDecided(next(decisions, RejectTransfer())), now=now)
        return
    actions = [
        each for each in reached.reply if not isinstance(each, RegistrationDecision | AcceptTransfer | RejectTransfer)
    ]
    step(holdings, leg, Decided(sealed_actions(actions, holdings.seal)), now=now)


def finish_if_done(holdings: Holdings, holding: Holding, *, now: float) -> None:
    """Give up the live record once every call has ended, every event is settled everywhere, and nobody whom we have given up
    may still answer: as long as that may be, another process would have to see to it."""
    if holding.id in holdings.conversations and all(
        leg.concluded and holdings.outbox.settled(call) and not leg.call.is_canceling
        for call, leg in holding.legs.items()
    ):
        release = Release(holding.id, tuple(holding.legs), holdings.settings.owner)
        holdings.out.append(release)
        holdings.remember_release(release, now=now)
        drop(holdings, holding)


def _settled(holdings: Holdings, call: str, endpoint: str, sequence: int, *, now: float) -> None:
    leg, aor = holdings.legs.get(CallId(call)), aor_of(call)
    if aor is not None:
        streams.settled(holdings, aor, endpoint, sequence)
    if leg is None:
        return
    leg.acks[endpoint] = leg.cursors[endpoint] = sequence
    let_go(holdings, leg)
    if leg.concluded and holdings.outbox.settled(call):
        finish_if_done(holdings, leg.holding, now=now)
        return
    key = (leg.call.id, NodeTimer.ACKNOWLEDGE)
    if not leg.holding.decided and key not in holdings.agenda:
        holdings.agenda.arm(key, now + holdings.settings.acknowledge_after_s)


def acknowledge(holdings: Holdings, leg: Leg) -> None:
    """No write has come by that the acks could ride with."""
    if leg.acks and not leg.holding.decided:
        holdings.out.append(Acknowledge(tuple(Ack(leg.call.id, *each) for each in leg.acks.items())))
        leg.acks.clear()


def let_go(holdings: Holdings, leg: Leg) -> None:
    """Forget the bodies that nobody waits for any more."""
    if not leg.published:
        return
    floor = leg.queued
    if not holdings.outbox.settled(leg.call.id):
        if len(leg.cursors) < len(leg.application.endpoints):
            return
        floor = min(leg.cursors.values())
    if next(iter(leg.published)) <= floor:
        leg.published = {sequence: body for sequence, body in leg.published.items() if sequence > floor}


def _undecided(holdings: Holdings, failed: DecisionFailed, *, now: float) -> None:
    leg, aor = holdings.legs.get(CallId(failed.call)), aor_of(failed.call)
    if leg is None and aor is None:
        return
    code = "invalid_reply" if failed.why == "invalid_reply" else "no_reply"
    detail, field = explain(failed)
    facts = (("url", mask_url(failed.url or "")), ("why", failed.why), ("advice", detail))
    holdings.out.append(Noted("error", "decision_failed", CallId(failed.call), facts))
    if leg is not None and failed.event_id == leg.asking:
        leg.asking = None
        step(holdings, leg, ReferralUndecided(code, detail, field), now=now)
    elif leg is not None:
        step(holdings, leg, Undecided(code, detail, field), now=now)
    elif aor is not None:
        registering.undecided(holdings, aor, now=now)


def _fallback_asked(holdings: Holdings, asked: FallbackAsked, *, now: float) -> None:
    leg = holdings.legs.get(CallId(asked.call))
    if leg is None and aor_of(asked.call) is None:
        return
    detail, field = explain(asked)
    facts = (("url", mask_url(asked.url)), ("why", asked.why), ("advice", detail))
    holdings.out.append(Noted("warning", "fallback_url_asked", CallId(asked.call), facts))
    if leg is not None and asked.invalid is not None:
        step(holdings, leg, ReplyUnusable(detail, field), now=now)


def explain(failed: DecisionFailed | FallbackAsked) -> tuple[str, str | None]:
    """A sentence for a person, and the field of the reply that it is about."""
    if failed.invalid is not None:
        return failed.invalid.detail, failed.invalid.field
    if failed.why == "no_endpoint":
        return "the application has no endpoint that decides", None
    if failed.outcome is not None and failed.url is not None:
        return advice(failed.url, failed.outcome), None
    if failed.why == "disabled":
        return "the endpoint answered 410 and gets nothing more: mend it, then restart the bridge", None
    if failed.why == "timeout":
        return "no reply came before the deadline: reply at once, and go on by REST", None
    return f"no decision: {failed.why}", None
