"""REGISTER, from its arrival to its answer and its events (§10.3, contract §3).

Each address of record has a desk while somebody is busy with it, where one job is seen through before the next: what
the REGISTER makes of the bindings there are is written by compare and set, and what meets another version is worked out
again from that. A refresh that nobody else has interfered with is one write and nothing else. What would change nothing,
a query or a refusal, is first held against the store.

Functions that may let an event go return the outbox's effects, for `delivering` to carry out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from bridge.calls.actions import Action, Reject
from bridge.calls.referral import TransferDecision
from bridge.engine.authenticating import Unproven, answer, challenge, is_ours, may_be, prove
from bridge.engine.effects import Noted
from bridge.engine.holdings import Holdings
from bridge.engine.registrar import Asked, Desk, Dismissed, Job, Overdue, Record, Told
from bridge.engine.registrations import (
    ASKING,
    AcceptRegistration,
    BindingChanged,
    BindingsRead,
    ChallengeRegistration,
    Deregister,
    Deregistered,
    ReadBindings,
    RegistrationDecision,
    RegistrationEvent,
    RegistrationRefused,
    RegistrationRejected,
    RegistrationRequested,
    RegistrationWritten,
    RejectRegistration,
    StoredStream,
    WriteRegistration,
    write_bindings,
)
from bridge.engine.routing import application_for
from bridge.engine.settings import Application
from bridge.engine.streams import Outgoing, publish, take_over
from bridge.outbox.effects import Event
from bridge.sip.endpoint import RequestArrived
from bridge.sip.grammar import REASON_PHRASES
from bridge.sip.registrar import (
    AddressOfRecord,
    Binding,
    Registered,
    address_of_record,
    answer_lines,
    expire,
    register,
    remove_all,
)
from bridge.sip.user_agent import Refused

_LATER: Final = ("Retry-After", "10")  # as new calls get it
_JOBS_MAX: Final = 64  # at one desk
_TRIES_MAX: Final = 8  # against other nodes that write the same address of record all the time
_COMPLAINTS_EVERY_S: Final = 60.0  # who guesses passwords causes no more events than this
_COMPLAINTS_MAX: Final = 10_000  # addresses of record of which is known when that was last told

# What happens


def requested(holdings: Holdings, arrived: RequestArrived, *, now: float) -> None:
    """A REGISTER has come in."""
    uri = arrived.request.to.uri
    aor = address_of_record(uri)
    if aor is None:
        answer(holdings, arrived, 400, reason="No Address Of Record In To", now=now)
    elif not is_ours(holdings, uri):
        answer(holdings, arrived, 404, now=now)
    elif holdings.draining:
        answer(holdings, arrived, 503, (_LATER,), "Draining", now=now)
    elif holdings.is_in_limbo(now):
        answer(holdings, arrived, 503, (_LATER,), "Store Away", now=now)
    else:
        _admit(holdings, arrived, aor, now=now)


def overdue(holdings: Holdings, aors: Sequence[AddressOfRecord], *, now: float) -> None:
    """The store says that bindings of these have expired."""
    for aor in aors:
        desk = holdings.registrar.desks.get(aor)
        if desk is None or not any(isinstance(job, Overdue) for job in desk.jobs):
            _queue(holdings, aor, Overdue(), now=now)


def deregister(holdings: Holdings, given: Deregister, *, now: float) -> None:
    """Somebody wants all bindings gone, by REST."""
    job = Dismissed(given.request)
    holdings.registrar.agenda.arm(job, now + holdings.settings.store_patience_s)
    _queue(holdings, given.aor, job, now=now)


def read(holdings: Holdings, given: BindingsRead, *, now: float) -> None:
    """What is bound, as the registrar has asked."""
    registrar = holdings.registrar
    aor = registrar.readers.pop(given.reader, None)
    desk = registrar.desks.get(aor) if aor is not None else None
    if desk is None:
        return
    if given.bindings is None:
        _give_up(holdings, desk.jobs[0], now=now)
        _leave(holdings, desk)
    else:
        desk.record, desk.fresh = replace(desk.record, bindings=given.bindings), True
    _serve(holdings, desk, now=now)


def written(holdings: Holdings, given: RegistrationWritten, *, now: float) -> Outgoing:
    """A write is acknowledged: what waited for it leaves."""
    registrar = holdings.registrar
    aor = registrar.tickets.pop(given.ticket, None)
    desk = registrar.desks.get(aor) if aor is not None else None
    if desk is None:
        return []
    told, job = desk.told, desk.jobs[0]
    desk.told, desk.record, desk.expected = [], desk.after, desk.after.version
    registrar.remember(desk.aor, desk.record)
    application = _application(holdings, desk.aor)
    endpoints = application.endpoints if application is not None else ()
    effects: Outgoing = []
    if given.left is not None:
        first = desk.record.sequence - len(told) + 1
        effects += take_over(holdings, given.left, endpoints, before=first, now=now)
    for event in told:
        asks = event.event_type == ASKING
        effects += publish(holdings, desk.aor, event, endpoints, decision=asks, now=now)
    if isinstance(job, Asked) and job.asking:
        registrar.agenda.disarm(job)  # the application has a patience of its own
        return effects
    if isinstance(job, Asked):
        _accept(holdings, desk, job, now=now)
    elif isinstance(job, Dismissed):
        _dismissed(holdings, job, desk.removed)
    _leave(holdings, desk)
    _serve(holdings, desk, now=now)
    return effects


def refused(holdings: Holdings, given: RegistrationRefused, *, now: float) -> None:
    """The store has another version than we knew of: work it out again."""
    registrar = holdings.registrar
    aor = registrar.tickets.pop(given.ticket, None)
    desk = registrar.desks.get(aor) if aor is not None else None
    if desk is None:
        return
    job, desk.told = desk.jobs[0], []
    desk.tries += 1
    if given.stored is None or desk.tries > _TRIES_MAX:
        _give_up(holdings, job, now=now)
        _leave(holdings, desk)
        _serve(holdings, desk, now=now)
        return
    if isinstance(job, Asked):
        job.asking = False
    known, stored = registrar.known(desk.aor), Record.of(given.stored)
    desk.expected, desk.fresh = stored.version, True
    desk.record = stored
    if stored.version < known.version:
        # It was emptied, or another server with older data has taken its place. We know what there was.
        holdings.out.append(Noted("warning", "store_was_older", None, (("aor", desk.aor),)))
        desk.record = known
    _serve(holdings, desk, now=now)


def decided(
    holdings: Holdings,
    aor: AddressOfRecord,
    reply: Sequence[Action | RegistrationDecision | TransferDecision],
    *,
    now: float,
) -> None:
    """The application says who may register. Saying nothing, it has nothing against it: the password was right."""
    decision = next((each for each in reply if isinstance(each, RegistrationDecision)), AcceptRegistration())
    _decide(holdings, aor, decision, now=now)


def undecided(holdings: Holdings, aor: AddressOfRecord, *, now: float) -> None:
    """The application has not decided: refused with what its plan refuses calls with, or 480."""
    application = _application(holdings, aor)
    plan = application.plan.fallback if application is not None else ()
    code = next((action.code for action in plan if isinstance(action, Reject)), 480)
    _decide(holdings, aor, RejectRegistration(code=code), now=now)


def wake(holdings: Holdings, *, now: float) -> None:
    """Whoever has waited too long for the store waits no longer. What it wanted is done when the store is back."""
    agenda = holdings.registrar.agenda
    while (job := agenda.pop_due(now)) is not None:
        _give_up(holdings, job, now=now)


def claimed(holdings: Holdings, streams: Sequence[StoredStream], *, now: float) -> Outgoing:
    """Events that a dead node, or a predecessor of ours, has not delivered."""
    effects: Outgoing = []
    for stream in streams:
        ours = holdings.registrar.streams.get(stream.aor)
        # Without anything new it was asked for twice. With something new the dead one had it from us without our knowing.
        if ours is None or any(sequence > ours.last for sequence, _ in stream.events):
            application = _application(holdings, stream.aor)
            endpoints = application.endpoints if application is not None else ()
            effects += take_over(holdings, stream, endpoints, now=now)
    return effects


# Before the desk


def _admit(holdings: Holdings, arrived: RequestArrived, aor: AddressOfRecord, *, now: float) -> None:
    """Who is it, and may it?"""
    user = prove(holdings, arrived, now=now)
    if isinstance(user, Unproven):
        if user.failed is not None and may_be(user.failed, aor):
            _complain(holdings, arrived, aor, user.failed.username, now=now)
        return
    desk = holdings.registrar.desks.get(aor)
    if not may_be(user, aor):
        facts = (("username", user.username), ("aor", aor), ("source", str(arrived.flow)))
        holdings.out.append(Noted("warning", "registration_forbidden", None, facts))
        answer(holdings, arrived, 403, now=now)
    elif desk is not None and len(desk.jobs) >= _JOBS_MAX:
        answer(holdings, arrived, 503, now=now)
    else:
        job = Asked(arrived, user.username)
        holdings.registrar.agenda.arm(job, now + holdings.settings.store_patience_s)
        _queue(holdings, aor, job, now=now)


def _complain(holdings: Holdings, arrived: RequestArrived, aor: AddressOfRecord, username: str, *, now: float) -> None:
    """Tell of a wrong password, now and then, and only where that cannot fill the store with streams."""
    registrar = holdings.registrar
    if not holdings.settings.domains and registrar.known(aor).version == 0:
        return  # a stranger may write any host
    complained = registrar.complained
    if now - complained.get(aor, 0.0) < _COMPLAINTS_EVERY_S:
        return
    complained[aor] = now
    complained.move_to_end(aor)
    if len(complained) > _COMPLAINTS_MAX:
        complained.popitem(last=False)
    _queue(holdings, aor, Told(_rejected(arrived, username, 401, None)), now=now)


def _queue(holdings: Holdings, aor: AddressOfRecord, job: Job, *, now: float) -> None:
    registrar = holdings.registrar
    desk = registrar.desks.get(aor)
    if desk is None:
        desk = registrar.desks[aor] = Desk(aor, registrar.known(aor))
    desk.jobs.append(job)
    if len(desk.jobs) == 1:
        _serve(holdings, desk, now=now)


# At the desk


def _serve(holdings: Holdings, desk: Desk, *, now: float) -> None:
    """Work on, up to a job that has to wait."""
    while desk.jobs:
        if _waits(holdings, desk, desk.jobs[0], now=now):
            return
        _leave(holdings, desk)
    holdings.registrar.desks.pop(desk.aor, None)


def _leave(holdings: Holdings, desk: Desk) -> None:
    """The first job is done."""
    job = desk.jobs.popleft()
    if isinstance(job, Asked | Dismissed):
        holdings.registrar.agenda.disarm(job)
    desk.fresh, desk.tries, desk.removed = False, 0, 0


def _waits(holdings: Holdings, desk: Desk, job: Job, *, now: float) -> bool:
    """Do what can be done of this job now. True when it has to wait for the store or for its application."""
    match job:
        case Asked(answered=True):
            return False
        case Asked():
            return _register(holdings, desk, job, now=now)
        case Told(event):
            return _write(holdings, desk, desk.record.bindings, [event], now=now)
        case Overdue():
            made = expire(desk.record.bindings, now=now)
        case Dismissed():
            made = remove_all(desk.record.bindings, now=now)
    if made.changes:
        desk.removed = len(made.changes)
        return _write(holdings, desk, made.bindings, _changes(made, None, "local"), now=now)
    if not desk.fresh:
        return _read(holdings, desk)
    if isinstance(job, Dismissed):
        _dismissed(holdings, job, 0)
    return False


def _register(holdings: Holdings, desk: Desk, job: Asked, *, now: float) -> bool:
    settings, request = holdings.settings, job.arrived.request
    rules, decision = settings.registrar.rules, job.decision
    match decision:
        case RejectRegistration(code=code, reason=reason):
            return _reject(holdings, desk, job, code, reason, now=now)
        case ChallengeRegistration():
            job.answered = True
            challenge(holdings, job.arrived, now=now)
            return False
        case AcceptRegistration(expires_s=int() as expires_s):
            rules = replace(rules, expires_max_s=min(expires_s, rules.expires_max_s))
    made = register(request, desk.record.bindings, flow=job.arrived.flow, node=settings.owner, rules=rules, now=now)
    if isinstance(made, Refused) or not made.changes:
        if not desk.fresh:
            return _read(holdings, desk)
        if not isinstance(made, Refused):
            _accept(holdings, desk, job, now=now)
            return False
        if made.status == 503:
            return _reject(holdings, desk, job, 503, made.reason, now=now)
        job.answered = True
        answer(holdings, job.arrived, made.status, made.headers, made.reason, now=now)
        return False
    application = _application(holdings, desk.aor)
    wanted = tuple(change.binding for change in made.changes if change.kind in ("created", "refreshed"))
    if application is not None and application.registrations and decision is None and wanted:
        job.asking = True
        question = RegistrationRequested(job.username, wanted, job.arrived.flow, request.headers.get("User-Agent"))
        return _write(holdings, desk, desk.record.bindings, [question], now=now)
    return _write(holdings, desk, made.bindings, _changes(made, job.username, "remote"), now=now)


def _reject(holdings: Holdings, desk: Desk, job: Asked, code: int, reason: str | None, *, now: float) -> bool:
    """Refuse it, and tell of it."""
    job.answered = True
    answer(holdings, job.arrived, code, reason=reason, now=now)
    holdings.registrar.agenda.disarm(job)
    told = desk.jobs[0] = Told(_rejected(job.arrived, job.username, code, reason))
    return _waits(holdings, desk, told, now=now)


def _decide(holdings: Holdings, aor: AddressOfRecord, decision: RegistrationDecision, *, now: float) -> None:
    registrar = holdings.registrar
    desk = registrar.desks.get(aor)
    job = desk.jobs[0] if desk is not None else None
    if desk is None or not isinstance(job, Asked) or not job.asking:
        return  # whoever asked is gone
    job.asking, job.decision = False, decision
    registrar.agenda.arm(job, now + holdings.settings.store_patience_s)
    desk.fresh, desk.tries = False, 0
    _serve(holdings, desk, now=now)


def _read(holdings: Holdings, desk: Desk) -> bool:
    registrar = holdings.registrar
    registrar.reader -= 1
    registrar.readers[registrar.reader] = desk.aor
    holdings.out.append(ReadBindings(registrar.reader, desk.aor))
    return True


def _write(
    holdings: Holdings,
    desk: Desk,
    bindings: tuple[Binding, ...],
    events: Sequence[RegistrationEvent],
    *,
    now: float,
) -> bool:
    """Write what there shall be, with what is to be told of it. False where there is nothing to write."""
    registrar, settings, record = holdings.registrar, holdings.settings, desk.record
    application = _application(holdings, desk.aor)
    desk.told = []
    if application is not None and application.endpoints:
        for sequence, event in enumerate(events, record.sequence + 1):
            event_id = holdings.new_event_id()
            body = holdings.render.registration(event_id, event, desk.aor, application.name, sequence, now=now)
            desk.told.append(Event(event_id, event.type, sequence, body))
    if not desk.told and bindings == record.bindings:
        return False
    for event in events:
        _note(holdings, desk.aor, event)
    holdings.ticket += 1
    registrar.tickets[holdings.ticket] = desk.aor
    version = max(record.version, desk.expected) + 1
    desk.after = Record(version, record.sequence + len(desk.told), bindings)
    holdings.out.append(
        WriteRegistration(
            ticket=holdings.ticket,
            aor=desk.aor,
            expected=desk.expected,
            version=version,
            write=f"{settings.nonce}{holdings.ticket}",
            owner=settings.owner,
            sequence=desk.after.sequence,
            bindings=write_bindings(bindings),
            expires_ms=min((round(each.expires_at * 1000) for each in bindings), default=None),
            events=tuple((event.sequence, event.body) for event in desk.told),
        )
    )
    return True


# Answers


def _accept(holdings: Holdings, desk: Desk, job: Asked, *, now: float) -> None:
    """200 with all bindings there are."""
    if job.answered:
        return
    job.answered = True
    lines = answer_lines(job.arrived.request, Registered(desk.record.bindings), now=now)
    answer(holdings, job.arrived, 200, lines, now=now)


def _dismissed(holdings: Holdings, job: Dismissed, bindings: int | None) -> None:
    if not job.answered:
        job.answered = True
        holdings.out.append(Deregistered(job.request, bindings))


def _give_up(holdings: Holdings, job: Job, *, now: float) -> None:
    """The store does not answer in time, or other nodes do not let us: whoever waits is told."""
    if isinstance(job, Dismissed):
        _dismissed(holdings, job, None)
    elif isinstance(job, Asked) and not job.answered:
        job.answered = True
        answer(holdings, job.arrived, 503, (_LATER,), "Store Away", now=now)


# What is told


def _changes(made: Registered, username: str | None, by: Literal["remote", "local"]) -> list[RegistrationEvent]:
    events: list[RegistrationEvent] = []
    for change in made.changes:
        who = None if change.kind == "expired" else username
        events.append(BindingChanged(change.kind, who, change.binding, by if change.kind == "removed" else None))
    return events


def _rejected(arrived: RequestArrived, username: str, code: int, reason: str | None) -> RegistrationRejected:
    phrase = REASON_PHRASES.get(code, "") if reason is None else reason
    return RegistrationRejected(username, code, phrase, arrived.flow, arrived.request.headers.get("User-Agent"))


def _note(holdings: Holdings, aor: AddressOfRecord, event: RegistrationEvent) -> None:
    """One line in the log for what is no routine."""
    if isinstance(event, BindingChanged) and event.kind != "refreshed":
        facts = (("aor", aor), ("contact", event.binding.contact), ("source", str(event.binding.flow)))
        holdings.out.append(Noted("info", f"registration_{event.kind}", None, facts))
    elif isinstance(event, RegistrationRejected):
        facts = (("aor", aor), ("code", str(event.code)), ("source", str(event.flow)))
        holdings.out.append(Noted("warning", "registration_rejected", None, facts))


def _application(holdings: Holdings, aor: AddressOfRecord) -> Application | None:
    return application_for(aor, holdings.settings.applications, domains=holdings.settings.domains)
