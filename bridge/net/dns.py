"""Questions to the DNS, and answers kept for as long as they may be (RFC 1035 §3.2.1, RFC 2308).

NAPTR and SRV from the name servers of `/etc/resolv.conf`; addresses by `/etc/hosts` and search domains too. Bounded: questions
under way, how long each may take, how many answers are kept. What one call asks while another waits for the same is asked
once. Servers that are away do not take back what they have said: an answer is used for an hour past its time then (RFC 8767).
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple

import aiodns
import pycares
import structlog

from bridge.sip.locating import Naptr, Question, Record, Srv

AT_ONCE: Final = 64  # questions under way; the others wait their turn
PATIENCE_S: Final = 2.0  # for one question; no answer then counts as none
KEPT_MOST: Final = 4096  # answers; the one that was not used for the longest time goes
LONGEST_S: Final = 3600.0  # kept, whatever its TTL
NOTHING_S: Final = 15.0  # kept: nobody has records of that name and type
SILENCE_S: Final = 5.0  # kept: nobody has answered
STALE_S: Final = 3600.0  # used past its time, as long as nobody answers
RECORDS_MOST: Final = 64  # of one answer

_NOTHING: Final = frozenset({aiodns.error.ARES_ENODATA, aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_EBADNAME})

log = structlog.get_logger("bridge.net")


class _Kept(NamedTuple):
    records: tuple[Record, ...]
    fresh_until: float  # of the clock
    stale_until: float


class Dns:
    """The DNS for one node. `servers`: "host:port" of each instead of the system's; `clock`: seconds."""

    def __init__(
        self,
        servers: Sequence[str] | None = None,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.asked = 0  # questions that have left
        self._servers = servers
        self._patience_s = patience_s
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._under_way: dict[Question, asyncio.Task[tuple[Record, ...]]] = {}
        self._resolver: aiodns.DNSResolver | None = None  # it costs a thread: who calls nobody by name has none

    async def answer(self, question: Question) -> tuple[Record, ...]:
        """Its records; none where there are none, or nobody answers in time. Never raises but when cancelled."""
        kept = self._kept.get(question)
        if kept is not None and kept.fresh_until > self._clock():
            self._kept.move_to_end(question)
            return kept.records
        task = self._under_way.get(question)
        if task is None:
            task = asyncio.create_task(self._find_out(question), name=f"dns {question.kind} {question.name}")
            self._under_way[question] = task
            task.add_done_callback(lambda _: self._under_way.pop(question, None))
        return await asyncio.shield(task)  # others may wait for it too

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._resolver is not None:
            await self._resolver.close()

    async def _find_out(self, question: Question) -> tuple[Record, ...]:
        try:
            async with self._turns, asyncio.timeout(self._patience_s):
                self.asked += 1
                records, kept_s = await self._ask(question)
        except TimeoutError:
            return self._unanswered(question, f"no answer in {self._patience_s:g} s", now=self._clock())
        except aiodns.error.DNSError as error:
            if error.args[0] not in _NOTHING:
                return self._unanswered(question, str(error.args[-1]), now=self._clock())
            records, kept_s = (), NOTHING_S
        self._keep(question, records, kept_s, STALE_S if records else 0.0, now=self._clock())
        return records

    def _unanswered(self, question: Question, why: str, *, now: float) -> tuple[Record, ...]:
        kept = self._kept.get(question)
        stale = kept is not None and kept.stale_until > now
        log.warning("dns_unanswered", kind=question.kind, name=question.name, detail=why, stale=stale)
        if kept is None or not stale:
            kept = _Kept((), 0.0, 0.0)
        self._keep(question, kept.records, SILENCE_S, max(0.0, kept.stale_until - now - SILENCE_S), now=now)
        return kept.records

    def _keep(
        self, question: Question, records: tuple[Record, ...], fresh_s: float, stale_s: float, *, now: float
    ) -> None:
        self._kept[question] = _Kept(records, now + fresh_s, now + fresh_s + stale_s)
        self._kept.move_to_end(question)
        if len(self._kept) > KEPT_MOST:
            self._kept.popitem(last=False)

    async def _ask(self, question: Question) -> tuple[tuple[Record, ...], float]:
        """Its records, and for how many seconds they hold."""
        if self._resolver is None:
            # Each server is asked twice within our patience; c-ares waits longer the second time.
            self._resolver = aiodns.DNSResolver(self._servers, timeout=self._patience_s / 3, tries=2)
        if question.kind == "addresses":
            return await _addresses(self._resolver, question.name)
        found = await self._resolver.query_dns(question.name, "NAPTR" if question.kind == "naptr" else "SRV")
        # A CNAME on the way is among the answers too.
        return _held([(record, each.ttl) for each in found.answer if (record := _read(each.data)) is not None])


async def _addresses(resolver: aiodns.DNSResolver, name: str) -> tuple[tuple[Record, ...], float]:
    found = await resolver.getaddrinfo(name, socket.AF_UNSPEC, type=socket.SOCK_DGRAM)
    return _held([(_text(each.addr[0]), each.ttl) for each in found.nodes])


def _held(read: Sequence[tuple[Record, int]]) -> tuple[tuple[Record, ...], float]:
    """Without an own TTL (`/etc/hosts`), or with one of 0, they hold for this one question."""
    records = tuple(dict.fromkeys(record for record, _ in read))[:RECORDS_MOST]
    if not records:
        return (), NOTHING_S
    return records, min(LONGEST_S, max(0.0, min(ttl for _, ttl in read)))


def _read(data: object) -> Record | None:
    if isinstance(data, pycares.SRVRecordData):
        return Srv(data.priority, data.weight, data.port, _text(data.target))
    if isinstance(data, pycares.NAPTRRecordData):
        return Naptr(data.order, data.preference, _text(data.flags), _text(data.service), _text(data.replacement))
    return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("ascii", "replace")
