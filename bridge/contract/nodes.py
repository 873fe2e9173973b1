"""Nodes as integrators see them: who is there, and what each of them carries (contract §2).

The models publish the schemas and check, in tests, what `node_resource` renders. Knows nothing of how nodes hear of each
other.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bridge.announcing import Announcement
from bridge.contract.models import Count, Resource, Timestamp
from bridge.contract.render import Json, timestamp


class NodeLoad(Resource):
    """What a node carries."""

    calls: Annotated[Count, Field(description="That have not ended.")]
    conversations: Annotated[
        Count, Field(description="Those calls are in, and those with events still to be delivered.")
    ]
    capacity: Annotated[Count, Field(description="How many calls it could carry: those it has, and room for more.")]


class Node(Resource):
    """One process of this service."""

    id: Annotated[str, Field(description="`node_id`.", examples=["bridge-0"])]
    incarnation: Annotated[str, Field(description="Drawn at each start: names return, processes do not.")]
    answering: Annotated[bool, Field(description="It is the node that answers this request.")]
    alive: Annotated[bool, Field(description="It has renewed its lease. If not, others carry on its calls.")]
    draining: Annotated[bool, Field(description="It takes nothing new and hands its calls over.")]
    release: str
    snapshot_versions: Annotated[
        list[int], Field(description="Of stored calls: it can carry on those written in these.")
    ]
    cluster_address: Annotated[str | None, Field(description="Where other nodes reach it. Null: nowhere.")]
    started_at: Annotated[Timestamp | None, Field(description="By its own clock. Null: its release does not say.")]
    renewed_at: Annotated[Timestamp, Field(description="Its last sign of life, by the store's clock.")]
    load: Annotated[NodeLoad | None, Field(description="As of then. Null: its release does not say.")]


class NodeList(Resource):
    """A page of nodes, in the order of their ids."""

    data: list[Node]
    next_cursor: str | None


def node_resource(
    node_id: str, incarnation: str, said: Announcement, *, answering: bool, alive: bool, renewed_at: float
) -> Json:
    """One Node."""
    load = said.load
    return {
        "id": node_id,
        "incarnation": incarnation,
        "answering": answering,
        "alive": alive,
        "draining": said.draining,
        "release": said.release,
        "snapshot_versions": list(said.versions),
        "cluster_address": None if said.cluster is None else _address(*said.cluster),
        "started_at": timestamp(said.since) if said.since else None,
        "renewed_at": timestamp(renewed_at),
        "load": None if load is None else load._asdict(),
    }


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
