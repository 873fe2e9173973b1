"""A phone's registration (RFC 3261 §10.2): made, refreshed, moved to another node where one does not answer, and taken back."""

from __future__ import annotations

from functools import partial

from tests.sim import wire
from tests.sim.network import Address
from tests.sim.transactions import Agent, Field
from tests.sim.wire import Message

TRIES_AGAIN_S = 5.0
DOMAIN = "sim.example"
EXPIRES_S = (20, 40, 60)


class Registration:
    """One phone's, under its own name."""

    def __init__(self, phone: Agent, servers: list[Address], *, password: str) -> None:
        self.aor = f"sip:{phone.name}@{DOMAIN}"
        self.wanted = False
        self._phone = phone
        self._servers = servers
        self._password = password
        self._call_id = phone.token()
        self._from = f"<{self.aor}>;tag={phone.token()}"
        self._number = 0
        self._turn = 0  # counts what has been begun: what is under way of an older one is of no interest

    def begin(self) -> None:
        """Be there from now on."""
        self.wanted = True
        self._register(self._phone.chance.choice(EXPIRES_S))

    def end(self) -> None:
        """Be there no more; where nobody hears that, the binding expires."""
        self.wanted = False
        self._register(0)

    def _register(self, expires: int) -> None:
        self._turn += 1
        self._send(expires, self._phone.chance.choice(self._servers), self._turn, [])

    def _send(self, expires: int, server: Address, turn: int, proof: list[Field]) -> None:
        phone = self._phone
        self._number += 1
        fields: list[Field] = [
            ("from", self._from),
            ("to", f"<{self.aor}>"),
            ("call-id", self._call_id),
            ("cseq", f"{self._number} REGISTER"),
            ("contact", phone.contact),
            ("expires", str(expires)),
            *proof,
        ]
        request = phone.request("REGISTER", f"sip:{DOMAIN}", fields)
        phone.ask(request, server, partial(self._heard, expires, server, turn, bool(proof)))

    def _heard(self, expires: int, server: Address, turn: int, proved: bool, response: Message | None) -> None:
        phone, status = self._phone, 0 if response is None else response.status
        if turn != self._turn or 0 < status < 200:
            return
        if response is not None and status == 401 and not proved:
            given = wire.prove(
                response.get("www-authenticate"),
                username=phone.name,
                password=self._password,
                method="REGISTER",
                uri=f"sip:{DOMAIN}",
            )
            self._send(expires, server, turn, [("authorization", given)])
            return
        if status == 200:
            later = expires * phone.chance.uniform(0.4, 0.9)
        elif status in (0, 401, 500, 503):
            later = TRIES_AGAIN_S
        else:
            phone.complain(f"REGISTER was answered {status}")
            return
        if self.wanted:
            phone.clock.later(later, partial(self._again, turn))

    def _again(self, turn: int) -> None:
        if self.wanted and turn == self._turn:
            self._register(self._phone.chance.choice(EXPIRES_S))
