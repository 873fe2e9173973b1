"""The cluster as a node sees it: takes the links of other nodes, makes its own, and sends by whichever leads there.

What is sent leaves by a link that we have made, so each of two nodes makes one as soon as it has something to say; an
answer comes back by the link of its question. What arrives goes to a `Receiver`, one input after the other. Decides
nothing: whom to send to, and where that node listens, is said with each message.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from bridge.cluster import Envelope, Members, Receiver, frames
from bridge.cluster.frames import Ask, Message
from bridge.cluster.handshake import NONCE_BYTES, Accepting, Keys
from bridge.cluster.link import SOCKET_BUFFER, ClusterCounts, ClusterLimits, Ending, Link
from bridge.cluster.peer import Address, Peer, Place
from bridge.cluster.waiting import Waiting
from bridge.errors import LocalProtocolError, StartError, StoreUnavailable
from bridge.sip.flow import Flow, Send
from bridge.telemetry.flood import Flood

log = structlog.get_logger("bridge.cluster")

BACKLOG: Final = 128
FOREIGNERS_MOST: Final = 256
_SLEPT_S: Final = 1.0  # a look that is later than this was late because we stood still
# Ends of links that are in order; all others are counted, `cluster_` before their name.
_IN_ORDER: Final = frozenset({"closed", "reset", "idle", "replaced", "shutdown"})


class Cluster:
    """All links of one node. `bind` before anything is sent, `open` to be heard of; on the loop's thread.

    `dropped` gets a reason of the closed list of `bridge_dropped_total` for each thing that is ignored on purpose.
    """

    def __init__(
        self,
        *,
        owner: str,
        secret: bytes,
        listen: Address,
        members: Members,
        receiver: Receiver,
        dropped: Callable[[str], None],
        limits: ClusterLimits | None = None,
    ) -> None:
        """`owner`: who we are, "node_id:incarnation"; `secret`: the same at every node."""
        self.address = listen  # once bound: as bound
        self.limits = limits or ClusterLimits()
        self.counts = ClusterCounts()
        self._owner = owner
        self._members = members
        self._receiver = receiver
        self._dropped = dropped
        self._keys = Keys(secret)
        self._place = Place(owner, self._keys, members, self.limits, self.counts, dropped)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._is_open = False
        self._peers: dict[str, Peer] = {}  # those that we send to
        self._serving: dict[Peer, asyncio.Task[None]] = {}
        self._links: set[Link] = set()  # all that are connected
        self._unproven: dict[Link, None] = {}  # those that were made to us, the oldest first
        self._visitors: dict[str, Link] = {}  # by owner, once proven
        self._answering: dict[Link, set[asyncio.Task[None]]] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._floods: dict[str, Flood] = {}
        self._foreigners: set[str] = set()  # hosts of another version that have been told of

    async def bind(self) -> None:
        """From here on it can send, and others can connect. StartError names what is in the way."""
        await self._bind()

    async def _bind(self) -> socket.socket:
        made = self._socket = await _bound(self.address)
        self.address = made.getsockname()[:2]
        self._is_open = True
        self._look_again()
        return made

    async def open(self) -> None:
        """Begin to accept, and bind first where that has not happened."""
        bound = self._socket or await self._bind()
        self._server = await asyncio.get_running_loop().create_server(self._visited, sock=bound, backlog=BACKLOG)

    async def close(self) -> None:
        """Send what is queued, close every link, and wait for it. Questions end in PeerGone."""
        self._is_open = False
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        for peer in self._peers.values():
            peer.close()
        for link in list(self._links):
            link.end("shutdown")
        tasks = {*self._serving.values(), *(task for tasks in self._answering.values() for task in tasks)}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._empty.wait()

    # What is sent

    def send_envelope(
        self, owner: str, address: Address, flow: Flow, data: bytes, *, holder: str | None = None
    ) -> None:
        """A message for a conversation of `owner`'s, who listens at `address`, and the flow it came by.

        `holder`: the node that holds the flow; None: we do. What cannot be sent in time is dropped and counted.
        """
        self._peer(owner, address).put(frames.envelope(holder or self._owner, flow, data))

    def send(self, owner: str, address: Address, flow: Flow, data: bytes) -> None:
        """A message that shall leave by a flow that `owner` holds. What cannot be sent in time is dropped and counted."""
        self._peer(owner, address).put(frames.send(owner, flow, data))

    async def ask(self, owner: str, address: Address, question: bytes, *, timeout_s: float) -> bytes:
        """What `owner` answers. PeerGone: nobody knows what became of the question, so it must bear being repeated."""
        return await self._peer(owner, address).ask(question, timeout_s)

    def _peer(self, owner: str, address: Address) -> Peer:
        peer = self._peers.get(owner)
        if peer is not None:
            peer.address = address
            return peer
        if not self._is_open:
            raise LocalProtocolError("the cluster's listener is not open")
        if owner == self._owner:
            raise LocalProtocolError("what is for ourselves needs no link")
        peer = self._peers[owner] = Peer(self, self._place, owner, address)
        task = self._serving[peer] = asyncio.get_running_loop().create_task(self._serve(peer), name=f"link to {owner}")
        task.add_done_callback(partial(self._served, peer))
        return peer

    async def _serve(self, peer: Peer) -> None:
        await peer.serve()
        del self._peers[peer.owner]  # in this very moment: what is put into it later would never leave

    def _served(self, peer: Peer, task: asyncio.Task[None]) -> None:
        del self._serving[peer]
        if self._peers.get(peer.owner) is peer:  # it was cancelled, perhaps before it began, or has failed
            del self._peers[peer.owner]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faulted("link", error)

    # The links of others

    def _visited(self) -> Link:
        nonce = secrets.token_bytes(NONCE_BYTES)
        handshake = Accepting(self._keys, owner=self._owner, nonce=nonce, is_leased=self._members.is_leased)
        limits = self.limits
        waiting = Waiting(most_bytes=limits.queue_bytes, most_s=limits.queue_s, dropped=self._dropped)
        return Link(self, handshake, waiting, dialed=False)

    def opened(self, link: Link) -> None:
        self._links.add(link)
        self._empty.clear()
        if not self._is_open:
            link.end("shutdown")
        elif not link.dialed:
            if len(self._unproven) >= self.limits.unproven:
                next(iter(self._unproven)).end("full", "others came")
            self._unproven[link] = None

    def proven(self, link: Link) -> None:
        del self._unproven[link]
        self.counts.accepted += 1
        owner = str(link.owner)
        before = self._visitors.get(owner)
        self._visitors[owner] = link
        if before is not None:
            before.end("replaced")

    def trusts(self, link: Link) -> bool:
        return self._members.is_leased(str(link.owner))

    def take(self, link: Link, message: Message) -> None:
        try:
            if isinstance(message, Envelope):
                self._receiver.envelope(message)
            elif isinstance(message, Send):
                self._receiver.send(message)
            elif isinstance(message, Ask):
                self._begin_answer(link, message)
        except Exception as error:  # noqa: BLE001 -- told with its traceback and counted; the next message is another's
            self._faulted(type(message).__name__, error)

    def released(self, link: Link, ending: Ending, detail: str) -> None:
        self._unproven.pop(link, None)
        owner = link.owner
        if owner is not None and self._visitors.get(owner) is link:
            del self._visitors[owner]
        for task in self._answering.get(link, ()):
            task.cancel()  # nobody hears it any more
        if ending not in _IN_ORDER:
            self._dropped(f"cluster_{ending}")
            if ending == "version" and self._is_known_foreigner(link.remote.rpartition(":")[0]):
                return
            self._tell("cluster_link_closed", source=link.remote, peer=owner, why=ending, detail=detail)

    def _is_known_foreigner(self, host: str) -> bool:
        """Whether it has been told of already that who connects from there speaks another version: it does so for as long
        as both releases live, whenever it has something for us."""
        if host in self._foreigners:
            return True
        if len(self._foreigners) < FOREIGNERS_MOST:
            self._foreigners.add(host)
        return False

    def closed(self, link: Link) -> None:
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    def lost(self, peer: Peer, ending: Ending, detail: str, *, told: bool) -> None:
        """A link of ours is not there any more, or never was."""
        if ending not in _IN_ORDER:
            self._dropped(f"cluster_{ending}")
        if not told:
            host, port = peer.address
            self._tell("cluster_link_lost", peer=peer.owner, address=f"{host}:{port}", why=ending, detail=detail)

    # Answers

    def _begin_answer(self, link: Link, asked: Ask) -> None:
        tasks = self._answering.setdefault(link, set())
        if len(tasks) >= self.limits.asks:
            link.send(frames.answer(asked.number, None))
            return
        task = asyncio.get_running_loop().create_task(self._answer(link, asked), name="answer to another node")
        tasks.add(task)
        task.add_done_callback(partial(self._answered, link))

    async def _answer(self, link: Link, asked: Ask) -> None:
        try:
            async with asyncio.timeout(asked.timeout_s):
                answer = await self._receiver.answer(asked.question)
            payload = frames.answer(asked.number, answer)
        except TimeoutError:
            return  # whoever asked has given up too
        except StoreUnavailable as error:  # no defect, and whoever asked may ask again
            self._tell("question_unanswered", peer=link.owner, why=str(error))
            payload = frames.answer(asked.number, None)
        except Exception as error:  # noqa: BLE001 -- told and counted; whoever asked shall not wait for what will not come
            self._faulted("Ask", error)
            payload = frames.answer(asked.number, None)
        link.send(payload)

    def _answered(self, link: Link, task: asyncio.Task[None]) -> None:
        tasks = self._answering[link]
        tasks.discard(task)
        if not tasks:
            del self._answering[link]

    # Once in a while

    def _look(self) -> None:
        """What is silent, slow or stale is found here."""
        now = asyncio.get_running_loop().time()
        slept = now - self._looked_at > self.limits.look_s + _SLEPT_S
        for link in list(self._links):
            link.look(now, slept=slept)
        for peer in self._peers.values():
            peer.expire(now)
        self._look_again()

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        self._looking = loop.call_later(self.limits.look_s, self._look)

    def _faulted(self, about: str, error: BaseException) -> None:
        self._dropped("fault")
        self._tell("fault", about=about, exc_info=error)

    def _tell(self, event: str, **facts: object) -> None:
        """One line, or none: who has no secret may connect as often as it likes."""
        withheld = self._floods.setdefault(event, Flood()).admit(asyncio.get_running_loop().time())
        if withheld is not None:
            known = {key: fact for key, fact in {**facts, "withheld_before": withheld}.items() if fact}
            say = log.error if event == "fault" else log.info if known.get("why") in _IN_ORDER else log.warning
            say(event, **known)


async def _bound(address: Address) -> socket.socket:
    host, port = address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)  # and of those that it accepts
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(where)
            made.listen(BACKLOG)
            made.settimeout(0.0)
        except OSError:
            made.close()
            raise
    except OSError as error:
        taken = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise StartError(f"cannot listen on {shown} for other nodes: {taken}; the key is cluster.listen") from error
    return made
