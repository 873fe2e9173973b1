"""Whose a conversation is, as far as the store has a say: writes acknowledged, refused, claimed back after a crash
(survival §1, §4).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bridge.calls import session_timing, snapshot
from bridge.calls.answering import accepted_response, provisional_response
from bridge.calls.call import Call, Phase, Plan
from bridge.calls.dialing import ELSEWHERE
from bridge.calls.effects import Accept, CallTimer, Respond
from bridge.calls.events import DECISIONS, REFERRING
from bridge.calls.facts import CallId, EventId, Move
from bridge.calls.inputs import CarriedOn, Elapsed, InviteLost, MediaClosed, MediaGone
from bridge.calls.passage import PassageTakenUp
from bridge.calls.peering import PeerGone
from bridge.calls.sealing import unreadable
from bridge.calls.search import InviteAttempt, Stage
from bridge.calls.streams import rule_of, video_rule_of, video_session
from bridge.engine import linking, locating, proxying, referred, referring, seeking
from bridge.engine.carrying import drop, forget, open_ports, release, settle, sip_outcomes, step
from bridge.engine.commit import Ending, EventWrite, Remembered, StoredCall, StoredConversation
from bridge.engine.delivering import carry_deliveries, finish_if_done, let_go, publish
from bridge.engine.effects import AdoptPorts, HeldPorts, Noted, OpenPorts, OriginateRefused
from bridge.engine.fencing import sure
from bridge.engine.gate import Acknowledging, Answering, Concluded, Inviting, Moved, Promised, Publish
from bridge.engine.handover import stay
from bridge.engine.holdings import RELEASES_KEPT_S, Holding, Holdings, Leg, NodeTimer, Unwritten
from bridge.engine.inputs import CommitRefused, Former
from bridge.engine.passing import pass_invite_on
from bridge.engine.settings import Application, Listener
from bridge.engine.writing import commit, write
from bridge.outbox.queue import read_event
from bridge.rtp.rules import Rule
from bridge.sdp.video import offers_video
from bridge.sip.endpoint import RequestArrived
from bridge.sip.flow import Flow
from bridge.sip.invite_usage import InviteArrived, InviteUsage
from bridge.sip.message import Request
from bridge.sip.parser import parse

_AUDIT_PACE_S = 0.002  # between two conversations: 10,000 take 20 s, and nobody waits for them
_REOFFER_AGAIN_S = 2.0  # a re-INVITE that may have been under way: its transaction at the far end is over, or refuses
_SEQUENCE_GAP = 1_000  # per epoch: what a predecessor still sends is behind ours, and refused (survival §1)


def committed(holdings: Holdings, ticket: int, *, now: float) -> None:
    """A write is acknowledged: what waited for it leaves."""
    holding = holdings.tickets.pop(ticket, None)
    if holding is None:
        return
    if holding.unsure:
        sure(holdings, holding, ticket)
    for waiting in holding.gate.open(ticket):
        leg = holdings.legs.get(waiting.call)
        if isinstance(waiting, Publish):
            if leg is not None:
                publish(holdings, leg, waiting, now=now)
            continue
        release(holdings, waiting, now=now)
        left = holdings.conversations.get(waiting.conversation) if isinstance(waiting, Moved) else None
        if left is not None:
            finish_if_done(holdings, left, now=now)  # whoever is left there may have ended long ago
        if isinstance(waiting, Concluded):
            carry_deliveries(holdings, holdings.outbox.withdraw(waiting.call, now=now), now=now)
            finish_if_done(holdings, holding, now=now)


def refused(holdings: Holdings, given: CommitRefused, *, now: float) -> None:
    """A write was not applied."""
    holding = holdings.tickets.pop(given.ticket, None)
    if holding is None:
        return
    write(holdings, holding)  # what has changed meanwhile waits at the gate from here on, with all the rest
    calls = tuple(holding.legs)
    if given.why == "claimed" and given.remembered is not None:
        _answered_before(holdings, holding, given.ticket, given.remembered)
        return
    if given.why == "stale":
        _hand_over(holdings, holding)
        if not holding.legs:
            return  # where its calls have gone, they are written anew
        rewrite(holdings, holding)
        holdings.out.append(Noted("warning", "store_was_older", calls[0] if calls else None))
        return
    if given.why == "exists" and holdings.settings.clustered:
        for leg in holding.legs.values():
            pass_invite_on(holdings, leg)
        drop(holdings, holding)
        return
    # Somebody else has it, or had it before us. No BYE, no answer: the call lives elsewhere.
    holdings.out.append(Noted("warning", "conversation_let_go", calls[0] if calls else None, (("why", given.why),)))
    for waiting in holding.gate.waiting():
        if isinstance(waiting, Promised):
            detail = "another node carries this conversation"
            holdings.out.append(OriginateRefused(waiting.request, "not_found", detail))
    drop(holdings, holding)


def _hand_over(holdings: Holdings, holding: Holding) -> None:
    """What waits here for calls that have moved since waits where they are now: it is stored with them, or not at all."""
    for waiting in reversed(holding.gate.take_others(holding.legs)):
        leg = holdings.legs.get(waiting.call)
        if leg is not None and len(leg.holding.gate):
            leg.holding.gate.put_first([waiting])


def _answered_before(holdings: Holdings, holding: Holding, ticket: int, remembered: Remembered) -> None:
    """An Idempotency-Key was somebody else's already: the call that should have begun under it does not exist."""
    promised = next((each for each in holding.gate.of(ticket) if isinstance(each, Promised)), None)
    if promised is None:
        return
    detail = "this Idempotency-Key has been used before"
    holdings.out.append(OriginateRefused(promised.request, "key_reused", detail, remembered))
    leg = holding.legs[promised.call]
    if len(holding.legs) == 1:
        drop(holdings, holding)
        return
    forget(holdings, leg)
    rewrite(holdings, holding)  # the others' conversation goes on, and this version of it was not written


