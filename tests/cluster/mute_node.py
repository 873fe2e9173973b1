"""A node that is asked and never answers, as a process: `python -m tests.cluster.mute_node OWNER MEMBER`."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.cluster.nodes import Membership, Node


async def main() -> None:
    owner, member = sys.argv[1:]
    node = Node(owner, Membership({member}))

    async def never(question: bytes) -> bytes:
        print("asked", flush=True)
        await asyncio.Event().wait()
        return question

    node.answers = never
    await node.cluster.open()
    print(node.address[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
