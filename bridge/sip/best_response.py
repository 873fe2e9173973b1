"""Which of several final responses a proxy passes on: RFC 3261 §16.7 steps 6 and 7.

All of them are refusals, for a 2xx has gone on its way at once. Refuses to know attempts, transactions and who waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from bridge.sip.message import Response
from bridge.sip.parser import parse

_CHALLENGES: Final = ("WWW-Authenticate", "Proxy-Authenticate")
_TELLING: Final = frozenset({401, 407, 415, 420, 484})  # of the 4xx, what says how to ask again


class Ending(NamedTuple):
    """How an attempt ended that got no 2xx."""

    status: int
    response: Response | None  # None: nobody has said so, but the timers or the transport

    def to_data(self) -> dict[str, Any]:
        """Plain data: the response's bytes as latin-1."""
        written = None if self.response is None else self.response.encode().decode("latin-1")
        return {"status": self.status, "response": written}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Ending:
        """The inverse. Raises ValueError for what is no response."""
        if data["response"] is None:
            return cls(data["status"], None)
        response = parse(data["response"].encode("latin-1"))
        if not isinstance(response, Response):
            raise ValueError("what was kept of a target's answer is no response")
        return cls(data["status"], response)


def choose(endings: Sequence[Ending], *, canceled: bool) -> Ending:
    """The one to pass on, of at least one, with every challenge there was. Without a response it is ours to make.

    `canceled`: the caller has done so, and awaits a 487, whatever silence or refusal has come of it but a 6xx.
    """
    best = min(endings, key=lambda each: _rank(each, canceled=canceled))
    if canceled and best.status < 600 and best.status != 487:
        return Ending(487, None)
    if best.status == 503:
        return Ending(500, None)  # a 503 would keep the caller from us, who are not out of service
    if best.response is not None and best.status in (401, 407):
        return Ending(best.status, _with_challenges(best.response, endings))
    return best


def _rank(ending: Ending, *, canceled: bool) -> tuple[int, int]:
    """The lowest is the best: 6xx, then the lowest class; of one class what helps the caller most, then the first."""
    if ending.status >= 600:
        return 0, 0
    if canceled and ending.status == 487:
        return 1, 0
    if ending.response is None or ending.status == 503:
        return ending.status // 100, 2
    return ending.status // 100, 0 if ending.status in _TELLING else 1


def _with_challenges(best: Response, endings: Sequence[Ending]) -> Response:
    headers = best.headers.copy()
    for status, response in endings:
        if response is None or response is best or status not in (401, 407):
            continue
        for name in _CHALLENGES:
            for line in response.headers.lines(name):
                headers.add(name, line)
    return Response(best.status, best.reason, headers, best.body)
