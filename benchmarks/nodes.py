"""Several nodes on one Redis, as in production: each on an address of its own, linked, with a supervisor and its workers.

Before them a load balancer may stand that knows nothing of SIP (`peers/balancer.c`). It is nobody's cost but its own.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, Role
from benchmarks.stacks import (
    ANSWERED_WEBHOOKS,
    JOINED_WEBHOOKS,
    SIP_PORT,
    Node,
    Place,
    Stack,
    Variant,
    address_in,
    await_node,
    launch_node,
    node_config,
    roles_of,
    start_surroundings,
)

NODES = 3
CLUSTER_PORT = 7060
SECRET = "what the nodes of a benchmark share"
ACQUAINTANCE_S = 2.5  # each has renewed its lease twice: they know of each other


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes, and the stack that they are part of: its figures are those of all nodes together."""

    stack: Stack
    nodes: tuple[Node, ...]


def start_nodes(ends: ExitStack, directory: Path, variant: Variant, *, balancer: Path | None = None) -> Cluster:
    """They know of each other. With a `balancer`, the program, they are called through it, at the stack's host."""
    place, processes = start_surroundings(ends, directory, variant)
    hosts = [address_in(place.host, number) for number in range(2, 2 + NODES)]
    launched = [launch_node(ends, place, f"node-{host}", linked_config(place, host, balancer)) for host in hosts]
    nodes = tuple(await_node(process, host) for process, host in zip(launched, hosts, strict=True))
    if balancer is not None:
        processes = [*processes, start_balancer(ends, directory, balancer, place.host, hosts)]
    time.sleep(ACQUAINTANCE_S)
    webhooks = JOINED_WEBHOOKS if variant.pairs else ANSWERED_WEBHOOKS
    roles = (*merge_roles(nodes), *roles_of(processes))
    stack = Stack("bridge", place.host, directory, [*processes, *launched], roles, webhooks, sources=1 + NODES)
    return Cluster(stack, nodes)


def linked_config(place: Place, host: str, balancer: Path | None) -> dict[str, Any]:
    """Of one node among others. Behind a balancer it says that this is where it is."""
    config = node_config(place, host, f"node-{host.rpartition('.')[2]}")
    config["cluster"] = {"listen": f"{host}:{CLUSTER_PORT}", "secret": SECRET}
    if balancer is not None:
        config["sip"]["advertise"] = f"{place.host}:{SIP_PORT}"
        config["media"]["advertise"] = host
    return config


def start_balancer(ends: ExitStack, directory: Path, program: Path, host: str, nodes: list[str]) -> Process:
    """Listens on `host`, and gives each datagram to the next of the nodes."""
    balancer = Process("balancer", [str(program), host, str(SIP_PORT), *nodes], directory=directory)
    ends.callback(balancer.end)
    balancer.await_ready(lambda: "ready" in balancer.log.read_text())
    return balancer


def merge_roles(nodes: tuple[Node, ...]) -> tuple[Role, ...]:
    """One column for each role, of all nodes together."""
    merged: dict[str, tuple[int, ...]] = {}
    for node in nodes:
        for role in node.roles:
            merged[role.name] = merged.get(role.name, ()) + role.pids
    return tuple(Role(name, pids) for name, pids in merged.items())