def rewrite(holdings: Holdings, holding: Holding) -> None:
    """The store knows less than we do: write everything again, with what is not delivered yet, at a higher epoch."""
    for ticket in holding.gate.tickets():
        holdings.tickets.pop(ticket, None)
    holding.epoch += 1
    events = [EventWrite(call, *event) for call, leg in holding.legs.items() for event in leg.published.items()]
    endings = [
        Ending(call, holdings.render.record(leg.call))
        for call, leg in holding.legs.items()
        if leg.call.phase is Phase.ENDED
    ]
    waiting = list(holding.gate.waiting())
    unwritten = Unwritten(events=events, endings=endings)
    unwritten.takes = tuple(
        [take for leg in holding.legs.values() for take in leg.takes if take.conversation != holding.id]
    )
    unwritten.promised = next((each for each in waiting if isinstance(each, Promised) and each.claim is not None), None)
    commit(holdings, holding, unwritten, whole=True)


def audit(holdings: Holdings, *, now: float) -> None:
    """The store is back, perhaps as another or an emptied one: have each conversation written, one after the other.

    A store that still has it takes one small write; one that has not answers that it is stale, and is told everything.
    """
    for place, holding in enumerate(holdings.conversations.values()):
        call = next(iter(holding.legs))
        holdings.agenda.arm((call, NodeTimer.AUDIT), now + place * _AUDIT_PACE_S)
    for at, known in holdings.released:
        # Should it have forgotten that, the record would stay for ever, and our heir raise its calls from the dead.
        if at > now - RELEASES_KEPT_S and known.conversation not in holdings.conversations:
            holdings.out.append(known)


