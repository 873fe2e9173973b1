"""A phone that is called: rings, answers, is busy, says nothing, sends elsewhere, or wants a password first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tests.sim import wire
from tests.sim.clock import VirtualClock
from tests.sim.dialog import Air, Dialog
from tests.sim.network import Network
from tests.sim.phone import Phone
from tests.sim.transactions import PATIENCE_S, Served

PASSWORD = "open sesame"
RINGS_S = 90.0  # then the phone has had enough
_REFUSALS = (486, 480, 404, 503, 500, 603, 488, 408)


class Callee(Phone):
    """Its mood is drawn anew for each INVITE. `guarded`: nobody reaches it without the password of its name."""

    def __init__(
        self,
        name: str,
        host: str,
        *,
        clock: VirtualClock,
        network: Network,
        chance: Random,
        air: Air,
        guarded: bool = False,
    ) -> None:
        super().__init__(name, host, clock=clock, network=network, chance=chance, air=air)
        self.guarded = guarded
        self.elsewhere: list[str] = []  # URIs that it may send its callers to
        self.rung: dict[str, set[str]] = {}  # by the user that was asked for: the Call-IDs that came
        self._ringing: dict[tuple[str, int, str], Dialog] = {}  # by Call-ID, CSeq, From tag
        self._nonces: set[str] = set()

    def invited(self, served: Served) -> None:
        request, chance = served.request, self.chance
        call_id = request.get("call-id")
        self.rung.setdefault(wire.user_of(request.uri), set()).add(call_id)
        likeness = (call_id, request.number, request.from_tag)
        if likeness in self._ringing:
            self.complain(f"{call_id} rings anew, long after it was answered, or merged")
            self.respond(served, 482)
            return
        if self.guarded and not self._has_proved(served):
            return
        if chance.random() < 0.12:
            return  # somebody has pulled the plug: not even 100
        ours = f"{request.get('to')};tag={served.tag}"
        target = wire.uri_in(request.get("contact"))
        dialog = self.new_dialog(
            call_id=call_id, ours=ours, theirs=request.get("from"), target=target, way=wire.place_of(target)
        )
        dialog.heard = request.number
        self._ringing[likeness] = dialog
        at = 0.0
        for wait, say in self._mood(served, dialog):
            at += wait
            self.clock.later(at, partial(_unless_answered, served, say))

    def _mood(self, served: Served, dialog: Dialog) -> list[tuple[float, Callable[[], None]]]:
        """What will be said: each with the seconds before it."""
        chance = self.chance
        story: list[tuple[float, Callable[[], None]]] = []
        if chance.random() < 0.7:
            story.append((chance.uniform(0.0, 0.1), partial(self.respond, served, 100)))
        if chance.random() < 0.7:
            story.append((chance.uniform(0.0, 2.0), partial(self.respond, served, 180)))
        if chance.random() < 0.15:
            story.append((chance.uniform(0.0, 1.0), partial(dialog.let_hear, served)))
        luck = chance.random()
        wait = chance.choice((0.0, 0.2, chance.uniform(0.0, 4.0), chance.uniform(2.0, 25.0)))
        if luck < 0.62:
            story.append((wait, partial(self._answer, served, dialog)))
        elif luck < 0.82:
            story.append((wait, partial(self._refuse, served, dialog, chance.choice(_REFUSALS))))
        elif luck < 0.9 and self.elsewhere:
            contact = f"<{chance.choice(self.elsewhere)}>"
            story.append((wait, partial(self._refuse, served, dialog, 302, contact)))
        elif story:
            story.append((RINGS_S, partial(self._refuse, served, dialog, 480)))
        else:
            story.append((PATIENCE_S, dialog.over))  # nobody has heard it ring, and nobody waits any longer
        return story

    def _answer(self, served: Served, dialog: Dialog) -> None:
        dialog.accept(served)
        self.live_a_little(dialog)

    def _refuse(self, served: Served, dialog: Dialog, status: int, contact: str = "") -> None:
        self.respond(served, status, fields=[("contact", contact)] if contact else [])
        dialog.over()

    def canceled(self, served: Served) -> None:
        request = served.request
        dialog = self._ringing.get((request.get("call-id"), request.number, request.from_tag))
        if dialog is not None:
            dialog.over()

    def _has_proved(self, served: Served) -> bool:
        """Whether the INVITE has the right credentials; else it is answered."""
        given = served.request.get("authorization")
        for nonce in sorted(self._nonces):
            if given and wire.proves(given, username=self.name, password=PASSWORD, nonce=nonce, method="INVITE"):
                return True
        nonce = self.token()
        self._nonces.add(nonce)
        challenge = f'Digest realm="phones", nonce="{nonce}", qop="auth", algorithm=MD5'
        self.respond(served, 401, fields=[("www-authenticate", challenge)])
        return False


def _unless_answered(served: Served, say: Callable[[], None]) -> None:
    if not served.final:
        say()
