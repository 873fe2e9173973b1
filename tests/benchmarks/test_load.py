"""What SIPp and the probe have written is read as they meant it."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.load import Tally, latency, percentile, probe_rate, read_probe, read_response_times, read_statistics
from benchmarks.processes import BenchmarkError

# Two rows of a `-trace_stat` file of SIPp 3.6.1, reduced to some columns; it ends every line with a delimiter.
STATISTICS = (
    "StartTime;ElapsedTime(P);ElapsedTime(C);CallRate(P);CallRate(C);TotalCallCreated;SuccessfulCall(P);"
    "SuccessfulCall(C);FailedCall(P);FailedCall(C);FailedUnexpectedMessage(C);Retransmissions(C);\n"
    "2026-11-22\t08:37:41.1;00:00:01:000000;00:00:01:000000;199;199;199;197;197;0;0;0;0;\n"
    "2026-11-22\t08:37:41.1;00:00:01:000000;00:00:10:004000;200;199.92;2000;198;1997;1;3;2;5;\n"
)
RESPONSE_TIMES = "Date_ms;response_time_ms;rtd_no\n1763800661187.1;4.0;1\n1763800661191.2;0.312;1\n17638006"


def test_the_last_row_of_the_statistics_counts() -> None:
    assert read_statistics(STATISTICS) == Tally(
        created=2000, successful=1997, failed=3, retransmissions=5, unexpected=2, rate=199.92
    )


def test_statistics_that_were_never_written_are_an_error_and_not_a_zero() -> None:
    with pytest.raises(BenchmarkError):
        read_statistics("")


def test_response_times_are_read_up_to_a_line_that_was_cut_off() -> None:
    assert read_response_times(RESPONSE_TIMES) == [4.0, 0.312]


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = [float(each) for each in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.99) == 7.0
    found = latency([3.0, 1.0, 2.0])
    assert (found.calls, found.p50, found.p99, found.worst) == (3, 2.0, 3.0, 3.0)
    assert math.isnan(latency([]).p50)


def test_the_probe_s_findings_are_read_and_its_silence_is_an_error() -> None:
    text = json.dumps({"placed": 3, "completed": 2, "failed": 1, "milliseconds": [1.5, 2.5]})
    found = read_probe(text + "\n", seconds=2.0)
    assert found.tally == Tally(created=3, successful=2, failed=1, retransmissions=0, unexpected=0, rate=1.5)
    assert found.milliseconds == (1.5, 2.5)
    with pytest.raises(BenchmarkError, match="KeyboardInterrupt"):
        read_probe("Traceback (most recent call last):\nKeyboardInterrupt", seconds=2.0)


def test_two_loads_of_the_same_time_add_up() -> None:
    both = Tally(10, 9, 1, 2, 0, 5.0) + Tally(4, 4, 0, 0, 0, 2.0)
    assert both == Tally(14, 13, 1, 2, 0, 7.0)


def test_the_probe_places_a_fifth_of_the_calls_and_never_many() -> None:
    assert [probe_rate(rate) for rate in (50, 100, 200, 1000)] == [10, 20, 40, 40]
