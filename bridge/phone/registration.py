"""A phone's registration: REGISTER with digest, renewed in time, taken back at the end (§10.2, §22.2, RFC 7616)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from bridge.phone.line import CAPABILITIES, Line
from bridge.sip.digest import Challenge, authorize, challenges_of
from bridge.sip.flow import Flow
from bridge.sip.grammar import is_number
from bridge.sip.headers import Line as HeaderLine
from bridge.sip.headers import contacts
from bridge.sip.message import Response
from bridge.sip.uri import SipUri
from bridge.sip.user_agent import new_request

EXPIRES_S: Final = 600
_CHALLENGED: Final = frozenset({401, 407})
_AGAIN_S: Final = 30.0  # after a failure; a registrar that is started anew should not meet all of its phones at once
_EARLY_S: Final = 30.0  # before the end of what was granted, at the latest at half of it


class Registration:
    """One address of record that this phone is bound to. `begin`, then await `answered()`; `end` takes it back."""

    def __init__(
        self,
        line: Line,
        aor: SipUri,
        flow: Flow,
        *,
        username: str,
        password: str,
        expires_s: int = EXPIRES_S,
        told: Callable[[Response | None], None] | None = None,
    ) -> None:
        """`told` hears every final response but challenges that are answered; None: there was none."""
        self._line = line
        self._aor = f"sip:{aor.user}@{aor.host}" if aor.port is None else f"sip:{aor.user}@{aor.host}:{aor.port}"
        self._registrar = str(aor._replace(user=None, params=()))
        self._flow = flow
        self._username = username
        self._password = password
        self._expires_s = expires_s
        self._told = told
        self._call_id = f"{line.new_token(20)}@{line.host}"
        self._tag = line.new_token()
        self._sequence = 0
        self._wanted_s = expires_s
        self._challenges: Sequence[Challenge] = ()
        self._nonce_count = 0
        self._proved = False  # the request under way answers a challenge
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """REGISTER."""
        self._ask(self._expires_s)

    async def answered(self) -> Response | None:
        """The final response to the last REGISTER; None: nobody has answered."""
        return await asyncio.shield(self._waiting)

    async def end(self) -> Response | None:
        """Take the binding back (§10.2.2). The answer; None: nobody has answered."""
        self.stop()
        self._ask(0)
        return await self.answered()

    def stop(self) -> None:
        """Renew it no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the phone tells it

    def responded(self, response: Response, flow: Flow) -> None:
        status = response.status
        if status < 200:
            return
        if status in _CHALLENGED and self._take(challenges_of(response)):
            self._send(proved=True)
        elif status == 423 and self._longer(response):
            self._send(proved=False)
        else:
            self._conclude(response)

    def timed_out(self, method: str) -> None:
        self._conclude(None)

    # Asking

    def _ask(self, expires_s: int) -> None:
        if self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_future()
        self._wanted_s = expires_s
        self._send(proved=False)

    def _send(self, *, proved: bool) -> None:
        self._sequence += 1
        self._proved = proved
        request = new_request(
            "REGISTER",
            self._registrar,
            from_=f"<{self._aor}>;tag={self._tag}",
            to=f"<{self._aor}>",
            call_id=self._call_id,
            sequence=self._sequence,
            via=self._line.via(),
            contact=self._line.contact,
            headers=(
                ("Expires", str(self._wanted_s)),
                ("Allow", ", ".join(CAPABILITIES.methods)),
                ("User-Agent", CAPABILITIES.server or ""),
                *self._proof(),
            ),
        )
        self._line.request(request, self._flow, self)

    def _proof(self) -> tuple[HeaderLine, ...]:
        """What answers the last challenge, as long as its nonce is taken: one request for a renewal instead of two."""
        if not self._challenges:
            return ()
        self._nonce_count += 1
        line = authorize(
            self._challenges,
            method="REGISTER",
            uri=self._registrar,
            username=self._username,
            password=self._password,
            nonce_count=self._nonce_count,
            cnonce=self._line.new_token(),
        )
        return (line,) if isinstance(line, tuple) else ()

    def _take(self, challenges: tuple[Challenge, ...]) -> bool:
        """Whether another try makes sense: not where the answer to a challenge was not the right one."""
        if not challenges or (self._proved and not any(each.stale for each in challenges)):
            return False
        self._challenges, self._nonce_count = challenges, 0
        return True

    def _longer(self, response: Response) -> bool:
        """423: whether the registrar wants a longer time than we have asked for (§10.2.8)."""
        least = response.headers.get("Min-Expires") or ""
        if not is_number(least) or int(least) <= self._wanted_s or self._wanted_s == 0:
            return False
        self._wanted_s = self._expires_s = int(least)
        return True

    def _conclude(self, response: Response | None) -> None:
        accepted = response is not None and response.status < 300
        if self._wanted_s:
            granted = self._granted(response) if accepted and response is not None else 0
            delay = max(granted - _EARLY_S, granted / 2) if granted else _AGAIN_S
            self.stop()
            self._timer = asyncio.get_running_loop().call_later(delay, self.begin)
        if not accepted:
            self._challenges = ()
        if not self._waiting.done():
            self._waiting.set_result(response)
        if self._told is not None:
            self._told(response)

    def _granted(self, response: Response) -> int:
        """For how many seconds our contact is bound now (§10.2.4)."""
        found = contacts(response)
        ours = self._line.contact.strip("<>")
        said = [each.param("expires") for each in found if each.uri == ours] if isinstance(found, tuple) else []
        for text in (*said, response.headers.get("Expires")):
            if text is not None and is_number(text):
                return int(text)
        return self._wanted_s
