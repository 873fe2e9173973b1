"""Reliable provisional responses on the wire (RFC 3262): ours are repeated until their PRACK, theirs get one.

What they say is the call's. Refuses to know when a call wants one.
"""

from __future__ import annotations

from zlib import crc32

from bridge.calls.inputs import Unpracked
from bridge.calls.search import InviteAttempt
from bridge.engine import seeking
from bridge.engine.holdings import Holdings, Leg, NodeTimer, OurRequest, Provisional
from bridge.engine.routing import next_hop
from bridge.sip.dialog import Dialog
from bridge.sip.endpoint import Outcome
from bridge.sip.flow import Flow
from bridge.sip.message import Response
from bridge.sip.reliable import order, rseq_of
from bridge.sip.transaction import State, TransactionKey
from bridge.sip.user_agent import via_value

DIALOGS_MOST = 16  # early ones of one attempt: a fork of more is heard of no more


def sent(holdings: Holdings, leg: Leg, key: TransactionKey, response: Response, *, now: float) -> None:
    """A response to the INVITE has left: one that wants a PRACK is repeated, a final one ends that."""
    if response.status >= 200:
        leg.provisional = None
        holdings.agenda.disarm((leg.call.id, NodeTimer.PROVISIONAL))
    elif "RSeq" in response.headers:
        t1 = holdings.settings.timers.t1
        leg.provisional = Provisional(key, response, t1, now + 64 * t1)
        holdings.agenda.arm((leg.call.id, NodeTimer.PROVISIONAL), now + t1)


def repeat(holdings: Holdings, leg: Leg, *, now: float) -> Unpracked | list[Outcome]:
    """Its PRACK has not come yet: the same again, or nothing more (§3)."""
    waiting, call = leg.provisional, leg.call
    pending = call.provisionals.pending if call.provisionals is not None else None
    if waiting is None or pending is None or holdings.endpoint.state(waiting.key) is not State.PROCEEDING:
        leg.provisional = None
        return []
    if now >= waiting.until:
        leg.provisional = None
        return Unpracked()
    waiting.interval *= 2
    holdings.agenda.arm((call.id, NodeTimer.PROVISIONAL), min(waiting.until, now + waiting.interval))
    return holdings.endpoint.respond(waiting.key, waiting.response, now=now)


def heard(
    holdings: Holdings, leg: Leg, ours: OurRequest, response: Response, flow: Flow, *, now: float
) -> list[Outcome] | None:
    """A provisional response to an INVITE of ours: its PRACK, if it wants one. None: it is a repetition, or one before it is
    missing, and then it has not been said (§4)."""
    rseq = rseq_of(response)
    if rseq is None:
        return []
    attempt, tag = seeking.attempt_of(leg.call, ours.attempt), response.to_tag or ""
    known = attempt.rseqs.get(tag)
    if order(known, rseq) != "next" or (known is None and len(attempt.rseqs) >= DIALOGS_MOST):
        return None
    attempt.rseqs[tag] = rseq
    holdings.changed(leg.holding)
    return _prack(holdings, leg, attempt, Dialog.as_client(ours.request, response, flow), rseq, now=now)


def _prack(
    holdings: Holdings, leg: Leg, attempt: InviteAttempt, dialog: Dialog, rseq: int, *, now: float
) -> list[Outcome]:
    invite, call = dialog.local_sequence, leg.call
    dialog.local_sequence += attempt.pracked
    attempt.pracked += 1
    flow = next_hop(dialog, via_host=dialog.flow.host)
    number = f"r{attempt.number}.{attempt.pracked}.{crc32(dialog.remote_tag.encode()):08x}"
    via = via_value(
        flow.transport, holdings.settings.listener_of(flow).sent_by, holdings.names.branch_of(call.tag, number)
    )
    lines = (("RAck", f"{rseq} {invite} INVITE"), ("User-Agent", call.identity.server), *attempt.proof)
    request = dialog.new_request("PRACK", via=via, headers=lines)
    return seeking.send(holdings, OurRequest(call.id, request, flow), now=now)