def claimed(
    holdings: Holdings, conversations: Sequence[StoredConversation], former: Former | None, *, now: float
) -> None:
    """Carry on what a dead predecessor left, or another node that has died."""
    revived: list[tuple[Holding, StoredConversation, Former | None]] = []
    for stored in conversations:
        carrier = _carrier(holdings, stored, former, now=now)
        if stored.conversation in holdings.conversations:
            continue  # asked twice, answered twice
        try:
            holding = _held(stored)
        except (ValueError, TypeError, AttributeError) as problem:
            _unread(holdings, stored.calls[0].call if stored.calls else None, problem)
            continue
        for each in stored.calls:
            try:
                leg = _revive(holdings, holding, each)
                if carrier is not None and carrier.holds and leg.call.dialog is not None:
                    flow = leg.call.dialog.flow
                    leg.call.dialog.flow = flow._replace(node=flow.node or carrier.holds)
            except (snapshot.UnreadableSnapshot, LookupError, ValueError, TypeError) as problem:
                _unread(holdings, each.call, problem)
                continue
            holding.legs[each.call] = holdings.legs[each.call] = leg
        if not holding.legs:
            continue  # what we cannot read stays in the store, for somebody who can
        for leg in holding.legs.values():
            stay(holdings, leg.call)
        holdings.conversations[holding.id] = holding
        revived.append((holding, stored, carrier))
    if former is None:
        at_home = [holding for holding, _, carrier in revived if carrier is None]
        _adopt_ports(holdings, [leg for holding in at_home for leg in holding.legs.values()])
    for holding, stored, carrier in revived:
        for each in stored.calls:
            found = holding.legs.get(each.call)
            if found is not None:
                _resume(holdings, found, each, carrier, now=now)
        for leg in list(holding.legs.values()):
            if leg.call.link is not None and not _is_linked_back(holdings, leg):
                step(holdings, leg, PeerGone(ended=False), now=now)
        finish_if_done(holdings, holding, now=now)
    for leg in [leg for holding, _, _ in revived for leg in holding.legs.values()]:
        linking.join_again(holdings, leg, now=now)
        referring.take_up(holdings, leg)
        referred.take_up(holdings, leg)
        settle(holdings, now=now)  # the next one may wait for this one
    if conversations:
        whose = (("former", former.node_id),) if former is not None else ()
        holdings.out.append(Noted("info", "conversations_claimed", None, (("count", len(conversations)), *whose)))


def _unread(holdings: Holdings, call: CallId | None, problem: Exception) -> None:
    """One damaged record must not keep the others from being carried on."""
    facts = (("problem", f"{type(problem).__name__}: {problem}"),)
    holdings.out.append(Noted("error", "snapshot_unreadable", call, facts))


def _carrier(holdings: Holdings, stored: StoredConversation, former: Former | None, *, now: float) -> Former | None:
    """Who has carried it last: whoever had it by the store may never have taken it up. None: our own name, whose media
    workers play on."""
    if not stored.handed_by or (former is not None and former.node_id != holdings.settings.node_id):
        return former
    return Former(stored.handed_by, now if former is None else former.silent_since)


def _adopt_ports(holdings: Holdings, legs: Sequence[Leg]) -> None:
    """First of all: what the workers may keep. Ports that are asked for from here on are none of what they have to close."""
    held: dict[str, HeldPorts] = {
        leg.call.id: HeldPorts(leg.call.media_port or 0, _rule(holdings, leg)) for leg in legs if _keeps_ports(leg)
    }
    for leg in legs:
        if _keeps_ports(leg) and leg.call.video_port is not None:
            held[video_session(leg.call.id)] = HeldPorts(
                leg.call.video_port, video_rule_of(leg.call, _peer(holdings, leg))
            )
    holdings.out.append(AdoptPorts(held))


def _is_linked_back(holdings: Holdings, leg: Leg) -> bool:
    """Whether the call that this one is linked with knows of it. A process may die between the writes of the two."""
    peer = _peer(holdings, leg)
    return peer is not None and peer.link is not None and peer.link.peer == leg.call.id


def _keeps_ports(leg: Leg) -> bool:
    return leg.call.media_open and not leg.call.is_over and leg.call.move is None


def _rule(holdings: Holdings, leg: Leg) -> Rule | None:
    return None if leg.call.negotiated is None else rule_of(leg.call, _peer(holdings, leg))


def _peer(holdings: Holdings, leg: Leg) -> Call | None:
    peer = holdings.legs.get(leg.call.link.peer) if leg.call.link is not None else None
    return peer.call if peer is not None else None


def _held(stored: StoredConversation) -> Holding:
    """The conversation without its calls."""
    head = json.loads(stored.head)
    created_at = float(head.get("created_at", 0.0))
    holding = Holding(stored.conversation, created_at=created_at, epoch=stored.epoch, nonce=stored.nonce)
    holding.version = stored.version
    holding.snapshot = head.get("v", 1)
    holding.unknown = snapshot.unknown(head, ("v", "created_at", "calls"))
    return holding


