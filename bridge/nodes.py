"""Who is there, and who shall go: what REST asks about nodes (survival §1, §4).

Everybody is known as of our last renewal, which a store that is away does not take from us. A drain goes to the node that
it names, over the cluster's link. Refuses to know how a node is emptied.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from bridge.announcing import announcement
from bridge.api import DrainRefused, Resource
from bridge.contract.nodes import node_resource
from bridge.draining import Draining
from bridge.errors import PeerGone, StoreUnavailable
from bridge.membership import Membership
from bridge.store import Lease, Member
from bridge.switchboard import Switchboard

_UNKNOWN: Final = DrainRefused("not_found", "there is no such node, or not any more")
_SILENT: Final = DrainRefused(
    "node_unreachable", "the node has not renewed its lease: if it is dead, others take its calls over"
)
_LINKLESS: Final = DrainRefused("node_unreachable", "there is no link to this node: is cluster.listen set at both?")
_OLDER: Final = DrainRefused("wrong_state", "the node is of a release that cannot be asked to drain: send it SIGTERM")


class Nodes:
    """`Nodes` of the API."""

    def __init__(
        self, *, owner: str, membership: Membership, switchboard: Switchboard | None, draining: Draining
    ) -> None:
        """`switchboard`: None where there is no way to other nodes."""
        self._owner = owner
        self._membership = membership
        self._switchboard = switchboard
        self._draining = draining

    def nodes(self) -> list[Resource]:
        """All that have not departed, by their ids."""
        lease = self._membership.latest
        members = lease.members if lease is not None else ()
        return (
            [self._resource(each, lease) for each in sorted(members, key=_name) if not each.has_departed]
            if lease
            else []
        )

    async def drain(self, node_id: str) -> Resource | DrainRefused:
        """Have this node drain, whichever it is."""
        if self._member(node_id) is None:
            with suppress(StoreUnavailable):
                await self._membership.announce()  # it may have begun since we last heard of everybody
        lease, member = self._membership.latest, self._member(node_id)
        if lease is None or member is None:
            return _UNKNOWN
        if member.owner == self._owner:
            return self._resource(member, lease, await self._draining.begin())
        if not _lives(member, lease):
            return _SILENT
        neighbour = self._switchboard.neighbour(member.owner) if self._switchboard is not None else None
        if self._switchboard is None or neighbour is None:
            return _LINKLESS
        try:
            said = await self._switchboard.drain(neighbour)
        except PeerGone as error:
            return DrainRefused("node_unreachable", f"the node does not answer: {error}")
        return _OLDER if said is None else self._resource(member, lease, said)

    def _member(self, node_id: str) -> Member | None:
        """As we last heard of it; None for one that has departed."""
        lease = self._membership.latest
        members = lease.members if lease is not None else ()
        return next((each for each in members if each.node_id == node_id and not each.has_departed), None)

    def _resource(self, member: Member, lease: Lease, facts: bytes | None = None) -> Resource:
        """`facts`: what it has said just now."""
        ours = member.owner == self._owner
        said = announcement(facts or (self._membership.facts_now() if ours else member.facts))
        return node_resource(
            member.node_id,
            member.incarnation,
            said,
            answering=ours,
            alive=_lives(member, lease),
            renewed_at=member.renewed_ms / 1000,
        )


def _name(member: Member) -> str:
    return member.node_id


def _lives(member: Member, lease: Lease) -> bool:
    """In quiet time whoever was there last still is."""
    return lease.store_ms < lease.quiet_until_ms or member.is_alive(lease.store_ms)
