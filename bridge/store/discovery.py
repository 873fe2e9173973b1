"""Where the primary is: always at one place, or where Sentinels or the nodes of a Redis Cluster say (survival.md §1, §2).

Asked before each connection is made, and Sentinels each second as well: a primary that was cut off from them goes on
taking writes that will be lost. The answer with the highest configuration epoch counts, for that names the last failover.
All our keys are one slot, so a Cluster is to us the node that has this slot. Refuses to know what is stored.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from bridge.store.server import Address, NotFoundError, RefusedError, facts_of

WATCH_S = 1.0  # between two looks at whether the primary is still the primary
PATIENCE_S = 1.0  # of an answer
STRAGGLERS_S = 0.25  # how much longer than the first answer the others may take
NODES_MAX = 16  # of a cluster, that we ask

_MOVED = re.compile(r"MOVED (?P<slot>\d+) (?P<host>\S*):(?P<port>\d+)")


class FixedDiscovery:
    """One server, where it always is. Whether others follow it is its own affair."""

    watch_s: float | None = None
    replicas = 0

    def __init__(self, address: Address) -> None:
        self.known: Address | None = address
        self._address = address

    def __str__(self) -> str:
        return str(self._address)

    async def find(self) -> Address:
        return self._address

    async def has_moved(self, address: Address) -> bool:
        return False

    def heed(self, error: str) -> None:
        """Nothing that it says leads elsewhere."""

    async def facts(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        """Nothing is held."""


class SentinelDiscovery:
    """The primary that Sentinels watch by this name. `like` is how each server is spoken to."""

    watch_s: float | None = WATCH_S

    def __init__(self, like: Address, clients: Sequence[Redis], name: str, shown: str) -> None:
        self.known: Address | None = None
        self.replicas = 0
        self._like = like
        self._clients = clients
        self._name = name
        self._shown = shown
        self._epoch = -1  # the highest that was heard

    def __str__(self) -> str:
        return self._shown

    async def find(self) -> Address:
        """Raises NotFoundError where no Sentinel says, or a failover is under way."""
        facts = await self._ask()
        if "o_down" in facts["flags"].split(","):
            raise NotFoundError(
                f"{facts['ip']}:{facts['port']} is down, say the Sentinels, and no other has its place yet"
            )
        self.known = replace(self._like, host=facts["ip"], port=int(facts["port"]))
        self.replicas = int(facts["num-slaves"])
        return self.known

    async def has_moved(self, address: Address) -> bool:
        """Whether it is not there any more. Where nobody says, it is taken to be."""
        try:
            return await self.find() != address
        except OSError:
            return False

    def heed(self, error: str) -> None:
        """A replica knows of no other server that we might ask, but we know then that it is not this one."""
        if error.startswith("READONLY"):
            self.known = None

    async def facts(self) -> dict[str, str]:
        """How many Sentinels answer, whether they could decide on a failover, and how many replicas they know."""
        said = await _answers([_quiet(client, "SENTINEL", "CKQUORUM", self._name) for client in self._clients])
        answering = [each for each in said if isinstance(each, bytes | ResponseError)]
        refusals = [str(each) for each in answering if isinstance(each, ResponseError)]
        known = await self._ask()
        return {
            "discovery": "sentinel",
            "sentinels": str(len(self._clients)),
            "sentinels-known": str(1 + int(known["num-other-sentinels"])),
            "sentinels-answering": str(len(answering)),
            "sentinel-quorum": refusals[0] if refusals else "ok",
            "sentinel-replicas": known["num-slaves"],
            "sentinel-down-after-ms": known["down-after-milliseconds"],
        }

    async def close(self) -> None:
        await asyncio.gather(*[client.aclose() for client in self._clients])

    async def _ask(self) -> dict[str, str]:
        answers = await _answers([_quiet(client, "SENTINEL", "MASTER", self._name) for client in self._clients])
        heard = [_facts(answer) for answer in answers if isinstance(answer, list)]
        if not heard:
            raise _nobody(f"no Sentinel knows {self._name!r}", answers)
        newest = max(heard, key=lambda facts: int(facts["config-epoch"]))
        epoch = int(newest["config-epoch"])
        # Epochs begin anew where Sentinels were set up anew; a few that have been away are just behind.
        if epoch < self._epoch and 2 * len(heard) <= len(self._clients):
            raise NotFoundError("the Sentinels that answer are behind the others")
        self._epoch = epoch
        return newest


class ClusterDiscovery:
    """The node of a Redis Cluster that has the slot of `tag`. `like` is how each node is spoken to."""

    watch_s: float | None = None  # who lost the slot says so, and who is cut off from the others stops by itself

    def __init__(self, like: Address, seeds: Sequence[tuple[str, int]], clients: Sequence[Redis], tag: str) -> None:
        self.known: Address | None = None
        self.replicas = 0
        self.slot: Final = key_slot(tag.encode())
        self._like = like
        self._seeds = tuple(seeds)
        self._clients = dict(zip(seeds, clients, strict=True))
        self._hint: tuple[str, int] | None = None  # where a MOVED has sent us

    def __str__(self) -> str:
        return f"redis+cluster://{','.join(f'{host}:{port}' for host, port in self._seeds)}"

    async def find(self) -> Address:
        """Raises NotFoundError where nobody says who has the slot."""
        hint, self._hint = self._hint, None
        answers = await _answers([self._ask(place) for place in self._clients])
        views = [answer for answer in answers if isinstance(answer, list)]
        if not views:
            raise _nobody(f"no node of the cluster knows who has slot {self.slot}", answers)
        # A node that has lost the slot knows to whom; should that be wrong, the next question is put to all.
        owner = hint or Counter(view[0] for view in views).most_common(1)[0][0]
        followers = max((view[1:] for view in views if view[0] == owner), key=len, default=[])
        self.replicas = len(followers)
        await self._learn((owner, *followers))
        self.known = replace(self._like, host=owner[0], port=owner[1])
        return self.known

    async def has_moved(self, address: Address) -> bool:
        return False

    def heed(self, error: str) -> None:
        """A MOVED names who has the slot now."""
        found = _MOVED.match(error)
        if found is not None and found["host"]:
            self._hint = (found["host"], int(found["port"]))
            self.known = None

    async def facts(self) -> dict[str, str]:
        """Whether the cluster serves, who has our slot, and how many could take it over."""
        owner = await self.find()
        info = await _quiet(self._clients[owner.host, owner.port], "CLUSTER", "INFO")
        return {
            "discovery": "cluster",
            "cluster-state": facts_of(info).get("cluster_state", "unknown"),
            "cluster-slot": str(self.slot),
            "cluster-slot-owner": f"{owner.host}:{owner.port}",
            "cluster-slot-replicas": str(self.replicas),
        }

    async def close(self) -> None:
        await asyncio.gather(*[client.aclose() for client in self._clients.values()])

    async def _ask(self, place: tuple[str, int]) -> object:
        """This node's view: who has the slot, and then who follows that one."""
        answer = await _quiet(self._clients[place], "CLUSTER", "SLOTS")
        if not isinstance(answer, list):
            return answer
        for first, last, *nodes in answer:
            if first <= self.slot <= last:
                # A node that does not know its own name is where we have asked it.
                return [((node[0] or b"").decode() or place[0], int(node[1])) for node in nodes]
        return NotFoundError(f"no node has slot {self.slot}")

    async def _learn(self, places: Iterable[tuple[str, int]]) -> None:
        """Those whom the seeds may not outlive are asked too. Who has left makes room."""
        wanted = list(dict.fromkeys((*self._seeds, *places)))[:NODES_MAX]
        gone = [self._clients.pop(place) for place in list(self._clients) if place not in wanted]
        for place in wanted:
            if place not in self._clients:
                self._clients[place] = _like(self._clients[self._seeds[0]], place)
        await asyncio.gather(*[client.aclose() for client in gone])