def _revive(holdings: Holdings, holding: Holding, stored: StoredCall) -> Leg:
    """The call as it was when it was last written."""
    reads = holdings.settings.snapshots
    fixed, variable = snapshot.read(stored.fixed, reads), snapshot.read(stored.variable, reads)
    name = fixed["application"]
    # An application that is configured no more gets nothing, and its events are nobody else's: the call follows the plan.
    application = holdings.application(name) or Application(name, Plan(name), endpoints=())
    listener = _known_listeners(holdings, fixed, variable)
    call = snapshot.revive(
        id=stored.call,
        conversation_id=holding.id,
        fixed=fixed,
        variable=variable,
        plan=application.plan,
        identity=listener.identity,
        seal=holdings.seal,
    )
    for username in sorted(unreadable(call)):
        # The call goes on: a target that asks for this password refuses us, as it would with a wrong one.
        detail = "its password was sealed with another cluster.secret"
        facts = (("username", username), ("detail", detail))
        holdings.out.append(Noted("error", "credentials_unreadable", call.id, facts))
    leg = Leg(call, holding, application, InviteUsage(holdings.settings.timers), stored.fixed)
    leg.listener, leg.snapshot = fixed.get("listener", ""), fixed["v"]
    leg.stored = True
    leg.cursors = dict(stored.cursors)
    leg.published = dict(stored.events)
    leg.queued = stored.events[-1][0] if stored.events else 0
    call.recovered += 1
    if call.dialog is not None:
        call.dialog.local_sequence += _SEQUENCE_GAP
        if call.search is not None:
            call.identity = holdings.settings.listener_of(call.dialog.flow).named(secure=call.dialog.secure)
    leg.concluded = call.phase is Phase.ENDED
    return leg


def _known_listeners(holdings: Holdings, fixed: dict[str, Any], variable: dict[str, Any]) -> Listener:
    """The listener whose identity the call bears. One that was renamed since cannot be asked for its name: any of ours
    answers for it, in every flow of the record."""
    listeners = holdings.settings.listeners
    first = next(iter(listeners.values()))
    places = [each.get("place") for each in (variable.get("search") or {}).get("attempts", ())]
    flows = [
        fixed.get("flow"),
        variable.get("flow"),
        variable.get("made_dialog", {}).get("flow"),
        variable.get("reached", (None,))[0],
        *[place[1] for place in places if place is not None],
    ]
    for flow in flows:
        if flow is not None and not Flow(*flow).node and flow[1] not in listeners:
            flow[1] = next((each.name for each in listeners.values() if each.transport == flow[0]), first.name)
    if "flow" in fixed:
        return holdings.settings.listener_of(Flow(*fixed["flow"]))
    return listeners.get(fixed["listener"], first)


def _resume(holdings: Holdings, leg: Leg, stored: StoredCall, former: Former | None, *, now: float) -> None:
    """Go on where it stopped: deliveries, deadlines, and what was on its way to the far end."""
    call = leg.call
    if call.phase is not Phase.ENDED:
        holdings.live += 1
    _cancel_again(holdings, leg, former, now=now)
    if former is not None and call.is_sought:
        _seek_elsewhere(holdings, leg, now=now)
    if former is not None:
        seeking.forget_last_words(holdings, call)
    move = call.move
    if former is not None and call.media_open:
        move = Move(former.node_id, holdings.settings.node_id, former.silent_since)
    if move is not None and not call.is_over:
        step(holdings, leg, CarriedOn(move), now=now)
    if call.phase is Phase.ENDING:
        step(holdings, leg, MediaClosed(None), now=now)
    elif call.phase is Phase.ANSWERED and call.dialog is not None:
        call.dialog.confirm()
        _arm(holdings, call, now=now)
        if call.reoffer is not None and call.move is None:
            holdings.agenda.arm((call.id, CallTimer.GLARE), now + _REOFFER_AGAIN_S)
    elif call.search is not None and not call.is_over:
        _arm(holdings, call, now=now)
        _seek_on(holdings, leg, now=now)
    elif not call.is_over:
        _arm(holdings, call, now=now)
        _take_up_invite(holdings, leg, now=now)
    if call.passage is not None:
        sip_outcomes(holdings, proxying.take_up(holdings, leg, now=now))
        step(holdings, leg, PassageTakenUp(), now=now)
    _restore_deliveries(holdings, leg, stored, now=now)


