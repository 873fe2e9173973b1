"""What the demo shows: one ladder for all acts, with the words for each message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.ambient import Clock
from bridge.demo.application import party
from bridge.phone.ladder import Ladder, summary
from bridge.phone.softphone import Seen

_WIDTH = 27  # four columns in a hundred characters

Say = Callable[[str], None]


class Score:
    """Draws what happens while it happens; times count from the first act."""

    def __init__(self, *, clock: Clock, say: Say) -> None:
        self._clock = clock
        self._say = say
        self._began = clock.now()
        self._ladder = Ladder(("caller", "bridge", "callee", "application"), write=say, width=_WIDTH)
        self._acts = 0

    def begin(self, title: str) -> None:
        """A new act."""
        if self._acts == 0:
            self._began = self._clock.now()
        self._acts += 1
        self._say(f"\n{title}\n")
        self._ladder.head()

    def without_phones(self) -> None:
        """Only webhooks from here on: the phones are somebody else's."""
        self._began = self._clock.now()
        self._ladder = Ladder(("bridge", "application"), write=self._say, width=2 * _WIDTH)
        self._ladder.head()

    def arrow(self, source: str, target: str, text: str) -> None:
        self._ladder.arrow(self._clock.now() - self._began, source, target, text)

    def note(self, text: str) -> None:
        """Something that a phone has counted."""
        self._ladder.note(self._clock.now() - self._began, "caller", text)

    def sip(self, column: str) -> Callable[[Seen], None]:
        """What to call with the messages of the phone in this column."""

        def show(seen: Seen) -> None:
            ends = (column, "bridge") if seen.way == "out" else ("bridge", column)
            self.arrow(*ends, summary(seen.message))

        return show

    def http(self, kind: str, content: dict[str, Any]) -> None:
        """A webhook ("hook"), or the application's decision ("reply")."""
        if kind == "hook":
            data, of = content["data"], party(content)
            text = f"{of}: {content['type']} #{data['sequence']}"
            if content["type"] == "call.ended":
                text += f" ({data['call']['ended']['reason']})"
            self.arrow("bridge", "application", text)
        else:
            names = ", ".join(_in_words(each) for each in content["actions"])
            self.arrow("application", "bridge", f"200: {names}")


def _in_words(action: dict[str, Any]) -> str:
    """`reject 486`, `dial sip:dave@192.0.2.10`."""
    return f"{action['action']} {action.get('code', action.get('to', ''))}".strip()
