"""The response context of a stateful proxy: RFC 3261 §16.7 to §16.10, with RFC 4320 for what is no INVITE.

One request, the targets it is forked to, what each of them answered, and the one answer that comes of it. Made with the
target set; `begin` starts the first group. It refuses to know how a copy looks (`proxy`), transactions, flows and time.

Its owner gives each attempt a client transaction, the request its server transaction, Timer C its clock, and back come
what those say as inputs. Responses go in as they came and leave without our Via.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias, TypedDict

from bridge.errors import LocalProtocolError
from bridge.sip.best_response import Ending, choose
from bridge.sip.grammar import first_of_list
from bridge.sip.headers import parse_via
from bridge.sip.message import Response
from bridge.sip.target_set import Target

TIMER_C_S: Final = 185.0  # "larger than 3 minutes" (§16.6 step 11)
PATIENCE_S: Final = 32.0  # 64*T1: how long a canceled request may stay without its answer (§9.1)


class State(StrEnum):
    """Where the choice of an answer stands."""

    SEEKING = "seeking"  # attempts wait for their answers, more groups may follow
    ENDING = "ending"  # canceled, or declined by a 6xx: no more groups, the attempts there are come to their end
    ANSWERED = "answered"  # by a 2xx; the others are canceled
    OVER = "over"  # answered, and no attempt is left


class Progress(StrEnum):
    """Where one attempt stands."""

    SENT = "sent"  # nothing was heard
    PROCEEDING = "proceeding"  # a provisional response was
    FINISHED = "finished"


@dataclass(slots=True)
class Attempt:
    """One copy of the request, and its branch."""

    target: Target
    progress: Progress = Progress.SENT
    canceled: bool = False
    expired: bool = False  # canceled because it has rung for long enough


# Inputs and effects live for one step: slotted, not frozen, as those of the transactions.


@dataclass(slots=True)
class Answered:
    """A response of this attempt came, for INVITE each copy of a 2xx."""

    attempt: int
    response: Response  # with our Via still on top


@dataclass(slots=True)
class Unanswered:
    """Timer B or F: this attempt's client transaction gave up (§16.8 has Timer C's)."""

    attempt: int


@dataclass(slots=True)
class Unreachable:
    """The transport failed, or no address was found: as if a 503 had come (§16.9)."""

    attempt: int


@dataclass(slots=True)
class TimerCFired:
    """The deadline of this attempt has passed (§16.8)."""

    attempt: int


@dataclass(slots=True)
class Canceled:
    """A CANCEL for the request came (§16.10); its own 200 is not ours."""


@dataclass(slots=True)
class TimeUp:
    """Those who are tried have rung for as long as they may: the next group follows. `everybody`: none does."""

    everybody: bool = False


Input: TypeAlias = Answered | Unanswered | Unreachable | TimerCFired | Canceled | TimeUp


@dataclass(slots=True)
class Forward:
    """Send a copy to `target`, in a client transaction that is called by this number from now on."""

    attempt: int
    target: Target


@dataclass(slots=True)
class Relay:
    """Answer the request with this response.

    `beside`: past the server transaction, which has answered otherwise already (a 2xx that comes too late, §16.7 step 5).
    """

    response: Response
    beside: bool = False


@dataclass(slots=True)
class Refuse:
    """Answer the request with this status, in a response of our own."""

    status: int


@dataclass(slots=True)
class Forget:
    """Leave the request without an answer: a 408 to what is no INVITE comes too late for anybody (RFC 4320 §4.2)."""


@dataclass(slots=True)
class CancelAttempt:
    """CANCEL this attempt's INVITE, when that is possible (§9.1)."""

    attempt: int


@dataclass(slots=True)
class Abandon:
    """Forget this attempt's client transaction: it heeds no CANCEL. What still comes of it is a stray."""

    attempt: int


@dataclass(slots=True)
class ArmTimerC:
    """Set this attempt's one deadline to `delay` seconds from now, whatever it was before."""

    attempt: int
    delay: float


@dataclass(slots=True)
class DisarmTimerC:
    """Forget the deadline of this attempt."""

    attempt: int


@dataclass(slots=True)
class Over:
    """Answered, and no attempt is left. Only a 2xx to an INVITE would still be of interest."""


Effect: TypeAlias = Forward | Relay | Refuse | Forget | CancelAttempt | Abandon | ArmTimerC | DisarmTimerC | Over
Effects: TypeAlias = list[Effect]


class ContextData(TypedDict):
    """A response context as plain data. Its deadlines are its owner's: armed anew, they are `deadlines()`."""

    v: Literal[1]
    invite: bool
    state: str
    canceled: bool
    timer_c_s: float
    waiting: list[list[dict[str, Any]]]
    attempts: list[dict[str, Any]]
    endings: list[dict[str, Any]]
    refused: bool


