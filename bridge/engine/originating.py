"""A call that REST asks for: refused at once, or stored with its first event before anybody is called (survival §6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

from bridge.calls.lists import ActionList, Step
from bridge.calls.sealing import sealed_actions, sealed_targets
from bridge.calls.search import Search
from bridge.engine.effects import Noted, OriginateRefused
from bridge.engine.gate import Promised
from bridge.engine.holdings import Holding, Holdings
from bridge.engine.inputs import Originate
from bridge.engine.linking import make_call
from bridge.engine.writing import write

Code: TypeAlias = Literal["overload", "draining", "store_away", "not_found", "no_such_application"]


def originate(holdings: Holdings, wanted: Originate, *, now: float) -> None:
    """Begin a call to a party that an application wants. `Originated` follows once it is stored."""
    application = holdings.application(wanted.application)
    refusal = _refusal(holdings, wanted, now=now)
    if application is None or refusal is not None:
        holdings.out.append(OriginateRefused(wanted.request, *(refusal or _unknown(wanted))))
        return
    holding = _holding(holdings, wanted, now=now)
    listener = next(iter(holdings.settings.listeners.values()))
    search = Search.of(
        sealed_targets(tuple(wanted.to), holdings.seal),
        wanted.call[5:],
        fork=wanted.fork,
        on_redirect=wanted.on_redirect,
        timeout_s=wanted.timeout_s,
        from_=wanted.from_ or f"<sip:{listener.sent_by}>",  # no Contact: a From has no transport (§19.1.1)
    )
    leg = make_call(holdings, holding, wanted.call, application, search=search, listener=listener, now=now)
    call = leg.call
    call.client_state, call.tags, call.max_duration_s = wanted.client_state, wanted.tags, wanted.max_duration_s
    if wanted.actions:
        actions = sealed_actions(wanted.actions, holdings.seal)
        call.list = ActionList.of("originated", [Step(call.new_action_id(), action) for action in actions])
    body = holdings.render.record(call)
    unwritten = holdings.changed(holding)
    claim = None if wanted.claim is None else replace(wanted.claim, call=call.id, answer=body)
    promised = Promised(call.id, wanted.request, body, claim)
    unwritten.waiting.append(promised)
    unwritten.promised = None if claim is None else promised
    holdings.out.append(
        Noted("info", "call_originated", call.id, (("to", call.to.uri), ("application", application.name)))
    )


def _refusal(holdings: Holdings, wanted: Originate, *, now: float) -> tuple[Code, str] | None:
    settings = holdings.settings
    if holdings.draining:
        return "draining", "this node is about to stop"
    if holdings.is_in_limbo(now):
        return "store_away", "nothing can be stored at the moment, so nobody is called"
    if holdings.live >= settings.max_calls:
        return "overload", f"there are {settings.max_calls} calls already"
    if wanted.conversation is not None and wanted.conversation not in holdings.conversations:
        return "not_found", f"there is no conversation {wanted.conversation}"
    return None


def _unknown(wanted: Originate) -> tuple[Code, str]:
    return "no_such_application", f"no application is called {wanted.application!r}"


def _holding(holdings: Holdings, wanted: Originate, *, now: float) -> Holding:
    if wanted.conversation is not None:
        holding = holdings.conversations[wanted.conversation]
        write(holdings, holding)  # one write claims one key
        return holding
    name = holdings.names.conversation_of(wanted.call)
    holding = Holding(name, created_at=now, epoch=1, nonce=holdings.new_nonce())
    holdings.conversations[name] = holding
    return holding