def _like(client: Redis, place: tuple[str, int]) -> Redis:
    """A client for another node, with the same credentials and the same options."""
    pool: Any = client.connection_pool
    kwargs = {**pool.connection_kwargs, "host": place[0], "port": place[1]}
    return Redis.from_pool(type(pool)(pool.connection_class, max_connections=pool.max_connections, **kwargs))


async def _quiet(client: Redis, *command: str) -> object:
    """The answer, or what went wrong."""
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError) as error:
        return error


async def _answers(questions: Sequence[Any]) -> list[object]:
    """What was answered in time: a silent one delays nobody for longer than `STRAGGLERS_S` after the first."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        until, pending = PATIENCE_S, set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=until, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            if any(not isinstance(task.result(), BaseException) for task in done):
                until = STRAGGLERS_S
        return [task.result() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()


def _nobody(text: str, answers: Sequence[object]) -> OSError:
    """What is to be raised where nobody knows: it is hopeless where they all say that they never will."""
    refusals = [each for each in answers if isinstance(each, ResponseError | AuthenticationError)]
    error = RefusedError if refusals and len(refusals) == len(answers) else NotFoundError
    return error(f"{text}: {answers[0]}" if answers else f"{text}: none of them answers")


def _facts(flat: Sequence[Any]) -> dict[str, str]:
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
