"""The seeds: each is a world of its own, and `python -m tests.sim SEED` shows one that fails from within."""

from __future__ import annotations

import pytest

from tests.sim.scenario import run

CHUNK = 100


def _check(seed: int) -> None:
    came = run(seed)
    if came.violations:
        again = run(seed, told=True)
        assert again.violations == came.violations, "a seed has to do the same twice"
        pytest.fail(str(again), pytrace=False)


@pytest.mark.parametrize("seed", range(60))
def test_seed(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(1_000, 11_000, CHUNK))
def test_ten_thousand_seeds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        _check(seed)


def test_a_seed_does_the_same_twice() -> None:
    assert str(run(7, told=True)) == str(run(7, told=True))
