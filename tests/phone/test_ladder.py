"""The ladder, line by line as a terminal shows it."""

from __future__ import annotations

import pytest

from bridge.phone.ladder import Ladder, summary
from bridge.sip.message import Request, Response

GOLDEN = """\
          alice           bridge         application
  0.000s    │──── INVITE ───▶│                │
  0.012s    │                │─ call.incomi… ▶│
  0.500s    │◀─── 200 OK ────│                │
  1.000s    │◀─────────── straight ───────────│
 12.250s    │  heard nobody for a while       │
 13.000s    │  yes           │                │
 99.000s    │                │                │  too late"""


def drawn(*columns: str, width: int = 17) -> tuple[Ladder, list[str]]:
    lines: list[str] = []
    return Ladder(columns, write=lines.append, width=width), lines


def test_a_ladder() -> None:
    ladder, lines = drawn("alice", "bridge", "application")
    ladder.head()
    ladder.arrow(0.0, "alice", "bridge", "INVITE")
    ladder.arrow(0.012, "bridge", "application", "call.incoming #1")
    ladder.arrow(0.5, "bridge", "alice", "200 OK")
    ladder.arrow(1.0, "application", "alice", "straight")
    ladder.note(12.25, "alice", "heard nobody for a while")
    ladder.note(13.0, "alice", "yes")
    ladder.note(99.0, "application", "too late")
    assert "\n".join(lines) == GOLDEN


def test_every_name_stands_over_its_line() -> None:
    names = ("a", "longer", "the longest of all")
    ladder, (lines) = drawn(*names, width=34)
    ladder.head()
    ladder.arrow(0.0, "a", "longer", "x")
    head, arrow = lines
    for place, name in enumerate(names):
        middle = head.index(name) + len(name) // 2
        assert middle == 12 + 34 * place
        assert arrow[middle] == "│"


def test_no_line_is_wider_than_its_columns_whatever_is_said() -> None:
    ladder, lines = drawn("a", "b", width=20)
    ladder.arrow(0.0, "a", "b", "x" * 500)
    ladder.note(0.0, "a", "y" * 500)
    assert max(map(len, lines)) <= 12 + 2 * 20


def test_the_far_end_cannot_move_the_cursor() -> None:
    ladder, lines = drawn("a", "b", width=34)
    ladder.arrow(0.0, "b", "a", "486 Busy\x1b[2J\r\n\x07")
    assert "486 Busy·[2J···" in lines[0]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (Request("BYE", "sip:a@b"), "BYE"),
        (Request("INVITE", "sip:a@b", body=b"v=0\r\n"), "INVITE (SDP)"),
        (Response(200, "OK", body=b"v=0\r\na=recvonly\r\n"), "200 OK (SDP, recvonly)"),
        (Response(486, ""), "486"),
    ],
)
def test_a_message_in_a_word_or_two(message: Request | Response, shown: str) -> None:
    assert summary(message) == shown
