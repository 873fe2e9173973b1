from __future__ import annotations

import pytest

from bridge.outbox.schedule import ACCEPTED, Dead, DisableEndpoint, Retry, Schedule
from tests.outbox.bench import DOWN, brought

SCHEDULE = Schedule()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_accepted(status: int) -> None:
    assert SCHEDULE.verdict(brought(status), 1, chance=0.5) is ACCEPTED


@pytest.mark.parametrize("error", ["timeout", "closed", "too_large"])
def test_a_2xx_whose_body_broke_is_accepted_all_the_same(error: str) -> None:
    assert SCHEDULE.verdict(brought(200, error), 1, chance=0.5) is ACCEPTED  # type: ignore[arg-type]


def test_the_delays_are_those_of_the_contract_and_then_it_is_dead() -> None:
    verdicts = [SCHEDULE.verdict(DOWN, attempts, chance=0.5) for attempts in range(1, 11)]
    hours = [5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600]
    assert verdicts == [*(Retry(float(delay)) for delay in hours), Dead("exhausted")]


def test_chance_stretches_and_shrinks_by_a_tenth() -> None:
    shortest = SCHEDULE.verdict(DOWN, 2, chance=0.0)
    longest = SCHEDULE.verdict(DOWN, 2, chance=1.0)
    assert isinstance(shortest, Retry)
    assert isinstance(longest, Retry)
    assert [shortest.after, longest.after] == pytest.approx([27.0, 33.0])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 451])
def test_a_client_error_is_dead_after_three(status: int) -> None:
    assert [type(SCHEDULE.verdict(brought(status), attempts, chance=0.5)) for attempts in (1, 2)] == [Retry, Retry]
    assert SCHEDULE.verdict(brought(status), 3, chance=0.5) == Dead("client_error")


@pytest.mark.parametrize("status", [302, 307, 408, 425, 429, 500, 503])
def test_redirects_and_passing_errors_get_the_whole_schedule(status: int) -> None:
    assert isinstance(SCHEDULE.verdict(brought(status), 9, chance=0.5), Retry)
    assert SCHEDULE.verdict(brought(status), 10, chance=0.5) == Dead("exhausted")


def test_410_disables_the_endpoint() -> None:
    assert SCHEDULE.verdict(brought(410), 1, chance=0.5) == DisableEndpoint()


def test_retry_after_asks_for_more_patience_but_never_for_less() -> None:
    assert SCHEDULE.verdict(brought(503, retry_after=60.0), 1, chance=0.5) == Retry(60.0, 60.0)
    assert SCHEDULE.verdict(brought(503, retry_after=1.0), 3, chance=0.5) == Retry(120.0, 1.0)
    assert SCHEDULE.verdict(brought(503, retry_after=0.0), 1, chance=0.5) == Retry(5.0)


def test_retry_after_is_bounded_by_the_longest_delay() -> None:
    assert SCHEDULE.verdict(brought(429, retry_after=1e9), 1, chance=0.5) == Retry(43200.0, 43200.0)
