"""The seeds: each is a world of its own, and `python -m tests.sim SEED` shows one that fails from within."""

from __future__ import annotations

import pytest

from tests.sim.scenario import run
from tests.sim.world import CLUSTERS_FROM, DRAINS_FROM, REGISTERING_FROM

KINDS = (0, REGISTERING_FROM, CLUSTERS_FROM, DRAINS_FROM)  # the first seeds of each kind of world
CHUNK = 100


def _check(seed: int) -> None:
    came = run(seed)
    if came.violations:
        again = run(seed, told=True)
        assert again.violations == came.violations, "a seed has to do the same twice"
        pytest.fail(str(again), pytrace=False)


@pytest.mark.parametrize("seed", [first + number for first in KINDS for number in range(15)])
def test_seed(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("start", KINDS)
@pytest.mark.parametrize("first", range(1_000, 3_500, CHUNK))
def test_ten_thousand_seeds(start: int, first: int) -> None:
    for seed in range(start + first, start + first + CHUNK):
        _check(seed)


def test_a_seed_does_the_same_twice() -> None:
    assert str(run(7, told=True)) == str(run(7, told=True))
