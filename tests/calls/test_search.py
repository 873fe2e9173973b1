"""Whose turn it is, what the best failure is, and what of a search is plain data."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Fork, Target
from bridge.calls.search import ATTEMPTS_MOST, InviteAttempt, Search, Stage


def search(*codes: int, fork: Fork = "parallel") -> Search:
    """One attempt for each code; 0: its turn has not come."""
    made = Search.of([Target(f"sip:{number}@192.0.2.1") for number in range(len(codes))], "name", fork=fork)
    for attempt, code in zip(made.attempts, codes, strict=True):
        if code:
            attempt.fail(code, "Whatever")
            attempt.cause = ("remote", "rejected")
    return made


def test_attempts_are_counted_from_one_and_named_after_their_call() -> None:
    made = search(0, 0)
    assert [(each.number, each.sip_call_id) for each in made.attempts] == [(1, "name.1"), (2, "name.2")]
    assert [made.attempt(number) for number in (0, 1, 2, 3)] == [None, *made.attempts, None]


@pytest.mark.parametrize(
    ("fork", "stages", "due"),
    [
        ("parallel", "WWW", [1, 2, 3]),
        ("parallel", "IWP", [2]),
        ("serial", "WWW", [1]),
        ("serial", "LWW", []),
        ("serial", "IWW", []),
        ("serial", "PWW", []),
        ("serial", "FWW", [2]),
        ("serial", "FFW", [3]),
        ("serial", "FFF", []),
    ],
)
def test_whose_turn_it_is(fork: Fork, stages: str, due: list[int]) -> None:
    made = search(0, 0, 0, fork=fork)
    named = {"W": Stage.WAITING, "L": Stage.LOCATING, "I": Stage.INVITING, "P": Stage.PROCEEDING, "F": Stage.FAILED}
    for attempt, letter in zip(made.attempts, stages, strict=True):
        attempt.stage = named[letter]
    assert [each.number for each in made.due()] == due


def test_whom_a_target_has_sent_us_on_to_comes_before_the_next_target() -> None:
    made = search(302, 0, fork="serial")
    added = made.add(Target("sip:elsewhere@192.0.2.1"), made.attempts[0])
    assert added is not None
    added.depth += 1
    assert [each.number for each in made.due()] == [3]


# §16.7 step 6: a 6xx before all; else the lowest class that has spoken; within it what tells how to do better; who could not
# be reached has said nothing.
@pytest.mark.parametrize(
    ("codes", "best"),
    [
        ((486,), 486),
        ((486, 404), 404),
        ((486, 603), 603),
        ((603, 600), 600),
        ((500, 486), 486),
        ((302, 486), 302),
        ((302, 603), 603),
        ((404, 401), 401),
        ((486, 407, 401), 401),
        ((486, 415), 415),
        ((486, 484), 484),
        ((408, 486), 486),
        ((408, 500), 500),
        ((503, 408), 408),
        ((503, 500), 500),
        ((503, 603), 603),
        ((408, 503, 503), 408),
    ],
)
def test_the_best_failure(codes: tuple[int, ...], best: int) -> None:
    for order in (codes, codes[::-1]):
        found = search(*order).best_failure()
        assert found is not None
        assert found.code == best


def test_those_given_up_are_no_failures() -> None:
    made = search(486, 0)
    made.attempts[1].fail(487, "Request Terminated")
    found = made.best_failure()
    assert found is made.attempts[0]
    assert search(0).best_failure() is None


def test_a_search_grows_so_far_and_no_farther() -> None:
    made = search(0)
    for _ in range(2 * ATTEMPTS_MOST):
        made.add(Target("sip:x@192.0.2.1"), made.attempts[0])
    assert len(made.attempts) == ATTEMPTS_MOST
    assert [each.number for each in made.attempts] == list(range(1, ATTEMPTS_MOST + 1))
    assert len({each.sip_call_id for each in made.attempts}) == ATTEMPTS_MOST


@pytest.mark.parametrize(
    ("stage", "is_open", "is_out"),
    [
        (Stage.WAITING, True, False),
        (Stage.LOCATING, True, False),
        (Stage.INVITING, True, True),
        (Stage.PROCEEDING, True, True),
        (Stage.ANSWERED, False, False),
        (Stage.FAILED, False, False),
    ],
)
def test_what_is_still_open(stage: Stage, is_open: bool, is_out: bool) -> None:
    attempt = InviteAttempt(1, Target("sip:x@192.0.2.1"), "name.1")
    attempt.stage = stage
    assert (attempt.is_open, attempt.is_out) == (is_open, is_out)
    assert Search([attempt]).is_over is not is_open