class ResponseContext:
    """What the targets of one request have answered. O(1) for each response, O(attempts) for the choice."""

    __slots__ = ("_attempts", "_canceled", "_endings", "_invite", "_refused", "_timer_c_s", "_waiting", "state")

    def __init__(self, method: str, order: Iterable[list[Target]], *, timer_c_s: float = TIMER_C_S) -> None:
        self.state = State.SEEKING
        self._invite = method == "INVITE"
        self._waiting = list(order)  # groups still to be tried
        self._timer_c_s = timer_c_s
        self._attempts: list[Attempt] = []
        self._endings: list[Ending] = []
        self._canceled = False
        self._refused = False  # the server transaction's answer was none of 2xx

    @property
    def attempts(self) -> tuple[Target, ...]:
        """The targets that were tried, by the number of their attempt."""
        return tuple([each.target for each in self._attempts])

    @property
    def progress(self) -> tuple[Progress, ...]:
        """How far each attempt is, by its number."""
        return tuple([each.progress for each in self._attempts])

    def begin(self) -> Effects:
        """Try the first group. Without any target nobody is there: 480 (§16.5)."""
        if self._attempts or self.state is not State.SEEKING:
            raise LocalProtocolError("a response context begins once")
        if not self._waiting:
            self.state, self._refused = State.OVER, True
            return [Refuse(480), Over()]
        return self._try_next()

    def step(self, given: Input) -> Effects:
        """Take what happened. Raises `LocalProtocolError` for an attempt that there never was."""
        match given:
            case Canceled():
                return self._cancel()
            case Answered(number, response):
                return self._take(number, response)
            case Unanswered(number):
                return self._finish(number, Ending(408, None))
            case Unreachable(number):
                return self._finish(number, Ending(503, None))
            case TimerCFired(number):
                return self._fire(number)
            case TimeUp(everybody):
                return self._expire(everybody=everybody)

    def deadlines(self) -> Effects:
        """What to arm when this context was read back: its timers start over, as nobody knows how long nobody was there."""
        return [
            ArmTimerC(number, PATIENCE_S if each.canceled else self._timer_c_s)
            for number, each in enumerate(self._attempts)
            if self._invite and each.progress is not Progress.FINISHED
        ]

    def _take(self, number: int, response: Response) -> Effects:
        relayed = _without_via(response)
        if response.status < 200:
            return self._proceed(number, response.status, relayed)
        if relayed is None:
            return self._finish(number, Ending(502, None))
        if response.status < 300:
            return self._succeed(number, relayed)
        return self._finish(number, Ending(response.status, relayed))

    def _proceed(self, number: int, status: int, relayed: Response | None) -> Effects:
        """§16.7 steps 2 and 5: a 100 is between neighbours, and does not put Timer C off."""
        attempt = self._attempt(number)
        if attempt.progress is Progress.FINISHED:
            return []
        attempt.progress = Progress.PROCEEDING
        if status == 100:
            return []
        effects: Effects = []
        if self._invite and not attempt.canceled:
            effects.append(ArmTimerC(number, self._timer_c_s))
        if relayed is not None and self.state in (State.SEEKING, State.ENDING):
            effects.append(Relay(relayed))
        return effects

    def _succeed(self, number: int, relayed: Response) -> Effects:
        """§16.7 steps 5 and 10: passed on at once, each one of an INVITE's; whoever has not answered is canceled."""
        attempt = self._attempt(number)
        effects: Effects = []
        if attempt.progress is not Progress.FINISHED:
            effects += self._close(number, attempt)
        answered = self.state in (State.ANSWERED, State.OVER)
        if self._invite or not answered:
            effects.append(Relay(relayed, beside=self._refused))
        if not answered:
            self.state = State.ANSWERED
            effects += self._give_up_others()
        return effects + self._settle()

    def _finish(self, number: int, ending: Ending) -> Effects:
        """An attempt has come to nothing. A 6xx ends the search, but not before the others have (§16.7 step 5)."""
        attempt = self._attempt(number)
        if attempt.progress is Progress.FINISHED:
            return []
        effects = self._close(number, attempt)
        if attempt.expired and ending.status == 487:
            ending = Ending(408, None)  # that was our own word: what the caller is told is why we have said it
        if self.state in (State.SEEKING, State.ENDING):
            self._endings.append(ending)
        if ending.status >= 600 and self.state is State.SEEKING:
            self.state = State.ENDING
            effects += self._give_up_others()
        return effects + self._settle()

    def _fire(self, number: int) -> Effects:
        """§16.8: whoever is ringing is canceled; whoever has said nothing, or heeds no CANCEL, counts as a 408."""
        attempt = self._attempt(number)
        if self._invite and attempt.progress is Progress.PROCEEDING and not attempt.canceled:
            return self._give_up(number, attempt)
        if attempt.progress is Progress.FINISHED:
            return []
        return [Abandon(number), *self._finish(number, Ending(408, None))]

    def _expire(self, *, everybody: bool) -> Effects:
        """Whoever rings is canceled, and its 487 counts as a 408. Whoever has said nothing counts as one now: its CANCEL waits
        for a first word (§9.1) that may never come, and the caller is not to wait with it."""
        if self.state is not State.SEEKING or not self._invite:
            return []
        if everybody:
            self._waiting.clear()
        effects: Effects = []
        for number, attempt in enumerate(self._attempts):
            if attempt.progress is Progress.FINISHED or attempt.canceled:
                continue
            attempt.expired = True
            effects += self._give_up(number, attempt)
            if attempt.progress is Progress.SENT:
                effects += self._close(number, attempt)
                self._endings.append(Ending(408, None))
        return effects + self._settle()

    def _cancel(self) -> Effects:
        """§16.10. For what is no INVITE, and once an answer has left, a CANCEL comes to nothing (§9.2)."""
        if not self._invite or self.state not in (State.SEEKING, State.ENDING):
            return []
        self._canceled = True
        self.state = State.ENDING
        return self._give_up_others() + self._settle()

    def _give_up_others(self) -> Effects:
        """Cancel what is pending; an attempt of another method ends by itself (§9.1)."""
        self._waiting.clear()
        effects: Effects = []
        for number, attempt in enumerate(self._attempts):
            if self._invite and attempt.progress is not Progress.FINISHED and not attempt.canceled:
                effects += self._give_up(number, attempt)
        return effects

    def _give_up(self, number: int, attempt: Attempt) -> Effects:
        attempt.canceled = True
        return [CancelAttempt(number), ArmTimerC(number, PATIENCE_S)]

    def _close(self, number: int, attempt: Attempt) -> Effects:
        attempt.progress = Progress.FINISHED
        return [DisarmTimerC(number)] if self._invite else []

    def _settle(self) -> Effects:
        """What is due when no attempt is pending any more: the next group, or the answer; then the end."""
        if self.state is State.OVER or any(each.progress is not Progress.FINISHED for each in self._attempts):
            return []
        if self.state is State.ANSWERED:
            self.state = State.OVER
            return [Over()]
        if self._waiting:
            return self._try_next()
        self.state, self._refused = State.OVER, True
        return [self._answer(), Over()]

    def _try_next(self) -> Effects:
        effects: Effects = []
        for target in self._waiting.pop(0):
            number = len(self._attempts)
            self._attempts.append(Attempt(target))
            effects.append(Forward(number, target))
            if self._invite:
                effects.append(ArmTimerC(number, self._timer_c_s))
        return effects

    def _answer(self) -> Effect:
        chosen = choose(self._endings, canceled=self._canceled)
        if chosen.response is not None:
            return Relay(chosen.response)
        return Refuse(chosen.status) if self._invite or chosen.status != 408 else Forget()

    def _attempt(self, number: int) -> Attempt:
        if not 0 <= number < len(self._attempts):
            raise LocalProtocolError(f"there is no attempt {number}")
        return self._attempts[number]

    def to_data(self) -> ContextData:
        return {
            "v": 1,
            "invite": self._invite,
            "state": self.state.value,
            "canceled": self._canceled,
            "timer_c_s": self._timer_c_s,
            "waiting": [[each.to_data() for each in group] for group in self._waiting],
            "attempts": [
                {"target": each.target.to_data(), "progress": each.progress.value, "canceled": each.canceled}
                | ({"expired": True} if each.expired else {})
                for each in self._attempts
            ],
            "endings": [each.to_data() for each in self._endings],
            "refused": self._refused,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ResponseContext:
        """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
        if data["v"] != 1:
            raise ValueError(f"a response context of version {data['v']!r}")
        self = cls.__new__(cls)
        self.state, self._invite, self._timer_c_s = State(data["state"]), data["invite"], data["timer_c_s"]
        self._canceled, self._refused = data["canceled"], data["refused"]
        self._waiting = [[Target.from_data(each) for each in group] for group in data["waiting"]]
        self._attempts = [
            Attempt(
                Target.from_data(each["target"]),
                Progress(each["progress"]),
                each["canceled"],
                each.get("expired", False),
            )
            for each in data["attempts"]
        ]
        self._endings = [Ending.from_data(each) for each in data["endings"]]
        return self


def _without_via(response: Response) -> Response | None:
    """Step 3 of §16.7. The transaction has matched this response by its top Via, so that is ours.

    None: the next one is missing or illegible, so somebody on the way has lost what would bring it back.
    """
    headers = response.headers.copy()
    headers.remove_first("Via")
    line = headers.get("Via")
    if line is None or parse_via(first_of_list(line)[0]) is None:
        return None
    return Response(response.status, response.reason, headers, response.body)
