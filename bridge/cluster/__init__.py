"""Between the nodes of a cluster: one authenticated link to each, over TCP (survival.md §3, "Any node takes any message").

It carries SIP messages as they came from the wire to the node whose they are (`Envelope`), messages of that node to the
one that holds their flow (`Send`), and questions of the REST API that another node has to answer. `peers.Cluster` is the
entrance. Refuses to know SIP, the store, what a question asks, and who is a member: that it is told.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from bridge.sip.flow import Flow, Send


class Envelope(NamedTuple):
    """A message as it came from the wire, and how: whoever gets it handles it as if it had come to a socket of its own."""

    node: str  # who holds the flow, "node_id:incarnation": what is sent on it has to leave there
    flow: Flow
    data: bytes


class Members(Protocol):
    """Who belongs to the cluster."""

    def is_leased(self, owner: str) -> bool:
        """Whether this node, "node_id:incarnation", holds a lease. Asked often: answer from memory.

        While the store is away the last answer stands, or no node could pass anything on.
        """
        ...


class Receiver(Protocol):
    """Who takes what other nodes send. Called on the loop; the first two must not block."""

    def envelope(self, envelope: Envelope) -> None:
        """A message for a conversation of ours."""
        ...

    def send(self, send: Send) -> None:
        """A message that has to leave by a flow of ours. Its listener, or its connection, may be gone."""
        ...

    async def answer(self, question: bytes) -> bytes:
        """Cancelled when nobody waits for it any more."""
        ...
