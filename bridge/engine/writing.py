"""What has changed becomes one write for each conversation (architecture §5), with what waits for it.

The fence of ownership is in every write; acknowledgements of deliveries ride along. Refuses to know what the records mean.
"""

from __future__ import annotations

from bridge.calls import snapshot
from bridge.engine.commit import Ack, CallWrite, Commit
from bridge.engine.holdings import Holding, Holdings, NodeTimer, Unwritten


def flush(holdings: Holdings) -> None:
    """Write everything that has changed since it was last written."""
    while holdings.unwritten:
        write(holdings, next(iter(holdings.unwritten.values())))


def write(holdings: Holdings, holding: Holding) -> None:
    """Write what has changed in this conversation, if anything."""
    unwritten, holding.unwritten = holding.unwritten, None
    holdings.unwritten.pop(holding.id, None)
    if unwritten is not None and holding.id in holdings.conversations:
        commit(holdings, holding, unwritten)


def commit(holdings: Holdings, holding: Holding, unwritten: Unwritten, *, whole: bool = False) -> None:
    """One write of a conversation: what changed, with everything that is waiting to be acknowledged riding along."""
    holding.version += 1
    ticket = holdings.new_ticket(holding)
    head = head_of(holdings, holding)
    version = holding.snapshot
    writes: list[CallWrite] = []
    acks: list[Ack] = []
    promised = unwritten.promised
    legs = list(holding.legs.values())
    if promised is not None:
        legs.sort(key=lambda leg: leg.call.id != promised.call)  # a key is claimed for the first of them
    for leg in legs:
        call = leg.call
        fixed = leg.fixed if whole or not leg.stored else None
        leg.stored = True
        variable = snapshot.variable(call, version)
        writes.append(CallWrite(call.id, round(call.created_at * 1000), fixed=fixed, variable=variable))
        settled = leg.cursors if whole else leg.acks
        if settled:
            acks += [Ack(call.id, endpoint, sequence) for endpoint, sequence in settled.items()]
            leg.acks.clear()
            holdings.agenda.disarm((call.id, NodeTimer.ACKNOWLEDGE))
    holding.decided = False
    holdings.out.append(
        Commit(
            ticket=ticket,
            conversation=holding.id,
            epoch=holding.epoch,
            nonce=holding.nonce,
            version=holding.version,
            owner=holdings.settings.owner,
            head=head,
            calls=tuple(writes),
            events=tuple(unwritten.events),
            acks=tuple(acks),
            endings=tuple(unwritten.endings),
            whole=whole,
            claim=None if promised is None else promised.claim,
            takes=unwritten.takes,
        )
    )
    if whole:
        holding.gate.rewrite(ticket)
    else:
        holding.gate.wait(ticket, unwritten.waiting)


def head_of(holdings: Holdings, holding: Holding) -> bytes:
    """The conversation's own record. Its `v` is what a claimer must be able to read: the parts that are written once stay
    in the version of their time."""
    version = holdings.snapshot
    for leg in holding.legs.values():
        if not leg.fixed:
            leg.fixed = snapshot.fixed(leg.call, leg.call.invite, listener=leg.listener, version=version)
            leg.snapshot = holdings.snapshot
        version = max(version, leg.snapshot)
    holding.snapshot = version
    calls = ",".join([f'"{call}"' for call in holding.legs])
    more = f",{holding.unknown}" if holding.unknown else ""
    return f'{{"v":{version},"created_at":{holding.created_at!r},"calls":[{calls}]{more}}}'.encode("ascii")
