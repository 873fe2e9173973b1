"""What must hold of every run, whatever its seed has done to it. Each function returns sentences, none where all is well."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator

from bridge.calls.call import Call, Phase
from bridge.calls.facts import CallId
from bridge.engine.fencing import is_fenced
from bridge.engine.holdings import Holding
from tests.sim.application import ENDPOINTS, Received
from tests.sim.dialog import Dialog, Stage
from tests.sim.machine import Machine
from tests.sim.phone import Phone
from tests.sim.process import Process
from tests.sim.world import World

YOUNG_S = 45.0  # so long after its answer the two ends of a call may still be finding out about each other


class Watch:
    """What must hold at every moment: no two nodes act for one conversation."""

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self._world = world

    def look(self) -> None:
        owners: dict[str, str] = {}
        for process in _processes(self._world):
            for holding in process.node.conversations():
                if is_fenced(process.node._holdings, holding, now=self._world.clock.now()):
                    continue  # it may have been taken over, and does nothing of its own accord
                other = owners.setdefault(holding.id, process.settings.owner)
                if other != process.settings.owner:
                    told = f"{other} and {process.settings.owner} both carry {holding.id}"
                    if told not in self.violations:
                        self.violations.append(told)


def agreement(world: World) -> list[str]:
    """Both ends of every call agree that it is up: who thinks to be in a call is in one, and the other way round.

    To be asked once everything has settled. Whoever is on hold is left alone: nothing but a word of one of the two can tell
    them that the other is gone, and it is bound to come.
    """
    wrong: list[str] = []
    known: dict[str, Call] = {}
    for process in _processes(world):
        known.update({call.sip_call_id: call for call in process.node.calls() if not call.is_over})
    dialogs = {dialog.call_id: (phone, dialog) for phone in world.phones for dialog in phone.dialogs if dialog.alive}
    for call_id, (phone, dialog) in dialogs.items():
        young = world.clock.now() - dialog.confirmed_at < YOUNG_S
        if dialog.stage is Stage.EARLY or young or dialog.direction != "sendrecv":
            continue
        call = known.get(call_id)
        if call is None:
            wrong.append(f"{phone.name} is in {call_id}, of which no node knows")
        elif call.phase is not Phase.ANSWERED:
            wrong.append(f"{phone.name} is in {call_id}, which is {call.phase.value} at its node")
    for call_id, call in known.items():
        settled = call.answered_at is not None and world.clock.now() - call.answered_at > YOUNG_S
        if settled and not (call.held or call.on_hold) and call_id not in dialogs:
            wrong.append(f"{call.id} is answered at its node, and no phone is in {call_id}")
    return wrong


def consistency(world: World) -> list[str]:
    """What is said of a call in one place is said in every other: by the node, its workers, the store, and the phone."""
    wrong: list[str] = []
    dialogs = {dialog.call_id: (phone, dialog) for phone in world.phones for dialog in phone.dialogs if dialog.alive}
    for machine in world.machines:
        process = machine.serving
        if process is None:
            continue
        known = {call.id: call for call in process.node.calls()}
        for call in known.values():
            if call.answered_at is None or call.is_over or world.clock.now() - call.answered_at < YOUNG_S:
                continue
            phone, dialog = dialogs.get(call.sip_call_id, (None, None))
            if phone is not None and dialog is not None:
                wrong += _media(machine, call, phone, dialog)
            wrong += _link(machine, call, known)
        for holding in process.node.conversations():
            wrong += _stored_as_held(world, process, holding)
    return wrong


def _media(machine: Machine, call: Call, phone: Phone, dialog: Dialog) -> Iterator[str]:
    """Each side sends to where the other one listens."""
    session = machine.workers.sessions.get(call.id)
    if session is None or session.rule is None:
        yield f"{call.id} is answered and has no media"
        return
    if dialog.asking or call.reoffer is not None:
        return
    rule, agreed = session.rule, dialog.agreed
    if (rule.remote_host, rule.remote_port) != (phone.host, dialog.port):
        yield f"{call.id} sends to {rule.remote_host}:{rule.remote_port}, and {phone.name} listens at {dialog.port}"
    if agreed is not None and (agreed.host, agreed.port) != (machine.address[0], session.port):
        yield f"{phone.name} sends to {agreed.host}:{agreed.port}, and {call.id} listens at {session.port}"
    if (dialog.direction == "sendrecv") != rule.expects_media:
        yield f"{phone.name} thinks {dialog.direction} of {call.id}, which expects media: {rule.expects_media}"


def _link(machine: Machine, call: Call, known: dict[CallId, Call]) -> Iterator[str]:
    """Who hears somebody is heard by that one, in one conversation."""
    link = call.link
    if link is None:
        return
    peer = known.get(link.peer)
    if peer is None or peer.link is None or peer.link.peer != call.id:
        yield f"{call.id} is linked with {link.peer}, and that is not linked with it"
    elif link.joined != peer.link.joined or call.conversation_id != peer.conversation_id:
        yield f"{call.id} and {peer.id} do not agree on being joined"
    session = machine.workers.sessions.get(call.id)
    rule = None if session is None or _is_silent(call, peer) else session.rule
    if link.joined and rule is not None and rule.relay_to != link.peer:
        yield f"{call.id} is joined with {link.peer}, and heard by {rule.relay_to}"


def _is_silent(call: Call, peer: Call | None) -> bool:
    """Whether one of the two is on hold, or about to agree on something else."""
    both = [each for each in (call, peer) if each is not None]
    return any(each.held or each.on_hold or each.reoffer is not None or each.reinvite is not None for each in both)


def _stored_as_held(world: World, process: Process, holding: Holding) -> Iterator[str]:
    """The store has the conversation as its node has it: were the node killed now, nothing would be missing."""
    if len(holding.gate):
        yield f"{holding.id} waits for the store"
        return
    record = world.store.keyspace._conversations.get(holding.id)
    if record is None:
        yield f"{holding.id} is not in the store"
        return
    held = (process.settings.owner, holding.epoch, holding.nonce, holding.version, sorted(holding.legs))
    stored = (record.owner, record.epoch, record.nonce, record.version, sorted(record.fixed))
    if held != stored:
        yield f"{holding.id} is {held} at its node, and {stored} in the store"
    for call in holding.legs:
        place = world.store.keyspace._calls.get(call)
        if place != holding.id and not isinstance(place, bytes):
            yield f"{call} is in {holding.id}, and the store finds it in {place!r}"


def aftermath(world: World) -> list[str]:
    """What is left when all calls are over: nothing; and what was told of them: everything, in order."""
    return [
        *_left_at_phones(world),
        *_left_at_nodes(world),
        *_left_in_store(world),
        *_told(world),
        *_originated_once(world),
        *_promises_kept(world),
    ]


def _processes(world: World) -> Iterator[Process]:
    return (each.process for each in world.machines if each.process is not None and each.process.alive)


def _left_at_phones(world: World) -> Iterator[str]:
    for phone in world.phones:
        yield from (each for each in phone.complaints if not _is_forgiven(world, each))
        for since, at, what in phone.silences:
            if world.calm(since, at):
                yield f"{phone.name} at {at:.3f}: {what}, and nothing was wrong with the world"
        if not phone.idle:
            still = [dialog.call_id for dialog in phone.dialogs if dialog.alive]
            yield f"{phone.name} is not idle: {still or 'its transactions'}"


def _is_forgiven(world: World, complaint: str) -> bool:
    """A 487, and any refusal that has waited long for the store, leaves before it is stored: should its node die before it
    is, or lose the call, whoever carries that on takes it for one that nobody has refused. And a node that does not know
    that it has lost a call still answers the CANCEL of who has been answered elsewhere."""
    lost = any(noted.event == "conversation_let_go" for process in _processes(world) for noted in process.notes)
    carried_on = lost or any(machine.incarnations > 1 for machine in world.machines)
    return carried_on and re.search(r"was answered ([456]\d\d and then 2|2\d\d and then 487)", complaint) is not None


def _left_at_nodes(world: World) -> Iterator[str]:
    for machine in world.machines:
        process = machine.process
        if process is None or not process.open or process.standing_still:
            yield f"{machine.name} is not serving"
            continue
        holdings = process.node._holdings
        left: dict[str, object] = {
            "calls": list(holdings.legs),
            "conversations": list(holdings.conversations),
            "writes": list(holdings.tickets),
            "requests": list(holdings.ours),
            "look-ups": list(holdings.readers),
            "INVITEs": list(holdings.invites),
            "live calls": holdings.live,
            "transactions": process.node.transactions(),
            "deadline": process.node.deadline(),
            "timers": len(holdings.agenda),
            "streams": list(holdings.outbox._streams),
            "attempts": list(holdings.outbox._flights),
            "registrar's desks": list(holdings.registrar.desks),
            "registrar's writes": list(holdings.registrar.tickets),
            "registrar's streams": list(holdings.registrar.streams),
            "registrar's timers": len(holdings.registrar.agenda),
            "questions": list(process._asked),
            "ports": list(machine.workers.sessions),
        }
        for what, each in left.items():
            if each:
                yield f"{machine.name} has {what} left: {each}"
        if machine.workers.opened != machine.workers.closed:
            yield f"{machine.name} has opened {machine.workers.opened} sessions and closed {machine.workers.closed}"
        for noted in process.notes:
            if noted.event == "snapshot_unreadable":
                yield f"{machine.name} could not read {noted.call}: {noted.facts}"


def _left_in_store(world: World) -> Iterator[str]:
    keyspace = world.store.keyspace
    bound = [aor for aor, _ in keyspace.list_registrations(None, 100)]
    if bound:
        yield f"the store has bindings of {bound}"
    streams = [stream for stream, _ in keyspace._streams.items()]
    if streams:
        yield f"the store has streams of registrations that are not settled: {streams}"
    owned = [conversation for (_, conversation), _ in keyspace._owned.items()]
    if owned:
        yield f"the store has live records of {owned}"
    for conversation, record in keyspace._conversations.items():
        if record.released is None and conversation not in owned:
            yield f"the store has a record of {conversation} that nobody owns"


def _told(world: World) -> Iterator[str]:
    """Webhooks: every event of every call at every endpoint, in order, each with one body, and `call.ended` last."""
    streams: dict[tuple[str, str], list[Received]] = defaultdict(list)
    for each in world.application.received:
        streams[each.call, each.endpoint].append(each)
    calls = {call for call, _ in streams} | {call for _, call, _ in world.store.keyspace.list_calls(None, 10_000)}
    for call in sorted(calls):
        registers = call.startswith("aor:")
        for endpoint in ENDPOINTS:
            received = streams[call, endpoint.id]
            if not registers:
                yield from _stream(call, endpoint.id, received)
                yield from _end(call, endpoint.id, received)
            elif world.store.forgot_at is None:  # else it counts its events from where the store has fallen back to
                yield from _stream(call, endpoint.id, received)
        if not registers:
            yield from _stored(world, call)


def _stream(call: str, endpoint: str, received: list[Received]) -> Iterator[str]:
    first: dict[int, Received] = {}
    highest = 0
    for each in received:
        known = first.setdefault(each.sequence, each)
        if known is each:
            if each.sequence < highest:
                yield f"{endpoint} got #{each.sequence} of {call} after #{highest}"
            highest = max(highest, each.sequence)
        elif (known.event, known.body) != (each.event, each.body):
            yield f"{endpoint} got two different #{each.sequence} of {call}: {known.type} and {each.type}"
    missing = sorted(set(range(1, highest + 1)) - first.keys())
    if missing:
        yield f"{endpoint} never got {missing} of {call}"


def _end(call: str, endpoint: str, received: list[Received]) -> Iterator[str]:
    highest = max((each.sequence for each in received), default=0)
    ends = sorted({each.sequence for each in received if each.type == "call.ended"})
    if ends != [highest]:
        yield f"{endpoint} got the end of {call} as {ends}, and {highest} events"


def _stored(world: World, call: str) -> Iterator[str]:
    """What REST would say of it."""
    if world.store.forgot_at is not None:
        return  # what was settled is not written again
    keyspace = world.store.keyspace
    events = [json.loads(body)["type"] for _, body in keyspace.events(call) or []]
    if events.count("call.ended") != 1 or events[-1] != "call.ended":
        yield f"the store has events of {call} that do not end: {events}"
    if keyspace.final_record(call) is None:
        yield f"the store has no final record of {call}"


def _originated_once(world: World) -> Iterator[str]:
    """Never two Call-IDs for one Idempotency-Key, and one call only."""
    for key, made in world.rest.made.items():
        rung = [call_id for callee in world.callees for call_id in sorted(callee.rung.get(key, ()))]
        forgot = world.store.forgot_at is not None  # and the key with everything else
        if (len(made) > 1 or len(rung) > 1) and not forgot:
            yield f"{key} made {sorted(made)}, and rang with {rung}"


def _promises_kept(world: World) -> Iterator[str]:
    """Of every action that REST was promised an event tells what came of it; what was promised by a process that died
    before it was written is forgotten with it."""
    if world.store.forgot_at is not None or any(machine.incarnations > 1 for machine in world.machines):
        return
    if any(noted.event == "conversation_let_go" for process in _processes(world) for noted in process.notes):
        return  # another node has it as it was last written
    told = {json.loads(each.body)["data"].get("caused_by") for each in world.application.received}
    for action, name in world.rest.accepted.items():
        if action not in told and name not in ("pause", "park", "leave"):
            yield f"nothing was told of {action}: {name}"
