"""A caller of our own, for what SIPp cannot await: many held calls, a message of any shape, a word at the right moment."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field

from tests.support.namespaces import LOOPBACK, Host
from tests.support.phone import T1, T2, Address, Leg, Message, Phone, address_of, token
from tests.support.waiting import PATIENCE_S


class Caller(Phone):
    """Calls whoever is at `target`."""

    def __init__(self, target: Address, host: Host = LOOPBACK) -> None:
        super().__init__(host)
        self.target = target
        self.calls: dict[str, OutgoingCall] = {}

    def call(self, user: str = "100") -> OutgoingCall:
        """A call that has not begun."""
        made = OutgoingCall(self, f"{token(20)}@tests", caller=self, user=user)
        self.calls[made.call_id] = made
        return made

    def send(self, data: bytes | str) -> None:
        self.send_to(data, self.target)

    def take(self, message: Message, source: Address) -> None:
        call = self.calls.get(message["call-id"])
        if call is None:
            self.strays.append(message)
        else:
            call.received(message, source)

    async def ask(self, text: str, *, within_s: float = PATIENCE_S) -> Message:
        """Send a request as it is written, `{port}` and `{branch}` filled in, until something answers it. CRLFs are put in."""
        sent = text.replace("\n", "\r\n").format(
            port=self.port, branch=f"z9hG4bK{token()}", call_id=f"{token()}@tests", tag=token(), host=self.target[0]
        )
        call_id = re.search(r"^(?:Call-ID|i)\s*:\s*(\S+)", sent, re.MULTILINE | re.IGNORECASE)
        assert call_id is not None, "a request that wants an answer names its Call-ID"
        deadline, pause = time.monotonic() + within_s, T1
        while time.monotonic() < deadline:
            self.send(sent)
            waited = time.monotonic() + pause
            while time.monotonic() < waited:
                for message in self.strays:
                    if message["call-id"] == call_id.group(1) and message.status >= 200:
                        return message
                await asyncio.sleep(0.005)
            pause = min(2 * pause, T2)
        raise AssertionError(f"no answer to {sent}")


@dataclass(kw_only=True)
class OutgoingCall(Leg):
    """One call of ours, from INVITE to BYE. Its requests go to the caller's target, which may be a proxy, until the far end
    has told us by a re-INVITE that it is elsewhere."""

    caller: Caller
    user: str
    from_tag: str = field(default_factory=token)
    to_tag: str = ""

    def __post_init__(self) -> None:
        self.target = self.uri

    @property
    def uri(self) -> str:
        host, port = self.caller.target
        shown = f"[{host}]" if ":" in host else host
        return f"{self.caller.scheme}:{self.user}@{shown}:{port}"

    @property
    def local(self) -> str:
        return f"<sip:tests@{self.here}>;tag={self.from_tag}"

    @property
    def remote(self) -> str:
        return f"<{self.uri}>" + (f";tag={self.to_tag}" if self.to_tag else "")

    @property
    def way(self) -> Address:
        return address_of(self.target) if self.asked("INVITE") and not self.routes else self.caller.target

    @property
    def media_port(self) -> int:
        return 0 if self.described is None else self.described.media_port()

    async def invite(self, *, sdp: str | None = "sendrecv", headers: str = "", within_s: float = PATIENCE_S) -> Message:
        """Begin, and wait for the final response. `sdp` is a direction, None a delayed offer."""
        request = self.begin(sdp=sdp, headers=headers)
        return await self.answer(request, within_s=within_s)

    def begin(self, *, sdp: str | None = "sendrecv", headers: str = "") -> str:
        """The INVITE's text, sent once."""
        self.sequence += 1
        self.branch = f"z9hG4bK{token()}"
        request = self.write("INVITE", self.branch, headers=headers, body=self.offer(sdp) if sdp else "")
        self.send(request)
        return request

    def _answered(self, response: Message) -> None:
        if response.status < 300:
            if not self.to_tag:  # the route set stays as it was made (§12.2)
                self.routes = list(reversed(response.all("record-route")))
            self.to_tag = response.tag("to")
        super()._answered(response)
