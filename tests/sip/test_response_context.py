"""The response context's table: which state and which response make which effects (§16.7 to §16.10)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalProtocolError
from bridge.sip.message import Response
from bridge.sip.parser import parse
from bridge.sip.response_context import (
    PATIENCE_S,
    Abandon,
    Answered,
    ArmTimerC,
    CancelAttempt,
    Canceled,
    DisarmTimerC,
    Effect,
    Forget,
    Forward,
    Input,
    Over,
    Refuse,
    Relay,
    ResponseContext,
    State,
    TimerCFired,
    TimeUp,
    Unanswered,
    Unreachable,
)
from bridge.sip.target_set import Fork, Target, groups
from tests.sip.test_parser_properties import unhurried
from tests.sip.wire import wire

C = 200.0
OURS = "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK-us"
THEIRS = "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one"
DESK, POCKET, HOME = (
    Target("sip:desk@192.0.2.1"),
    Target("sip:pocket@192.0.2.2", 0.5),
    Target("sip:home@192.0.2.3", 0.5),
)


def response(status: int, *, via: str = f"{OURS}, {THEIRS}", **headers: str) -> Response:
    changes = {name.replace("_", "-"): value for name, value in headers.items()}
    made = parse(wire(f"SIP/2.0 {status} Word", {"Max-Forwards": None, "Contact": None, "Via": via} | changes))
    assert isinstance(made, Response)
    return made


def short(effects: list[Effect]) -> list[str]:
    """Effects as the tables write them."""
    written = []
    for effect in effects:
        match effect:
            case Forward(number, target):
                written.append(f"forward {number} {target.uri.split(':')[1].split('@')[0]}")
            case Relay(passed, beside):
                assert passed.headers.values("Via") == [THEIRS]
                written.append(f"relay {passed.status}{' beside' if beside else ''}")
            case Refuse(status):
                written.append(f"refuse {status}")
            case ArmTimerC(number, delay):
                written.append(f"arm {number} {'C' if delay == C else 'patience'}")
                assert delay in (C, PATIENCE_S)
            case CancelAttempt(number):
                written.append(f"cancel {number}")
            case Abandon(number):
                written.append(f"abandon {number}")
            case DisarmTimerC(number):
                written.append(f"disarm {number}")
            case Forget():
                written.append("forget")
            case Over():
                written.append("over")
    return written


def begun(*targets: Target, method: str = "INVITE", fork: Fork = Fork.PARALLEL) -> ResponseContext:
    context = ResponseContext(method, groups(targets, fork), timer_c_s=C)
    context.begin()
    return context


def through(context: ResponseContext, *inputs: Input) -> list[str]:
    """What the last of the inputs makes; between any two the context is written and read back."""
    effects: list[Effect] = []
    for each in inputs:
        context = ResponseContext.from_data(json.loads(json.dumps(context.to_data())))
        effects = context.step(each)
    return short(effects)


def two(state: State) -> ResponseContext:
    """A context of two attempts, the second one ringing, in this state."""
    context = begun(DESK, POCKET)
    context.step(Answered(1, response(180)))
    match state:
        case State.ENDING:
            context.step(Canceled())
        case State.ANSWERED:
            context.step(Answered(0, response(200)))
        case State.OVER:
            context.step(Answered(0, response(486)))
            context.step(Answered(1, response(486)))
        case State.SEEKING:
            pass
    assert context.state is state
    return context


@pytest.mark.parametrize(
    ("state", "given", "effects", "then"),
    [
        (State.SEEKING, Answered(0, response(100)), [], State.SEEKING),
        (State.SEEKING, Answered(0, response(180)), ["arm 0 C", "relay 180"], State.SEEKING),
        (State.SEEKING, Answered(0, response(183)), ["arm 0 C", "relay 183"], State.SEEKING),
        (
            State.SEEKING,
            Answered(0, response(200)),
            ["disarm 0", "relay 200", "cancel 1", "arm 1 patience"],
            State.ANSWERED,
        ),
        (State.SEEKING, Answered(0, response(302)), ["disarm 0"], State.SEEKING),
        (State.SEEKING, Answered(0, response(486)), ["disarm 0"], State.SEEKING),
        (State.SEEKING, Answered(0, response(503)), ["disarm 0"], State.SEEKING),
        (State.SEEKING, Answered(0, response(603)), ["disarm 0", "cancel 1", "arm 1 patience"], State.ENDING),
        (State.SEEKING, Unanswered(0), ["disarm 0"], State.SEEKING),
        (State.SEEKING, Unreachable(0), ["disarm 0"], State.SEEKING),
        (State.SEEKING, TimerCFired(0), ["abandon 0", "disarm 0"], State.SEEKING),  # not a word from it: as a 408
        (State.SEEKING, TimerCFired(1), ["cancel 1", "arm 1 patience"], State.SEEKING),  # it rings: CANCEL
        (
            State.SEEKING,
            Canceled(),
            ["cancel 0", "arm 0 patience", "cancel 1", "arm 1 patience"],
            State.ENDING,
        ),
        # The silent one is over at once, its CANCEL waits; the one that rings has to say so itself.
        (
            State.SEEKING,
            TimeUp(),
            ["cancel 0", "arm 0 patience", "disarm 0", "cancel 1", "arm 1 patience"],
            State.SEEKING,
        ),
        (State.ENDING, TimeUp(), [], State.ENDING),
        (State.ANSWERED, TimeUp(everybody=True), [], State.ANSWERED),
        (State.OVER, TimeUp(), [], State.OVER),
        (State.ENDING, Answered(0, response(100)), [], State.ENDING),
        (State.ENDING, Answered(0, response(180)), ["relay 180"], State.ENDING),  # Timer C is not put off any more
        (State.ENDING, Answered(0, response(200)), ["disarm 0", "relay 200"], State.ANSWERED),  # too late for CANCEL
        (State.ENDING, Answered(0, response(302)), ["disarm 0"], State.ENDING),
        (State.ENDING, Answered(0, response(487)), ["disarm 0"], State.ENDING),
        (State.ENDING, Answered(0, response(500)), ["disarm 0"], State.ENDING),
        (State.ENDING, Answered(0, response(603)), ["disarm 0"], State.ENDING),
        (State.ENDING, Unanswered(0), ["disarm 0"], State.ENDING),
        (State.ENDING, TimerCFired(1), ["abandon 1", "disarm 1"], State.ENDING),  # it heeds no CANCEL
        (State.ENDING, Canceled(), [], State.ENDING),
        (State.ANSWERED, Answered(1, response(180)), [], State.ANSWERED),
        (
            State.ANSWERED,
            Answered(1, response(200)),
            ["disarm 1", "relay 200", "over"],
            State.OVER,
        ),  # both have answered
        (State.ANSWERED, Answered(0, response(200)), ["relay 200"], State.ANSWERED),  # its copy, or another fork's
        (State.ANSWERED, Answered(1, response(302)), ["disarm 1", "over"], State.OVER),
        (State.ANSWERED, Answered(1, response(487)), ["disarm 1", "over"], State.OVER),
        (State.ANSWERED, Answered(1, response(500)), ["disarm 1", "over"], State.OVER),
        (State.ANSWERED, Answered(1, response(603)), ["disarm 1", "over"], State.OVER),
        (State.ANSWERED, Unreachable(1), ["disarm 1", "over"], State.OVER),
        (State.ANSWERED, TimerCFired(1), ["abandon 1", "disarm 1", "over"], State.OVER),
        (State.ANSWERED, Canceled(), [], State.ANSWERED),
        (State.OVER, Answered(1, response(180)), [], State.OVER),
        (State.OVER, Answered(1, response(200)), ["relay 200 beside"], State.OVER),  # the answer was a 486 already
        (State.OVER, Answered(1, response(302)), [], State.OVER),
        (State.OVER, Answered(1, response(486)), [], State.OVER),
        (State.OVER, Answered(1, response(503)), [], State.OVER),
        (State.OVER, Answered(1, response(603)), [], State.OVER),
        (State.OVER, Unanswered(1), [], State.OVER),
        (State.OVER, TimerCFired(1), [], State.OVER),
        (State.OVER, Canceled(), [], State.OVER),
    ],
)
def test_every_arrow(state: State, given: Input, effects: list[str], then: State) -> None:
    context = ResponseContext.from_data(json.loads(json.dumps(two(state).to_data())))
    assert short(context.step(given)) == effects
    assert context.state is then


def answers(*given: int | str) -> list[Input]:
    """One per attempt: a status, or what came instead of one."""
    instead = {"silence": Unanswered, "unreachable": Unreachable}
    return [instead[each](n) if isinstance(each, str) else Answered(n, response(each)) for n, each in enumerate(given)]


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ((486, 404), "relay 486"),  # of one class the first
        ((404, 486), "relay 404"),
        ((486, 302), "relay 302"),
        ((500, 486), "relay 486"),
        ((302, 603), "relay 603"),
        ((500, 503), "relay 500"),
        ((503, 503), "refuse 500"),
        ((503, 504), "relay 504"),
        ((486, 401), "relay 401"),
        ((404, 407), "relay 407"),
        ((404, 415), "relay 415"),
        ((404, 420), "relay 420"),
        ((404, 484), "relay 484"),
        (("silence", 404), "relay 404"),
        (("silence", "silence"), "refuse 408"),
        (("silence", 500), "refuse 408"),
        (("unreachable", "unreachable"), "refuse 500"),
        (("unreachable", 486), "relay 486"),
        (("unreachable", "silence"), "refuse 408"),
    ],
)
def test_the_best_answer(given: tuple[int | str, int | str], answer: str) -> None:
    assert through(begun(DESK, POCKET), *answers(*given))[1:] == [answer, "over"]


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ((487, 487), "relay 487"),
        ((404, 487), "relay 487"),
        ((302, 487), "relay 487"),
        ((603, 487), "relay 603"),
        ((404, 486), "refuse 487"),
        (("silence", "silence"), "refuse 487"),
    ],
)
def test_the_best_answer_after_cancel(given: tuple[int | str, int | str], answer: str) -> None:
    assert through(begun(DESK, POCKET), Canceled(), *answers(*given))[1:] == [answer, "over"]


def test_all_challenges_go_into_one() -> None:
    context = begun(DESK, POCKET, HOME)
    context.step(Answered(0, response(407, Proxy_Authenticate='Digest realm="one"')))
    context.step(Answered(1, response(486, WWW_Authenticate='Digest realm="not looked at"')))
    kept = ResponseContext.from_data(context.to_data())
    answer = kept.step(Answered(2, response(401, WWW_Authenticate='Digest realm="two", qop="auth,auth-int"')))[1]
    assert isinstance(answer, Relay)
    assert answer.response.status == 407
    assert answer.response.headers.lines("Proxy-Authenticate") == ['Digest realm="one"']
    assert answer.response.headers.lines("WWW-Authenticate") == ['Digest realm="two", qop="auth,auth-int"']


@pytest.mark.parametrize(
    ("fork", "expected"),
    [
        (Fork.PARALLEL, [["pocket", "desk", "home"]]),
        (Fork.SERIAL, [["desk"], ["pocket"], ["home"]]),
        (Fork.BY_PREFERENCE, [["desk"], ["pocket", "home"]]),
    ],
)
def test_groups(fork: Fork, expected: list[list[str]]) -> None:
    made = groups([POCKET, DESK, HOME, POCKET._replace(q=0.1)], fork)
    assert [[each.uri[4:].split("@")[0] for each in group] for group in made] == expected
    assert groups([], fork) == []


def test_the_next_group_is_tried_when_the_first_has_failed() -> None:
    context = ResponseContext("INVITE", groups([DESK, POCKET, HOME], Fork.BY_PREFERENCE), timer_c_s=C)
    assert short(context.begin()) == ["forward 0 desk", "arm 0 C"]
    assert through(context, Answered(0, response(486))) == [
        "disarm 0",
        "forward 1 pocket",
        "arm 1 C",
        "forward 2 home",
        "arm 2 C",
    ]
    assert through(context, *answers(486, 480, 404)) == ["disarm 2", "relay 486", "over"]
    assert through(context, *answers(486, 480, 200)) == ["disarm 2", "relay 200", "over"]


@pytest.mark.parametrize(
    ("given", "effects"),
    [
        (Answered(0, response(200)), ["disarm 0", "relay 200", "over"]),
        (Answered(0, response(603)), ["disarm 0", "relay 603", "over"]),
        (Canceled(), ["cancel 0", "arm 0 patience"]),
    ],
)
def test_no_further_group_is_tried_once_it_is_decided(given: Input, effects: list[str]) -> None:
    context = begun(DESK, POCKET, fork=Fork.SERIAL)
    assert short(context.step(given)) == effects
    if context.state is not State.OVER:
        assert short(context.step(Answered(0, response(487)))) == ["disarm 0", "relay 487", "over"]
    assert context.attempts == (DESK,)


def test_whoever_has_rung_for_long_enough_makes_way_for_the_next_one() -> None:
    context = begun(DESK, POCKET, fork=Fork.SERIAL)
    context.step(Answered(0, response(180)))
    assert short(context.step(TimeUp())) == ["cancel 0", "arm 0 patience"]
    assert short(context.step(Answered(0, response(487)))) == ["disarm 0", "forward 1 pocket", "arm 1 C"]
    context.step(Answered(1, response(180)))
    assert short(context.step(TimeUp())) == ["cancel 1", "arm 1 patience"]
    assert short(context.step(Answered(1, response(487)))) == ["disarm 1", "refuse 408", "over"], (
        "not the 487 that we caused"
    )


def test_nobody_else_is_tried_when_the_caller_has_waited_for_long_enough() -> None:
    context = begun(DESK, POCKET, fork=Fork.SERIAL)
    assert short(context.step(TimeUp(everybody=True))) == [
        "cancel 0",
        "arm 0 patience",
        "disarm 0",
        "refuse 408",
        "over",
    ]


def test_a_late_answer_of_a_target_given_up_ends_the_search() -> None:
    context = begun(DESK, POCKET, fork=Fork.SERIAL)
    assert short(context.step(TimerCFired(0))) == ["abandon 0", "disarm 0", "forward 1 pocket", "arm 1 C"]
    assert short(context.step(Answered(0, response(180)))) == []
    assert short(context.step(Answered(0, response(200)))) == ["relay 200", "cancel 1", "arm 1 patience"]


def test_nobody_is_there() -> None:
    context = ResponseContext("INVITE", [])
    assert short(context.begin()) == ["refuse 480", "over"]
    assert context.state is State.OVER


@pytest.mark.parametrize(
    ("given", "effects"),
    [
        (answers(200), ["relay 200"]),
        ([Canceled()], []),  # it can only be answered (§9.2)
        (answers(603), []),
        (answers(404, 200), ["relay 200", "over"]),
        (answers(200, 200), ["over"]),  # the second one is nobody's
        (answers(200, 404), ["over"]),
        (answers("silence", "silence"), ["forget", "over"]),
        (answers("silence", 404), ["relay 404", "over"]),
        (answers("unreachable", "unreachable"), ["refuse 500", "over"]),
    ],
)
def test_what_is_no_invite(given: list[Input], effects: list[str]) -> None:
    """No Timer C, no CANCEL, one final response, and no 408 (RFC 4320)."""
    context = ResponseContext("MESSAGE", groups([DESK, POCKET], Fork.PARALLEL))
    assert short(context.begin()) == ["forward 0 desk", "forward 1 pocket"]
    assert through(context, *given) == effects


@pytest.mark.parametrize("via", [OURS, f"{OURS}, nonsense"])
def test_a_response_that_has_lost_its_way_back(via: str) -> None:
    context = begun(DESK)
    assert short(context.step(Answered(0, response(180, via=via)))) == ["arm 0 C"]
    assert short(context.step(Answered(0, response(200, via=via)))) == ["disarm 0", "refuse 502", "over"]


def test_our_own_mistakes() -> None:
    context = begun(DESK)
    for number in (-1, 1):
        with pytest.raises(LocalProtocolError):
            context.step(Unanswered(number))
    with pytest.raises(LocalProtocolError):
        context.begin()


def test_after_a_takeover_every_pending_attempt_has_its_timer() -> None:
    context = begun(DESK, POCKET, HOME)
    context.step(Answered(0, response(486)))
    context.step(Answered(1, response(180)))
    context.step(TimerCFired(1))
    kept = ResponseContext.from_data(context.to_data())
    assert short(kept.deadlines()) == ["arm 1 patience", "arm 2 C"]
    assert not ResponseContext.from_data(begun(DESK, method="MESSAGE").to_data()).deadlines()


@pytest.mark.parametrize("change", [{"v": 2}, {"state": "unknown"}, {"endings": [{"status": 486, "response": "junk"}]}])
def test_what_is_no_context(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ResponseContext.from_data({**begun(DESK).to_data(), **change})


STATUSES = st.sampled_from([100, 180, 183, 200, 302, 401, 407, 486, 487, 503, 500, 603])
NUMBERS = st.integers(0, 2)
INPUTS = st.lists(
    st.one_of(
        st.builds(lambda number, status: Answered(number, response(status)), NUMBERS, STATUSES),
        st.builds(Unanswered, NUMBERS),
        st.builds(Unreachable, NUMBERS),
        st.builds(TimerCFired, NUMBERS),
        st.builds(Canceled),
        st.builds(TimeUp, st.booleans()),
    ),
    max_size=12,
)


@unhurried
@given(INPUTS, st.sampled_from(Fork), st.sampled_from(["INVITE", "MESSAGE"]))
def test_whatever_happens_there_is_one_answer(inputs: list[Input], fork: Fork, method: str) -> None:
    """At most one refusal, none beside a success, the end once; and always an end when every attempt has one."""
    context = ResponseContext(method, groups([DESK, POCKET, HOME], fork), timer_c_s=C)
    effects = context.begin()
    for each in inputs:
        if not isinstance(each, Canceled | TimeUp) and each.attempt >= len(context.attempts):
            continue
        context = ResponseContext.from_data(json.loads(json.dumps(context.to_data())))
        effects += context.step(each)
    number = 0
    while number < len(context.attempts):
        effects += context.step(Unanswered(number))
        number += 1
    assert context.state is State.OVER
    finals = [each for each in effects if isinstance(each, Refuse | Forget)]
    finals += [each for each in effects if isinstance(each, Relay) and each.response.status >= 300]
    successes = [each for each in effects if isinstance(each, Relay) and 200 <= each.response.status < 300]
    at_once = [each for each in successes if not each.beside]
    assert len(finals) + min(len(at_once), 1) == 1
    assert all(each.beside for each in successes) or not finals
    assert effects.count(Over()) == 1
    if method == "MESSAGE":
        assert len(successes) <= 1
        assert not any(isinstance(each, ArmTimerC | DisarmTimerC | CancelAttempt) for each in effects)
    else:
        armed = {each.attempt for each in effects if isinstance(each, ArmTimerC)}
        assert armed == set(range(len(context.attempts)))
