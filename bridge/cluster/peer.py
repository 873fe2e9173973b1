"""One node that we have something for: what waits for it, the link that takes it there, and the questions it owes us.

A link is made when it is needed, kept while it is used, and made again, after a pause that grows, while something waits.
Whatever becomes of it, a question ends: in an answer, or in `PeerGone`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from bridge.cluster import Members
from bridge.cluster.frames import ASK, Answer, Message, ask
from bridge.cluster.handshake import NONCE_BYTES, Dialing, Keys
from bridge.cluster.link import ClusterCounts, ClusterLimits, Ending, Link
from bridge.cluster.waiting import Waiting
from bridge.errors import PeerGone

Address: TypeAlias = tuple[str, int]  # a name or an address, IPv6 without brackets; and a port

_NUMBERS: Final = 1 << 32
_PLANNED: Final = frozenset({"idle", "shutdown"})
_LEFT: Final = frozenset({"closed", "reset"})
_SHUT: Final = "it closed the connection without a word: is cluster.secret the same at both nodes?"


@dataclass(frozen=True, slots=True)
class Place:
    """What all peers of a node share."""

    owner: str  # who we are
    keys: Keys
    members: Members
    limits: ClusterLimits
    counts: ClusterCounts
    dropped: Callable[[str], None]


class Home(Protocol):
    """Who has all peers."""

    def opened(self, link: Link) -> None: ...
    def closed(self, link: Link) -> None: ...
    def lost(self, peer: Peer, ending: Ending, detail: str, *, told: bool) -> None:
        """A link has ended otherwise than planned, or could not be made. `told`: as did the one before it."""
        ...


class Peer:
    """The keeper of our links to one incarnation of a node, one at a time. Something waits from the start."""

    def __init__(self, home: Home, place: Place, owner: str, address: Address) -> None:
        self.owner = owner
        self.address = address  # where it was said to listen last
        self.limits = place.limits
        self.counts = place.counts
        self._home = home
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._waiting = Waiting(most_bytes=self.limits.queue_bytes, most_s=self.limits.queue_s, dropped=place.dropped)
        self._current: Link | None = None  # that is being made, or is there
        self._link: Link | None = None  # the same, once it is proven
        self._over: asyncio.Future[Ending] = self._loop.create_future()  # how the link has ended
        self._is_elsewhere = False  # another incarnation answers there
        self._told = False
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0

    def put(self, payload: bytes) -> bool:
        """It leaves with all else that this turn brings, or once there is a link. False: it is dropped."""
        if self._is_elsewhere:
            self._place.dropped("cluster_wrong_node")
            return False
        if not self._waiting.put(payload, now=self._loop.time()):
            return False
        if self._link is not None:
            self._link.wake()
        return True

    async def ask(self, question: bytes, timeout_s: float) -> bytes:
        """The answer. PeerGone where there is none in time, or will be none."""
        if len(self._asked) >= self.limits.asks:
            raise PeerGone(f"{self.owner} owes too many answers")
        number = self._number = (self._number + 1) % _NUMBERS
        payload = ask(number, timeout_s, question)
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._asked[number] = answered
        try:
            if not self.put(payload):
                raise PeerGone(f"nothing more can wait for {self.owner}")
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise PeerGone(f"no answer of {self.owner} within {timeout_s:g} s") from None
        finally:
            del self._asked[number]

    async def serve(self) -> None:
        """Until nothing waits and no link is there. Whoever runs it forgets us in the same moment."""
        pause = 0.0
        while True:
            began = self._loop.time()
            ending = await self._one_link()
            if ending in _PLANNED and not self._waiting:
                return
            if self._loop.time() - began > self.limits.longest_pause_s + self.limits.connect_s:
                pause = 0.0  # it had lasted
            pause = min(max(2 * pause, self.limits.first_pause_s), self.limits.longest_pause_s)
            if ending == "wrong_node":
                self._is_elsewhere = True
                self._waiting.drop("cluster_wrong_node")
                pause = self.limits.longest_pause_s
            await asyncio.sleep(pause)
            self.expire(self._loop.time())
            if not self._waiting:
                return

    def expire(self, now: float) -> None:
        """Throw away what has waited too long."""
        self._waiting.expire(now=now)

    def close(self) -> None:
        """Send what can leave, and let go. `serve` is not needed any more."""
        if self._link is not None:
            self._link.end("shutdown")
        self._end("shutdown")

    async def _one_link(self) -> Ending:
        """Make one, and stay until it has ended."""
        place, limits = self._place, self.limits
        self._over = self._loop.create_future()
        if not place.members.is_leased(self.owner):
            return self._lose("not_leased", "it holds no lease")
        nonce = secrets.token_bytes(NONCE_BYTES)
        handshake = Dialing(place.keys, owner=place.owner, wanted=self.owner, nonce=nonce)
        link = self._current = Link(self, handshake, self._waiting, dialed=True)
        try:
            async with asyncio.timeout(limits.connect_s):
                await self._loop.create_connection(lambda: link, *self.address)
        except (OSError, ValueError, OverflowError) as error:  # TimeoutError is one; and whatever a host may be called
            return self._lose("unreachable", str(error) or f"no answer within {limits.connect_s:g} s")
        await asyncio.wait((self._over,))
        return self._over.result()

    def _lose(self, ending: Ending, detail: str) -> Ending:
        """There is no link, and what was asked has no answer."""
        has_left = self._link is not None
        self._link = self._current = None
        if ending not in _PLANNED:
            self._home.lost(self, ending, detail, told=self._told)
            self._told = True
        if ending == "not_leased" and not has_left and self._place.members.is_leased(self.owner):
            # It has not heard of us yet, which its next renewal changes; nothing was asked, and all of it still waits.
            self._over.set_result(ending)
        else:
            self._end(ending)
        return ending

    def _end(self, ending: Ending) -> None:
        if not self._over.done():
            self._over.set_result(ending)
        self._waiting.remove(ASK)
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(PeerGone(f"the link to {self.owner} has ended: {ending}"))

    # What links tell

    def opened(self, link: Link) -> None:
        self._home.opened(link)
        if link is not self._current:  # given up in the last moment
            link.end("shutdown")

    def proven(self, link: Link) -> None:
        self.counts.made += 1
        self._link = link
        self._told = False

    def trusts(self, link: Link) -> bool:
        return self._place.members.is_leased(self.owner)

    def take(self, link: Link, message: Message) -> None:
        if not isinstance(message, Answer):
            return  # a node sends by a link of its own
        answered = self._asked.get(message.number)
        if answered is None or answered.done():
            return  # too late
        if message.answer is None:
            answered.set_exception(PeerGone(f"{self.owner} could not answer"))
        else:
            answered.set_result(message.answer)

    def released(self, link: Link, ending: Ending, detail: str) -> None:
        if link is not self._current:
            return
        if link.owner is None and ending in _LEFT:
            self._lose("refused", _SHUT)
        else:
            self._lose(ending, detail)

    def closed(self, link: Link) -> None:
        self._home.closed(link)
