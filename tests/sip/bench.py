"""A bench for one machine: time is a number that the test advances, what the machine does is a list to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bridge.errors import LocalProtocolError
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import (
    Arm,
    CancelWanted,
    Disarm,
    Effect,
    Effects,
    Fired,
    Input,
    Pass,
    Received,
    Respond,
    SendMessage,
    State,
    Timer,
    TransportFailed,
)

INVITE_TEXT = """\
INVITE sip:bob@biloxi.example SIP/2.0
Via: SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds
Max-Forwards: 70
To: Bob <sip:bob@biloxi.example>
From: Alice <sip:alice@atlanta.example>;tag=1928301774
Call-ID: a84b4c76e66710@pc33.atlanta.example
CSeq: 314159 INVITE
Contact: <sip:alice@pc33.atlanta.example:5070>
Content-Length: 0

"""


def message(text: str) -> Request | Response:
    """A message written with plain line ends."""
    head, _, body = text.partition("\n\n")
    parsed = parse(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode())
    assert isinstance(parsed, Request | Response), parsed
    return parsed


def request(method: str = "INVITE", **changed: str) -> Request:
    """Alice's request to Bob; header fields by name with `_` for `-`, "" leaves one out, `uri` is the Request-URI."""
    made = message(INVITE_TEXT)
    assert isinstance(made, Request)
    made.method = method
    made.headers.set("CSeq", f"314159 {method}")
    for name, value in changed.items():
        if name == "uri":
            made.uri = value
        elif value:
            made.headers.set(name.rstrip("_").replace("_", "-"), value)
        else:
            made.headers.remove(name.rstrip("_").replace("_", "-"))
    return made


def response(status: int, to: Request | None = None, *, to_tag: str = "a6c85cf") -> Response:
    """Bob's response."""
    answered = to or request()
    made = Response(status, "", answered.headers.copy())
    made.headers.set("To", f"{answered.headers.get('To')};tag={to_tag}")
    return made


class Machine(Protocol):
    state: State

    def step(self, given: Input) -> Effects: ...


class Bench:
    """Drives a machine and keeps its timers: `at` is the time of each thing it did."""

    def __init__(self, machine: Machine, begun: Effects = ()) -> None:
        self.machine = machine
        self.now = 0.0
        self.deadlines: dict[Timer, float] = {}
        self.done: list[tuple[float, Effect]] = []
        self._note(begun)

    def give(self, given: Input) -> Effects:
        effects = self.machine.step(given)
        self._note(effects)
        return effects

    def advance(self, seconds: float) -> None:
        """Let time pass, and every timer fire at its time."""
        end = self.now + seconds
        while self.deadlines and min(self.deadlines.values()) <= end:
            timer = min(self.deadlines, key=lambda each: self.deadlines[each])
            self.now = self.deadlines.pop(timer)
            self.give(Fired(timer))
        self.now = end

    def sent(self, what: int | str) -> list[float]:
        """When a message with this status or method was sent."""
        return [
            at for at, effect in self.done if isinstance(effect, SendMessage) and first_word(effect.data) == str(what)
        ]

    def passed(self) -> list[str]:
        """The statuses and methods that the user was told of."""
        return [first_word(effect.message.encode()) for _, effect in self.done if isinstance(effect, Pass)]

    def when(self, kind: type[Effect]) -> list[float]:
        """When an effect of this kind came."""
        return [at for at, effect in self.done if isinstance(effect, kind)]

    def _note(self, effects: Effects) -> None:
        for effect in effects:
            self.done.append((self.now, effect))
            match effect:
                case Arm(timer, delay):
                    self.deadlines[timer] = self.now + delay
                case Disarm(timer):
                    self.deadlines.pop(timer, None)


def first_word(data: bytes) -> str:
    """The status or the method of a message's bytes."""
    words = data.split(b" ", 2)
    return (words[1] if words[0] == b"SIP/2.0" else words[0]).decode()


def told(effect: Effect) -> str:
    """An effect as the golden tables write it."""
    match effect:
        case SendMessage(data):
            return f"send {first_word(data)}"
        case Arm(timer, delay):
            return f"arm {timer.name} {delay:g}"
        case Disarm(timer):
            return f"disarm {timer.name}"
        case Pass(passed):
            return f"pass {first_word(passed.encode())}"
    return type(effect).__name__


def named(given: Input) -> str:
    """An input as the golden tables write it."""
    match given:
        case Respond(answer):
            return f"respond {answer.status}"
        case Received(received):
            return first_word(received.encode())
        case Fired(timer):
            return timer.name
        case TransportFailed():
            return "transport"
        case CancelWanted():
            return "cancel"


def table(states: Mapping[str, Callable[[], Machine]], inputs: Sequence[Input]) -> list[str]:
    """What a machine does in every state on every input: the golden tables' generated side.

    A line per arrow, `input: effects > new state`; what changes nothing is collected in the state's last line.
    """
    lines = []
    for label, make in states.items():
        lines.append(f"[{label}]")
        without = []
        for given in inputs:
            machine = make()
            before = machine.state
            try:
                effects = "; ".join(told(effect) for effect in machine.step(given))
            except LocalProtocolError:
                effects = "LocalProtocolError"
            if machine.state is not before:
                effects += f" > {machine.state.value}"
            if effects:
                lines.append(f"{named(given)}: {effects}")
            else:
                without.append(named(given))
        if without:
            lines.append(f"nothing: {', '.join(without)}")
    return lines


def written(text: str) -> list[str]:
    """The golden tables' hand-written side."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def changes(lines: list[str], against: list[str]) -> list[str]:
    """The arrows of one table that another does not have, with their state."""
    return [line for line in _with_state(lines) if line not in set(_with_state(against))]


def _with_state(lines: list[str]) -> list[str]:
    state, labelled = "", []
    for line in lines:
        if line.startswith("["):
            state = line
        else:
            labelled.append(f"{state} {line}")
    return labelled
