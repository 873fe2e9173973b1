"""One node's decisions: `give(input, now=)` returns effects, `deadline()` says when to wake it.

One input, one full drain: everything an input causes has happened in the node when `give` returns, and what is left to
do in the world is in the effects, in the order in which it shall be done. Who has several inputs at once lets it `take`
each, and then `write` what all of them have changed. Nothing here waits, reads a clock, rolls dice or logs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge.ambient import Seal, Tokens
from bridge.calls import joining, referred, transferring
from bridge.calls.call import Call
from bridge.calls.effects import CallTimer
from bridge.calls.facts import ActionId, CallId, ConversationId
from bridge.calls.inputs import (
    CallInput,
    Commanded,
    Drained,
    Elapsed,
    KeyPressed,
    MediaClosed,
    MediaGone,
    MediaOpened,
    MediaRefused,
    MediaSilent,
    StoreTooLate,
    Unpracked,
)
from bridge.calls.sealing import sealed_actions
from bridge.engine import (
    fencing,
    handover,
    linking,
    locating,
    ownership,
    provisional,
    proxying,
    registering,
    serving,
    signalling,
    trunking,
)
from bridge.engine.carrying import hurry, send_trying, settle, step
from bridge.engine.delivering import acknowledge, carry_deliveries, finish_if_done
from bridge.engine.effects import ClosePorts, CommandRefused, Effect
from bridge.engine.holdings import Holding, Holdings, Leg, NodeTimer, TimerKey
from bridge.engine.inputs import (
    Claimed,
    Command,
    CommitRefused,
    Committed,
    Delivered,
    Drain,
    DtmfHeard,
    Fetched,
    FlowLost,
    HangUpAll,
    Input,
    Leased,
    MediaLost,
    MediaTimedOut,
    NoPortLeft,
    NotFetched,
    Originate,
    Packet,
    PlaceTaken,
    PortsClosed,
    PortsOpened,
    Resolved,
    Returned,
    StoreAway,
    StoreBack,
    StoreReplaced,
    StreamBroken,
    Woken,
    Yield,
)
from bridge.engine.originating import originate
from bridge.engine.registrations import (
    BindingsRead,
    Deregister,
    RegistrationRefused,
    RegistrationsDue,
    RegistrationWritten,
    StreamsClaimed,
    UsersChanged,
)
from bridge.engine.settings import NodeSettings, Renderer
from bridge.engine.trunks import TrunksChanged
from bridge.engine.writing import flush
from bridge.sip.invite_usage import UsageFired, UsageTimer


class Node:
    """The engine of one process. Not re-entrant: effects are carried out after `give` has returned."""

    __slots__ = ("_holdings",)

    def __init__(
        self, settings: NodeSettings, *, render: Renderer, tokens: Tokens, chance: Callable[[], float], seal: Seal
    ) -> None:
        """`chance` gives numbers from 0 to 1, for the jitter of retries; `seal` is the same in every node of the cluster."""
        self._holdings = Holdings(settings, render=render, tokens=tokens, chance=chance, seal=seal)

    def give(self, given: Input, *, now: float) -> list[Effect]:
        """Take one input (`now`: seconds UTC) and return all it causes."""
        return self.take(given, now=now) + self.write()

    def write(self) -> list[Effect]:
        """One `Commit` for each conversation that has changed since the last one."""
        flush(self._holdings)
        return self._holdings.taken()

    def take(self, given: Input, *, now: float) -> list[Effect]:
        """Take one input and return what it causes, but for the writes: of what it has changed `write` makes them."""
        holdings = self._holdings
        self._admit(given, now=now)
        while holdings.again:
            self._admit(holdings.again.popleft(), now=now)
        settle(holdings, now=now)
        return holdings.taken()

    def _admit(self, given: Input, *, now: float) -> None:
        if type(given) not in fencing.WITHHELD or not fencing.put_aside(self._holdings, given, now=now):
            self._take(given, now=now)

    def _take(self, given: Input, *, now: float) -> None:
        holdings = self._holdings
        match given:
            case Packet(data, flow):
                signalling.packet(holdings, data, flow, now=now)
            case Returned(data, flow):
                signalling.packet(holdings, data, flow, returned=True, now=now)
            case Committed(ticket):
                ownership.committed(holdings, ticket, now=now)
            case Delivered(delivery, outcome, reply):
                carry_deliveries(holdings, holdings.outbox.outcome(delivery, outcome, reply, now=now), now=now)
            case PortsOpened(session, address, port):
                self._ports_opened(session, address, port, now=now)
            case PortsClosed(session, quality):
                self._media(session, MediaClosed(quality), now=now)
            case Woken():
                self._woken(now=now)
            case NoPortLeft(session):
                name, _, stream = session.partition("/")
                self._media(name, MediaRefused(video=stream == "video"), now=now)
            case MediaTimedOut(session):
                self._media(session, MediaSilent(), now=now)
            case MediaLost(sessions):
                for session in sessions:
                    self._media(session, MediaGone(), now=now)
            case Command():
                self._command(given, now=now)
            case Originate():
                originate(holdings, given, now=now)
            case Resolved():
                if not proxying.resolved(holdings, given, now=now) and not trunking.resolved(holdings, given, now=now):
                    locating.resolved(holdings, given, now=now)
            case PlaceTaken():
                trunking.place_taken(holdings, given, now=now)
            case TrunksChanged(trunks):
                holdings.trunks.change(trunks)
            case DtmfHeard(session, digit, duration_ms):
                self._media(session, KeyPressed(digit, duration_ms, "rfc4733"), now=now)
            case CommitRefused():
                ownership.refused(holdings, given, now=now)
            case RegistrationWritten():
                carry_deliveries(holdings, registering.written(holdings, given, now=now), now=now)
            case RegistrationRefused():
                registering.refused(holdings, given, now=now)
            case BindingsRead(reader) if reader < 0:
                registering.read(holdings, given, now=now)
            case BindingsRead():
                if not serving.bindings_read(holdings, given, now=now) and not proxying.bindings_read(
                    holdings, given, now=now
                ):
                    locating.bindings_read(holdings, given, now=now)
            case RegistrationsDue(aors):
                registering.overdue(holdings, aors, now=now)
            case StreamsClaimed(streams):
                carry_deliveries(holdings, registering.claimed(holdings, streams, now=now), now=now)
            case UsersChanged(users):
                holdings.registrar.change_users(users)
            case Deregister():
                registering.deregister(holdings, given, now=now)
            case StoreAway():
                holdings.store_away_since = now if holdings.store_away_since is None else holdings.store_away_since
            case StoreBack():
                holdings.store_away_since = None
                ownership.audit(holdings, now=now)
            case StoreReplaced():
                ownership.audit(holdings, now=now)
            case Leased():
                fencing.leased(holdings, given, now=now)
            case Claimed(conversations, former):
                ownership.claimed(holdings, conversations, former, now=now)
            case FlowLost(flow, why):
                signalling.outcomes(holdings, holdings.endpoint.transport_failed(flow, why, now=now), now=now)
            case StreamBroken(data, flow, reason, status):
                signalling.stream_broken(holdings, data, flow, reason, status)
            case Fetched() | NotFetched():
                linking.fetched(holdings, given, now=now)
            case Yield():
                handover.let_go(holdings, given, now=now)
            case Drain():
                holdings.draining = True
            case HangUpAll():
                for leg in list(holdings.legs.values()):
                    step(holdings, leg, Drained(), now=now)

    def deadline(self) -> float | None:
        """When to give it `Woken` next (seconds UTC); None: only when something else happens."""
        holdings = self._holdings
        agendas = (
            holdings.agenda,
            holdings.endpoint,
            holdings.outbox,
            holdings.registrar.agenda,
            holdings.lingering,
        )
        found = [each.deadline() for each in agendas]
        return min((each for each in found if each is not None), default=None)

    # What readers ask; nothing here changes the node

    @property
    def unwritten(self) -> bool:
        """True while something has changed that `write` has to write."""
        return bool(self._holdings.unwritten)

    def call(self, call: CallId) -> Call | None:
        """A call that this node carries, ended ones with undelivered events included."""
        leg = self._holdings.legs.get(call)
        return None if leg is None else leg.call

    def conversation(self, conversation: ConversationId) -> Holding | None:
        return self._holdings.conversations.get(conversation)

    def calls(self) -> Iterator[Call]:
        return (leg.call for leg in self._holdings.legs.values())

    def conversations(self) -> Iterator[Holding]:
        return iter(self._holdings.conversations.values())

    def awaits(self, call: CallId, action_id: ActionId) -> bool:
        """Whether this call's list waits for the other call of this join, or attended transfer, to be brought here."""
        leg = self._holdings.legs.get(call)
        if leg is None:
            return False
        wanted = joining.waiting(leg.call) or transferring.waiting(leg.call) or referred.waiting(leg.call)
        return wanted is not None and wanted.action_id == action_id

    @property
    def live(self) -> int:
        """Calls that have not ended."""
        return self._holdings.live

    @property
    def held(self) -> int:
        """Conversations."""
        return len(self._holdings.conversations)

    @property
    def carried(self) -> int:
        """Calls that still cost us something: live ones, and ended ones whose events are not settled."""
        return len(self._holdings.legs)

    @property
    def draining(self) -> bool:
        return self._holdings.draining

    @property
    def hint(self) -> str:
        """What the tags that this node makes say of it."""
        return self._holdings.names.hint

    def backlog(self, endpoint: str) -> int:
        """Events that wait for this endpoint."""
        return self._holdings.outbox.backlog(endpoint)

    def transactions(self) -> int:
        return len(self._holdings.endpoint)

    # Inputs that need a look-up first

    def _ports_opened(self, session: str, address: str, port: int, *, now: float) -> None:
        name, _, stream = session.partition("/")
        leg = self._holdings.legs.get(CallId(name))
        if leg is None:
            self._holdings.out.append(ClosePorts(session))  # the call went while its ports were being opened
        else:
            step(self._holdings, leg, MediaOpened(address, port, video=stream == "video"), now=now)

    def _media(self, session: str, given: CallInput, *, now: float) -> None:
        leg = self._holdings.legs.get(CallId(session))
        if leg is not None:
            step(self._holdings, leg, given, now=now)

    def _command(self, given: Command, *, now: float) -> None:
        leg = self._holdings.legs.get(given.call)
        if leg is None:
            self._holdings.out.append(CommandRefused(given.request, "not_found", "no such call is alive"))
            return
        actions = sealed_actions(given.actions, self._holdings.seal)
        step(self._holdings, leg, Commanded(actions, given.listed), now=now, request=given.request)

    def _woken(self, *, now: float) -> None:
        holdings = self._holdings
        while (key := holdings.agenda.pop_due(now)) is not None:
            leg = holdings.legs.get(key[0])
            if leg is not None:
                self._fired(leg, key, now=now)
        registering.wake(holdings, now=now)
        handover.wake(holdings, now=now)
        signalling.outcomes(holdings, holdings.endpoint.wake(now=now), now=now)
        carry_deliveries(holdings, holdings.outbox.wake(now=now), now=now)

    def _fired(self, leg: Leg, key: TimerKey, *, now: float) -> None:
        holdings = self._holdings
        if fencing.put_off(holdings, leg.holding, key, now=now):
            return
        match key[1]:
            case CallTimer() as timer:
                step(holdings, leg, Elapsed(timer), now=now)
                if timer is CallTimer.PROXY:  # what is left of an ended call may have waited for this
                    finish_if_done(holdings, leg.holding, now=now)
            case UsageTimer() as timer:
                signalling.usage_outcomes(holdings, leg, leg.usage.step(UsageFired(timer)), now=now)
            case NodeTimer.TRYING:
                send_trying(holdings, leg, now=now)
            case NodeTimer.STORE:
                step(holdings, leg, StoreTooLate(), now=now)
                hurry(holdings, leg, now=now)
            case NodeTimer.PROVISIONAL:
                said = provisional.repeat(holdings, leg, now=now)
                if isinstance(said, Unpracked):
                    step(holdings, leg, said, now=now)
                else:
                    signalling.outcomes(holdings, said, now=now)
            case NodeTimer.AUDIT:
                holdings.changed(leg.holding)
            case NodeTimer.ACKNOWLEDGE:
                acknowledge(holdings, leg)
