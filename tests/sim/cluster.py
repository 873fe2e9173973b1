"""What nodes are to each other: leases, claims, envelopes and questions, in virtual time.

The twin of `bridge.membership` and `bridge.switchboard` without a loop: each `Board` is one process's, and `Links` are what
stands between them. A link loses nothing while both ends live and reach each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from bridge.calls.actions import Action
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import UNNAMED
from bridge.engine.effects import CommandRefused, PassOn
from bridge.engine.inputs import Claimed, Command, Former, Input, Leased, Packet, Returned
from bridge.engine.registrations import StreamsClaimed
from bridge.errors import StoreUnavailable
from bridge.membership import LEASE_S, VALID_PART, heir_of
from bridge.sip.flow import Send
from bridge.store import Lease, Member, Whereabouts
from tests.sim.clock import VirtualClock
from tests.sim.network import Address, Network
from tests.sim.store import Link, at_once


class Peer(Protocol):
    """A process, as far as other nodes and its own board see it."""

    alive: bool
    address: Address
    link: Link

    @property
    def owner(self) -> str: ...
    def give(self, given: Input) -> None: ...
    def leave(self, send: Send) -> None: ...
    def soon(self, call: Callable[[], None]) -> None: ...
    def ask(self, make: Callable[[int], Input], answered: Callable[[object], None]) -> None: ...


class Links:
    """Between all processes of a world."""

    def __init__(self, clock: VirtualClock, chance: Random, network: Network) -> None:
        self.peers: dict[str, Peer] = {}  # by owner
        self._clock = clock
        self._chance = chance
        self._network = network

    def carry(self, source: Peer, owner: str, what: Callable[[Peer], None]) -> None:
        """Have it done at that process, if it is reached."""
        self._clock.later(self._chance.uniform(0.0005, 0.004), partial(self._arrive, source, owner, what))

    def _arrive(self, source: Peer, owner: str, what: Callable[[Peer], None]) -> None:
        peer = self.peers.get(owner)
        if peer is not None and peer.alive and self._network.reaches(source.address[0], peer.address[0]):
            peer.soon(partial(what, peer))


class Board:
    """One process's way to the others."""

    def __init__(self, own: Peer, links: Links, *, nonce: str, hint: str, clock: VirtualClock) -> None:
        self._own = own
        self._links = links
        self._nonce = nonce
        self._hint = hint
        self._clock = clock
        self._latest: Lease | None = None
        self._hints: dict[str, str] = {}  # by owner, of the others that live
        self._noticed: dict[str, float] = {}  # when somebody was found dead, by owner
        links.peers[own.owner] = own

    @property
    def _node_id(self) -> str:
        return self._own.owner.rpartition(":")[0]

    # Leases and what the dead leave

    def announce(self) -> Lease:
        """Say that we live, and hear of everybody. Raises StoreUnavailable."""
        facts = json.dumps({"hint": self._hint, "nonce": self._nonce}).encode()
        asked_at = self._clock.now()
        lease = at_once(self._own.link.announce(self._own.owner, facts, LEASE_S))
        if lease.replaced_by is None:
            self._own.give(Leased(asked_at + VALID_PART * LEASE_S))
            self._latest = lease
            quiet = lease.store_ms < lease.quiet_until_ms
            others = [each for each in lease.members if each.owner != self._own.owner]
            living = [each for each in others if quiet or each.is_alive(lease.store_ms)]
            self._hints = {each.owner: json.loads(each.facts)["hint"] for each in living}
        return lease

    def inherit(self, lease: Lease) -> None:
        """Our part of what the dead had; all of it, a lease later. Raises StoreUnavailable."""
        now = self._clock.now()
        living = [each.node_id for each in lease.members if each.is_alive(lease.store_ms)]
        for dead in lease.dead():
            free_for_all = now - self._noticed.setdefault(dead.owner, now) > LEASE_S
            names = at_once(self._own.link.owned(dead.node_id))
            self._claim(dead, [name for name in names if free_for_all or heir_of(name, living) == self._node_id])
            if free_for_all or heir_of(dead.node_id, living) == self._node_id:
                streams = at_once(self._own.link.claim_streams(self._own.owner, dead.node_id))
                self._own.give(StreamsClaimed(tuple(streams)))

    def _claim(self, dead: Member, names: Sequence[ConversationId]) -> int:
        claimed = at_once(self._own.link.claim(self._own.owner, self._nonce, dead.node_id, names))
        if claimed and self._latest is not None:
            silent_s = (self._latest.store_ms - dead.renewed_ms) / 1000
            self._own.give(Claimed(tuple(claimed), Former(dead.node_id, self._clock.now() - silent_s)))
        return len(claimed)

    def _find(self, call: CallId) -> Whereabouts | None:
        """Who has it; ourselves, once it has been claimed from a dead node. Raises StoreUnavailable."""
        place = at_once(self._own.link.whereabouts(call))
        if place is None or place.owner == self._own.owner or place.owner in self._hints or self._latest is None:
            return place
        node_id = place.owner.rpartition(":")[0]
        dead = next((each for each in self._latest.dead() if each.node_id == node_id), None)
        if dead is not None and self._claim(dead, [place.conversation]):
            return Whereabouts(place.conversation, self._own.owner)
        return place

    # Messages

    def send_there(self, send: Send) -> None:
        """By a flow that another node holds; by our own socket, where that node is gone."""
        bare = Send(send.flow._replace(node=""), send.data)
        if send.flow.node in self._hints:
            self._links.carry(self._own, send.flow.node, lambda peer: peer.leave(bare))
        else:
            self._own.leave(bare)

    def pass_on(self, wanted: PassOn) -> None:
        """To the node that has the call."""
        hinted = [owner for owner, hint in self._hints.items() if hint == wanted.hint]
        if wanted.call == UNNAMED:
            self._own.give(Returned(wanted.data, wanted.flow))  # nobody drains here
        elif hinted and not wanted.flow.node:
            self._envelope(hinted[0], wanted)
        else:
            self._clock.later(0.001, partial(self._own.soon, partial(self._look_for, wanted)))

    def _look_for(self, wanted: PassOn) -> None:
        try:
            place = self._find(wanted.call)
        except StoreUnavailable:
            return  # SIP repeats it
        if place is None or place.owner == self._own.owner:
            self._own.give(Returned(wanted.data, wanted.flow))
        elif place.owner in self._hints:
            self._envelope(place.owner, wanted)

    def _envelope(self, owner: str, wanted: PassOn) -> None:
        holder = wanted.flow.node or self._own.owner

        def arrive(peer: Peer) -> None:
            node = "" if holder == peer.owner else holder
            peer.give(Packet(wanted.data, wanted.flow._replace(node=node)))

        self._links.carry(self._own, owner, arrive)

    # Commands

    def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool, answered: Callable[[object], None]
    ) -> None:
        """Have the node that carries this call run these actions. Never answered where nobody knows what has become of them."""
        try:
            place = self._find(call)
        except StoreUnavailable:
            return
        make = partial(_command, call, actions, listed)
        if place is None:
            answered(CommandRefused(0, "not_found", "no such call is alive"))
        elif place.owner == self._own.owner:
            self._own.ask(make, answered)
        elif place.owner in self._hints:
            own = self._own

            def there(peer: Peer) -> None:
                peer.ask(make, lambda said: self._links.carry(peer, own.owner, lambda _: answered(said)))

            self._links.carry(own, place.owner, there)


def _command(call: CallId, actions: tuple[Action, ...], listed: bool, request: int) -> Input:
    return Command(request, call, actions, listed)