def _seek_elsewhere(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """A party that another node was seeking. Where nothing has been sent yet the search begins here. What was sent bears an
    address: where that is ours too the search goes on, and a re-INVITE tells whoever answers where our ports are. Else the
    answers go to the other node. Then each INVITE gets a CANCEL with the Via that it had (§9.1), as well as can be: the
    CANCEL's own answer comes to whence it was sent (RFC 3581 §4), and the INVITE's never comes."""
    call = leg.call
    out = [attempt for attempt in call.search.attempts if attempt.is_out] if call.search is not None else []
    if not out:
        call.media_open, call.local_sdp, call.video_port = False, None, None
    elif not all(seeking.reaches_us(holdings, attempt) for attempt in out):
        for attempt in out:
            if seeking.can_cancel(holdings, attempt):
                seeking.take_up_invite(holdings, leg, attempt.number)
        step(holdings, leg, MediaGone(), now=now)


def _seek_on(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """A party that was being sought, as far as that had come (survival §4.6)."""
    call, search = leg.call, leg.call.search
    if search is None:
        return
    winner = search.answered()
    if call.phase is Phase.ACCEPTED and winner is not None:
        release(holdings, Acknowledging(call.id, winner.sequence), now=now)
        return
    if call.local_sdp is None:
        caller = holdings.legs.get(call.link.peer) if call.link is not None else None
        call.mirrored = caller.call.offer if caller is not None else None
        video = call.mirrored is not None and offers_video(call.mirrored)
        call.video_wanted = video
        open_ports(holdings, leg, video=video)
        return
    if now >= call.created_at + call.plan.ring_limit_s:
        for attempt in [each for each in search.attempts if each.is_out]:
            seeking.take_up_invite(holdings, leg, attempt.number)
        step(holdings, leg, Elapsed(CallTimer.RING_LIMIT), now=now)
        return
    for attempt in [each for each in search.attempts if each.stage is Stage.LOCATING]:
        locating.locate(holdings, leg, attempt.number, now=now)
    _invite_on(holdings, leg, [each for each in search.attempts if each.is_out], now=now)
    due = [each.expires_at for each in search.attempts if each.is_open and each.expires_at]
    if due and call.is_sought:
        holdings.agenda.arm((call.id, CallTimer.SEARCH), max(now, min(due)))


def _invite_on(holdings: Holdings, leg: Leg, attempts: Sequence[InviteAttempt], *, now: float) -> None:
    """INVITEs that were out, or about to be. One that was sent in the last 64·T1 goes out again to the byte: a user agent
    server answers a repetition with what it said last, and one that has never heard of it is called for the first time.

    One from before that may have been answered in the meantime, and forgotten: it would ring anew. Where it rings, its answer
    is waited for, for that is repeated as long as nobody acknowledges it (§13.3.1.4, §17.2.1); else it is given up.
    """
    lost = []
    for attempt in attempts:
        if attempt.expires_at > now and attempt.sent_at > now - holdings.settings.timers.b:
            release(holdings, Inviting(leg.call.id, attempt.number, attempt.sequence), now=now)
            continue
        seeking.take_up_invite(holdings, leg, attempt.number)
        if attempt.expires_at <= now or attempt.stage is Stage.INVITING:
            lost.append(attempt.number)
    for number in lost:
        step(holdings, leg, InviteLost(number), now=now)


def _cancel_again(holdings: Holdings, leg: Leg, former: Former | None, *, now: float) -> None:
    """Those who were given up and have not said their last word: nobody knows whether the CANCEL has left, or arrived. Its
    INVITE is not repeated: whoever has never heard of it need not begin to ring. Where that node lives it sees to it itself."""
    call, search = leg.call, leg.call.search
    for attempt in search.attempts if search is not None else ():
        if not attempt.given_up_at:
            continue
        elsewhere = former is not None and (former.holds or not seeking.can_cancel(holdings, attempt))
        if elsewhere or now - attempt.given_up_at >= call.plan.ring_limit_s:
            attempt.given_up_at = 0.0  # nobody here waits for its last word; or nothing rings for so long
            continue
        seeking.take_up_invite(holdings, leg, attempt.number)
        reason = ELSEWHERE if call.answered_at is not None else None
        outcomes = seeking.cancel(holdings, leg, attempt.number, attempt.sequence, reason, now=now)
        sip_outcomes(holdings, outcomes)


def _take_up_invite(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """An INVITE without its ACK: a transaction for its repetitions, and whatever we owed the caller."""
    call = leg.call
    invite = parse(json.loads(leg.fixed)["invite"].encode("utf-8", "surrogateescape"))
    if not isinstance(invite, Request) or call.invite is None:
        return
    for outcome in holdings.endpoint.receive(invite, call.way, now=now):
        if isinstance(outcome, RequestArrived):
            call.invite_key = outcome.key
            holdings.invites[outcome.key] = call.id
    leg.usage.step(InviteArrived(call.invite.cseq.number))
    pending = call.provisionals.pending if call.provisionals is not None else None
    if pending is not None and not call.is_over:
        # Whether it has arrived nobody knows; its PRACK is still to come, if it has one at all.
        said = Respond(call.invite_key, provisional_response(call, pending), gated=True) if call.invite_key else None
        if said is not None:
            release(holdings, Answering(call.id, said), now=now)
    if call.phase is Phase.ANSWERING:
        holdings.out.append(OpenPorts(call.id, call.id))
    elif call.phase is Phase.ACCEPTED:
        # The 200 is written; whether it was sent, nobody knows. The caller takes a second one for a repetition.
        release(holdings, Answering(call.id, Accept(call.invite_key, accepted_response(call))), now=now)


def _arm(holdings: Holdings, call: Call, *, now: float) -> None:
    """The deadlines that the snapshot implies."""
    if call.answered_at is not None:
        holdings.agenda.arm((call.id, CallTimer.DURATION_LIMIT), call.answered_at + call.duration_limit_s)
        session_due = session_timing.taken_up(call, now=now)
        if session_due is not None:
            holdings.agenda.arm((call.id, CallTimer.SESSION), session_due)
    else:
        holdings.agenda.arm((call.id, CallTimer.RING_LIMIT), call.created_at + call.plan.ring_limit_s)
    if call.transfer is not None and call.transfer.expires_at:
        holdings.agenda.arm((call.id, CallTimer.TRANSFER), call.transfer.expires_at)
    if call.referral is not None and call.referral.stage != "over":
        holdings.agenda.arm((call.id, CallTimer.TRANSFER), call.referral.expires_at)
    if call.wait_until is not None:
        paused = call.list is not None and call.list.current is not None and call.list.current.action.name == "pause"
        holdings.agenda.arm((call.id, CallTimer.PAUSE if paused else CallTimer.PARK), call.wait_until)
        if not paused and call.phase is Phase.UNANSWERED:
            holdings.agenda.arm((call.id, CallTimer.PARK_RING), now)


def _restore_deliveries(holdings: Holdings, leg: Leg, stored: StoredCall, *, now: float) -> None:
    call = leg.call
    events = [read_event(sequence, body) for sequence, body in stored.events]
    first = events[0] if events and events[0].event_type in DECISIONS else None
    undecided = None
    if call.is_undecided and first is not None:
        # The application has the rest of its time, and never less than a second: the crash was not its fault.
        deadline = max(call.created_at + holdings.settings.decision_timeout_s, now + 1.0)
        undecided = (first.sequence, deadline)
    elif call.referral is not None and call.referral.stage == "asked":
        asking = next((each for each in reversed(events) if each.event_type == REFERRING), None)
        if asking is not None:
            leg.asking = EventId(asking.event_id)
            undecided = (asking.sequence, now + holdings.settings.decision_timeout_s)
    waiting = {each.endpoint: each for each in stored.postponed}
    for endpoint in leg.application.endpoints:
        later = waiting.get(endpoint.id)
        effects = holdings.outbox.restore(
            call.id,
            endpoint,
            events,
            leg.cursors.get(endpoint.id, 0),
            later.attempts if later else 0,
            later.due_ms / 1000 if later else None,
            undecided=undecided,
            now=now,
        )
        carry_deliveries(holdings, effects, now=now)
    let_go(holdings, leg)
