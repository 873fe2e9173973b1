"""Which node a message or command goes to, and what other nodes bring us (survival §3).

Stands beside the pump, because it joins the cluster's links, the store and the engine. The nodes that live are known from
each renewal of our own lease; who has a call is told by the tag in the message where that node still has it, else by the
store. A call of a dead node is claimed first, where the store allows it, and then the message is handled here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import structlog

from bridge.ambient import Clock, Seal
from bridge.announcing import Load, announcement
from bridge.calls.actions import Action, from_data, to_data
from bridge.calls.facts import ActionId, CallId, ConversationId
from bridge.calls.sealing import sealed_actions
from bridge.cluster import Envelope
from bridge.cluster.peers import Cluster
from bridge.engine.commit import UNNAMED
from bridge.engine.effects import CommandAccepted, CommandRefused, Fetch, Originated, OriginateRefused, PassOn
from bridge.engine.inputs import Command, Former, Originate, Packet, Returned
from bridge.errors import PeerGone, StoreUnavailable
from bridge.membership import Membership, heir_of
from bridge.pump import Pump
from bridge.questions import originate_from_data, originate_to_data, originated_from_data, originated_to_data
from bridge.sip.flow import Send
from bridge.store import Lease, Store, Whereabouts

LOOK_UPS_MOST = 256  # calls that are looked for at once
WAITING_MOST = 16  # messages of one call meanwhile
ASK_TIMEOUT_S = 5.0
QUESTIONS = 1  # the version of what nodes ask each other; one that is not understood is refused, and nothing is done
ARRIVING_S = 0.1  # until a call that the store says is ours, and that is not here, is looked for again
ARRIVING_MOST = 30
HEAR_AGAIN_S = 0.2  # until the store is asked again who lives, because a node that we do not know has come

_NOBODY_ANSWERS = "the node that carries it does not answer, and is not known to be dead yet"
_REFUSALS = frozenset({"not_found", "wrong_state", "ended", "store_away"})

log = structlog.get_logger("bridge.switchboard")


class Neighbour(NamedTuple):
    """Another node that lives."""

    owner: str
    address: tuple[str, int]  # of its `cluster.listen`, as others reach it
    hint: str  # in the tags that it makes
    draining: bool
    nonce: str  # that its claims bear
    release: str
    versions: tuple[int, ...]  # of stored calls, that it reads
    load: Load | None  # when it last renewed its lease; None: it has not said
    starting: bool = False  # it does not listen yet, and has not taken up what its predecessors have left


class _Held:
    """A call that is being handed over: what has come for it since, and whether that is over."""

    __slots__ = ("over", "waiting")

    def __init__(self) -> None:
        self.waiting: list[PassOn] = []
        self.over = asyncio.Event()


class Fetcher(Protocol):
    """Who brings calls of other nodes here, and ours there."""

    def fetch(self, wanted: Fetch) -> None: ...
    def asked(self, question: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]: ...


class Switchboard:
    """`Members` and `Receiver` of the cluster; the pump's way to other nodes."""

    def __init__(
        self, *, owner: str, pump: Pump, store: Store, clock: Clock, seal: Seal, dropped: Callable[[str], None]
    ) -> None:
        self._owner = owner
        self._seal = seal  # links are proven, and not encrypted
        self._clock = clock
        self._pump = pump
        self._store = store
        self._dropped = dropped
        self._membership: Membership
        self._cluster: Cluster
        self._fetcher: Fetcher
        self._begin_draining: Callable[[], Awaitable[bytes]]
        self._neighbours: dict[str, Neighbour] = {}  # by owner
        self._by_hint: dict[str, Neighbour] = {}
        self._held: dict[CallId, _Held] = {}
        self._looking: dict[CallId, list[PassOn]] = {}
        self._brought = False  # what is passed on right now has come from another node
        self._hear_again_at = 0.0  # not before
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(
        self,
        cluster: Cluster,
        membership: Membership,
        fetcher: Fetcher,
        begin_draining: Callable[[], Awaitable[bytes]],
    ) -> None:
        """Whose links, who takes over what falls to us, who brings what a join wants, and who empties us and says how it
        stands then."""
        self._cluster = cluster
        self._membership = membership
        self._fetcher = fetcher
        self._begin_draining = begin_draining

    async def close(self) -> None:
        """Look for nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Who lives

    def heard(self, lease: Lease) -> None:
        """Everybody, as the store knows them. In quiet time whoever was there last still is."""
        quiet = lease.store_ms < lease.quiet_until_ms
        found = {}
        for member in lease.members:
            if member.owner != self._owner and (quiet or member.is_alive(lease.store_ms)):
                neighbour = _neighbour(member.owner, member.facts)
                if neighbour is not None:
                    found[member.owner] = neighbour
        self._neighbours = found
        self._by_hint = {neighbour.hint: neighbour for neighbour in found.values()}

    def neighbour(self, owner: str) -> Neighbour | None:
        """This node, if it lives and can be reached."""
        return self._neighbours.get(owner)

    def is_leased(self, owner: str) -> bool:
        """Whether this node lives. One that has just begun may be known to the store alone, which is asked."""
        if owner in self._neighbours:
            return True
        now = self._clock.now()
        if now >= self._hear_again_at:
            self._hear_again_at = now + HEAR_AGAIN_S
            self._begin(self._hear(), "hearing of others")
        return False

    async def _hear(self) -> None:
        with suppress(StoreUnavailable):
            await self._membership.announce()

    def ready(self) -> list[Neighbour]:
        """Who takes new calls, and what is handed over."""
        return [each for each in self._neighbours.values() if not (each.draining or each.starting)]

    # What leaves

    def send_there(self, send: Send) -> None:
        """By a flow that another node holds; by our own socket, where that node is gone."""
        flow = send.flow
        holder = self._neighbours.get(flow.node)
        bare = flow._replace(node="")
        if holder is None:
            self._pump.leave(Send(bare, send.data))
        else:
            self._cluster.send(holder.owner, holder.address, bare, send.data)

    def fetch(self, wanted: Fetch) -> None:
        """Have a call brought here that one of ours shall be joined with."""
        self._fetcher.fetch(wanted)

    def pass_on(self, wanted: PassOn) -> None:
        """To the node that has the call."""
        if wanted.call == UNNAMED:
            self._pass_new_on(wanted)
            return
        held = self._held.get(wanted.call)
        if held is not None:
            self._wait(held.waiting, wanted)
            return
        # What another node has sent us has been looked for by its tag already; it may be our own, and have come back.
        hinted = self._by_hint.get(wanted.hint) if not (wanted.flow.node or self._brought) else None
        if hinted is not None:
            self._envelope(hinted, wanted)
            return
        waiting = self._looking.get(wanted.call)
        if waiting is not None:
            self._wait(waiting, wanted)
        elif len(self._looking) >= LOOK_UPS_MOST:
            self._dropped("switchboard_full")
        else:
            self._looking[wanted.call] = [wanted]
            self._begin(self._look_for(wanted.call), "look-up")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _wait(self, waiting: list[PassOn], wanted: PassOn) -> None:
        if len(waiting) < WAITING_MOST:
            waiting.append(wanted)
        else:
            self._dropped("switchboard_full")

    def _pass_new_on(self, wanted: PassOn) -> None:
        """A new call, from a node that drains: the same node for each copy of its INVITE."""
        name = wanted.data.partition(b"\r\nCall-ID:")[2].partition(b"\r\n")[0].decode("utf-8", "replace")
        ready = {each.owner: each for each in self.ready()} if not wanted.flow.node else {}
        heir = heir_of(name, ready)
        if heir is None:
            self._pump.give(Returned(wanted.data, wanted.flow))
        else:
            self._envelope(ready[heir], wanted)

    async def _look_for(self, call: CallId) -> None:
        try:
            place = await self.find(call)
        except StoreUnavailable:
            self._dropped("store_away")  # SIP repeats it
            return
        finally:
            waiting = self._looking.pop(call)
        neighbour = self._neighbours.get(place.owner) if place is not None else None
        for wanted in waiting:
            if neighbour is not None:
                self._envelope(neighbour, wanted)
            elif place is None or self._is_here(call):
                self._pump.give(Returned(wanted.data, wanted.flow))
            else:
                self._dropped("owner_unknown")  # it is not dead for sure: SIP repeats it

    async def find(self, call: CallId) -> Whereabouts | None:
        """Who has it; ourselves, once it has been claimed from a dead node. One that is being handed over, by us or to us, is
        waited for: an answer that there is no such call would end it."""
        place = None
        for _ in range(ARRIVING_MOST):
            held = self._held.get(call)
            if held is not None:
                await held.over.wait()
            place = await self._store.whereabouts(call)
            if place is None or place.owner in self._neighbours:
                return place
            if place.owner != self._owner:
                claimed = await self._membership.claim(place)
                return Whereabouts(place.conversation, self._owner) if claimed else place
            if self._is_here(call):
                return place
            await asyncio.sleep(ARRIVING_S)
        return place

    def _is_here(self, call: CallId) -> bool:
        return self._pump.node.call(call) is not None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task_failed", task=task.get_name(), exc_info=task.exception())

    def _envelope(self, neighbour: Neighbour, wanted: PassOn) -> None:
        flow = wanted.flow
        self._cluster.send_envelope(
            neighbour.owner, neighbour.address, flow._replace(node=""), wanted.data, holder=flow.node or None
        )

    # What comes

    def envelope(self, envelope: Envelope) -> None:
        """A message of another node's socket."""
        node = "" if envelope.node == self._owner else envelope.node
        self._brought = True
        try:
            self._pump.packet(Packet(envelope.data, envelope.flow._replace(node=node)))
        finally:
            self._brought = False

    def send(self, send: Send) -> None:
        """What shall leave by a flow of ours."""
        self._pump.leave(send)

    # Handing over

    def hold(self, calls: Iterable[CallId]) -> None:
        """Keep what comes for these until it is said where they are."""
        for call in calls:
            self._held[call] = _Held()

    def let_through(self, calls: Iterable[CallId]) -> None:
        """They are where the store says."""
        for call in calls:
            held = self._held.pop(call, None)
            if held is not None:
                held.over.set()
                for wanted in held.waiting:
                    self.pass_on(wanted._replace(hint=""))

    async def hand(self, heir: Neighbour, conversation: ConversationId) -> None:
        """Have that node take up what has been written over to it. Raises PeerGone, also where it has not understood."""
        answer = await self.question(heir, {"take": conversation, "node": self._owner})
        if "taken" not in answer:
            raise PeerGone(f"{heir.owner} has not understood what it was handed")

    async def drain(self, neighbour: Neighbour) -> bytes | None:
        """Have that node drain. What it says of itself then; None: its release cannot be asked that. Raises PeerGone."""
        answer = await self.question(neighbour, {"drain": True})
        return json.dumps(answer["draining"]).encode() if "draining" in answer else None

    async def question(self, neighbour: Neighbour, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """What that node answers. Raises PeerGone where it answers nothing, or what we do not understand."""
        asked = json.dumps({"v": QUESTIONS, **question}).encode()
        said = await self._cluster.ask(neighbour.owner, neighbour.address, asked, timeout_s=ASK_TIMEOUT_S)
        try:
            answer = json.loads(said)
        except ValueError:
            answer = None
        if not isinstance(answer, Mapping):
            raise PeerGone(f"{neighbour.owner} has answered what we do not understand")
        return answer

    # Commands

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused:
        """Have the node that carries this call run these actions. Raises StoreUnavailable, and TimeoutError where nobody
        knows what has become of them."""
        place = await self.find(call)
        request = self._pump.new_request()
        if place is None:
            return CommandRefused(request, "not_found", "no such call is alive")
        if self._is_here(call):
            return await self._pump.ask(Command(request, call, actions, listed))
        neighbour = self._neighbours.get(place.owner)
        if neighbour is None:
            raise StoreUnavailable(_NOBODY_ANSWERS)
        question = {
            "v": QUESTIONS,
            "call": call,
            "actions": [to_data(action) for action in sealed_actions(actions, self._seal)],
            "listed": listed,
        }
        try:
            said = await self._cluster.ask(
                neighbour.owner, neighbour.address, json.dumps(question).encode(), timeout_s=ASK_TIMEOUT_S
            )
        except PeerGone as error:
            raise TimeoutError(str(error)) from error
        return _read_answer(request, said)

    async def originate(self, wanted: Originate) -> Originated | OriginateRefused:
        """Have the node that carries this conversation make the call. Raises as `command` does."""
        said = OriginateRefused(wanted.request, "not_found", f"there is no conversation {wanted.conversation}")
        for _ in range(ARRIVING_MOST):
            place = await self._carrier(wanted.conversation)
            if place is None:
                break
            if self._pump.node.conversation(place.conversation) is not None:
                return await self._pump.ask(replace(wanted, request=self._pump.new_request()))
            answer = await self._originate_there(wanted, place)
            if not isinstance(answer, OriginateRefused) or answer.code != "not_found":
                return answer
            await asyncio.sleep(ARRIVING_S)  # it is on its way to yet another node
        return said

    async def _carrier(self, conversation: ConversationId | None) -> Whereabouts | None:
        """Who carries a conversation; None where nobody does any more."""
        stored = None if conversation is None else await self._store.conversation(conversation)
        for call in () if stored is None else stored.calls:
            place = await self.find(call)
            if place is not None and place.conversation == conversation:
                return place
        return None

    async def _originate_there(self, wanted: Originate, place: Whereabouts) -> Originated | OriginateRefused:
        neighbour = self._neighbours.get(place.owner)
        if neighbour is None:
            raise StoreUnavailable(_NOBODY_ANSWERS)
        try:
            answer = originated_from_data(
                await self.question(neighbour, originate_to_data(wanted, self._seal)), wanted.request
            )
        except PeerGone as error:
            raise TimeoutError(str(error)) from error
        except (ValueError, TypeError, LookupError) as problem:
            raise TimeoutError("the node that has the conversation has answered what we do not understand") from problem
        if isinstance(answer, OriginateRefused) and answer.code == "key_reused" and wanted.claim is not None:
            return replace(answer, remembered=await self._store.remembered(wanted.claim.key))
        return answer

    async def answer(self, question: bytes) -> bytes:
        """A command that came to another node, a conversation that it hands over or wants, a call that belongs into one of
        ours, or its wish that we drain. A newer release may ask for more than we understand: whoever asks hears that
        nothing has been done."""
        try:
            work = self._understood(question)
        except (ValueError, TypeError, LookupError, AttributeError) as problem:
            log.warning("question_unreadable", problem=f"{type(problem).__name__}: {problem}")
            answer: Mapping[str, Any] = {"refused": ["wrong_state", "the node that has it is of another release"]}
        else:
            answer = await work
        return json.dumps({"v": QUESTIONS, **answer}).encode()

    def _understood(self, question: bytes) -> Awaitable[Mapping[str, Any]]:
        """What it asks for, to be begun. Raises what reading raises."""
        asked: Mapping[str, Any] = json.loads(question)
        if asked.get("v", QUESTIONS) != QUESTIONS:
            raise ValueError(f"a question of version {asked['v']}")
        if "take" in asked:
            return self._take_up(ConversationId(str(asked["take"])), str(asked["node"]))
        if "drain" in asked:
            return self._drain()
        if "fetch" in asked:
            return self._fetcher.asked(asked)
        if "originate" in asked:
            return self._originate(originate_from_data(asked, self._pump.new_request(), self._seal))
        actions = tuple([from_data(each, self._seal) for each in asked["actions"]])
        return self._command(
            Command(self._pump.new_request(), CallId(str(asked["call"])), actions, bool(asked["listed"]))
        )

    async def _take_up(self, conversation: ConversationId, holds: str) -> Mapping[str, Any]:
        former = Former(holds.rpartition(":")[0], self._clock.now(), holds=holds)
        return {"taken": await self._membership.take(conversation, former)}

    async def _drain(self) -> Mapping[str, Any]:
        return {"draining": json.loads(await self._begin_draining())}

    async def _originate(self, wanted: Originate) -> Mapping[str, Any]:
        return originated_to_data(await self._pump.ask(wanted))

    async def _command(self, wanted: Command) -> Mapping[str, Any]:
        said = await self._pump.ask(wanted)
        if isinstance(said, CommandAccepted):
            return {"accepted": said.action_ids}
        return {"refused": [said.code, said.detail]}


def _neighbour(owner: str, facts: bytes) -> Neighbour | None:
    """None for a node that listens nowhere, or says what we do not understand."""
    said = announcement(facts)
    if said.cluster is None or not said.hint or not said.nonce:
        return None
    return Neighbour(
        owner, said.cluster, said.hint, said.draining, said.nonce, said.release, said.versions, said.load, said.starting
    )


def _read_answer(request: int, answer: bytes) -> CommandAccepted | CommandRefused:
    """Raises TimeoutError for one that tells us nothing."""
    try:
        said: Mapping[str, Any] = json.loads(answer)
        if "accepted" in said:
            return CommandAccepted(request, tuple([ActionId(str(each)) for each in said["accepted"]]))
        code, detail = said["refused"]
        if code not in _REFUSALS:
            raise ValueError(f"{code} is no refusal")
        return CommandRefused(request, code, str(detail))
    except (ValueError, TypeError, LookupError) as problem:
        raise TimeoutError("the node that has the call has answered what we do not understand") from problem
