"""A ladder: who said what to whom, one line each, while it happens. Participants are columns, time runs down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.sip.message import Request, Response

_TIME_WIDTH = 9
_FIRST_LINE = _TIME_WIDTH + 3  # where the first participant's line stands


class Ladder:
    """Draws on whatever `write` is, line by line. Widths are characters; the text of an arrow is cut to its room."""

    def __init__(self, columns: Sequence[str], *, write: Callable[[str], None], width: int = 34) -> None:
        self._columns = list(columns)
        self._write = write
        self._width = width

    def head(self) -> None:
        """The names of the participants, the middle of each over its line."""
        text = ""
        for place, name in enumerate(self._columns):
            shown = _cut(name, self._width - 2)
            start = _FIRST_LINE + place * self._width - len(shown) // 2
            text = text.ljust(start) + shown
        self._write(text)

    def arrow(self, at: float, source: str, target: str, text: str) -> None:
        """`text` from one column to another; `at` is seconds since the beginning."""
        start, end = self._columns.index(source), self._columns.index(target)
        left, right = min(start, end), max(start, end)
        room = (right - left) * self._width - 1
        label = f" {_cut(text, room - 4)} "
        line = label.center(room - 2, "─")
        line = f"─{line}▶" if start < end else f"◀{line}─"
        self._line(at, {left: line})

    def note(self, at: float, column: str, text: str) -> None:
        """Something that one participant knows by itself."""
        place = self._columns.index(column)
        room = max(len(self._columns) - place, 2) * self._width - 3
        self._line(at, {place: f"  {_cut(text, room)}"}, note=True)

    def _line(self, at: float, parts: dict[int, str], *, note: bool = False) -> None:
        text = f"{at:{_TIME_WIDTH - 2}.3f}s".ljust(_FIRST_LINE)
        skip = 0
        for place in range(len(self._columns)):
            if skip:
                skip -= 1
                continue
            part = parts.get(place, "")
            columns = -(-(len(part) + 1) // self._width) if part else 1
            last = place + columns >= len(self._columns)
            text += "│" + (part if last and note else part.ljust(columns * self._width - 1))
            skip = columns - 1
        self._write(text.rstrip())


def summary(message: Request | Response) -> str:
    """A SIP message in a word or two: "INVITE (SDP)", "486 Busy Here"."""
    first = message.method if isinstance(message, Request) else f"{message.status} {message.reason}".rstrip()
    return first + _session(message.body)


def _session(body: bytes) -> str:
    """What an SDP says of itself."""
    if not body:
        return ""
    for direction in ("sendonly", "recvonly", "inactive"):
        if f"a={direction}".encode() in body:
            return f" (SDP, {direction})"
    return " (SDP)"


def _cut(text: str, room: int) -> str:
    """`text` in so much room, without what a terminal would act on: it may be the far end's."""
    text = "".join(each if each.isprintable() else "·" for each in text)
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"
