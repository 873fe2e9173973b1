"""Cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.api import Position
from bridge.api.cursors import read_position, read_sequence, write_position, write_sequence


@given(st.integers(0, 10**15 - 1), st.from_regex(r"(call|conv)_[a-z2-7]{24}", fullmatch=True))
def test_places_come_back(created_ms: int, name: str) -> None:
    position = Position(created_ms, name)
    assert read_position(write_position(position)) == position


@given(st.integers(0, 999_999_999))
def test_sequences_come_back(sequence: int) -> None:
    assert read_sequence(write_sequence(sequence)) == sequence


def test_one_kind_is_not_taken_for_the_other() -> None:
    assert read_sequence(write_position(Position(1, "call_a"))) is None
    assert read_position(write_sequence(1)) is None


@given(st.text(max_size=60))
def test_only_our_own_spelling_is_taken(text: str) -> None:
    position, sequence = read_position(text), read_sequence(text)
    assert position is None or write_position(position) == text
    assert sequence is None or write_sequence(sequence) == text


@pytest.mark.parametrize("change", ["{}=", " {}", "{}\n", "{}!", "x{}"])
def test_a_mangled_cursor_is_foreign(change: str) -> None:
    assert read_sequence(change.format(write_sequence(12))) is None
