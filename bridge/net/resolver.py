"""Names to addresses, as the system resolves them: `/etc/hosts`, search domains, DNS.

What RFC 3263 adds (NAPTR, SRV, failover) comes with the transports that need it. Look-ups are bounded in number and in time;
one that fails is an answer without addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import structlog

from bridge.engine.effects import Resolve
from bridge.engine.inputs import Resolved

AT_ONCE = 64  # look-ups under way; the others wait their turn
PATIENCE_S = 5.0

log = structlog.get_logger("bridge.net")


class Resolver:
    """Look-ups for one node. `give` is called on the loop with each result."""

    def __init__(self, give: Callable[[Resolved], None]) -> None:
        self._give = give
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def resolve(self, wanted: Resolve) -> None:
        """`Resolved` comes back, whatever happens."""
        task = asyncio.create_task(self._look_up(wanted), name=f"resolve {wanted.host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break off what is under way. Nothing is given any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_up(self, wanted: Resolve) -> None:
        addresses: tuple[str, ...] = ()
        try:
            async with self._turns, asyncio.timeout(PATIENCE_S):
                found = await asyncio.get_running_loop().getaddrinfo(wanted.host, None, type=socket.SOCK_DGRAM)
                addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
        except TimeoutError:
            log.warning("host_not_resolved", host=wanted.host, detail=f"no answer in {PATIENCE_S:g} s")
        except (OSError, UnicodeError) as error:  # UnicodeError: no name that DNS could know
            log.info("host_not_resolved", host=wanted.host, detail=str(error))
        self._give(Resolved(wanted.reader, addresses))
