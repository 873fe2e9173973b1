"""A log that stays readable."""

from bridge.telemetry.flood import Flood


def test_lines_beyond_the_limit_are_withheld_and_counted() -> None:
    flood = Flood(limit=2)
    assert [flood.admit(10.0), flood.admit(10.1), flood.admit(10.2), flood.admit(10.9)] == [0, 0, None, None]


def test_the_next_second_tells_how_many_were_withheld_once() -> None:
    flood = Flood(limit=1)
    for moment in (10.0, 10.1, 10.2):
        flood.admit(moment)
    assert flood.admit(11.0) == 2
    assert flood.admit(12.0) == 0
