"""A phone that calls the service: lets it ring for a while, gives up, talks, holds, hangs up."""

from __future__ import annotations

from functools import partial

from tests.sim.dialog import Dialog, Stage, invite
from tests.sim.network import Address
from tests.sim.phone import Phone
from tests.sim.transactions import Asked
from tests.sim.wire import Message

PATIENCE_S = 60.0  # the longest that anybody lets it ring


class Caller(Phone):
    """Its calls, one after the other or several at once, as the scenario says."""

    def call(self, user: str, there: Address) -> None:
        """Call `user` at a node of the service."""
        chance = self.chance
        uri = f"sip:{user}@{there[0]}:{there[1]}"
        dialog = self.new_dialog(
            call_id=f"{self.token()}@{self.host}",
            ours=f"<sip:{self.name}@{self.host}>;tag={self.token()}",
            theirs=f"<{uri}>",
            target=uri,
            way=there,
        )
        calling = _Calling(self, dialog)
        calling.asked = invite(dialog, self, delayed=chance.random() < 0.1, heard=calling.heard)
        if chance.random() < 0.3:
            self.clock.later(chance.choice((0.05, 0.5, chance.uniform(0.0, 12.0))), calling.give_up)
        self.clock.later(chance.uniform(20.0, PATIENCE_S), calling.give_up)


class _Calling:
    """One INVITE on its way to an answer."""

    def __init__(self, phone: Caller, dialog: Dialog) -> None:
        self.phone = phone
        self.dialog = dialog
        self.asked: Asked | None = None
        self.given_up = False

    def heard(self, response: Message | None) -> None:
        dialog = self.dialog
        if response is None:
            dialog.over()
        elif response.status < 200:
            if self.given_up:
                self._cancel()
            if response.to_tag and dialog.stage is Stage.EARLY:
                dialog.meet(response)
                dialog.hears_early(response)
        elif response.status < 300:
            fresh = dialog.stage is Stage.EARLY
            dialog.answered(response, wanted=not self.given_up)
            if fresh and dialog.alive:
                self.phone.live_a_little(dialog)
        else:
            dialog.over()

    def give_up(self) -> None:
        """CANCEL, as soon as that is allowed (§9.1)."""
        if self.dialog.stage is Stage.EARLY:
            self.given_up = True
            self._cancel()

    def _cancel(self) -> None:
        if self.asked is not None:
            self.phone.cancel(self.asked)


def call_later(phone: Caller, at: float, user: str, there: Address) -> None:
    """Plan a call."""
    phone.clock.later(at, partial(phone.call, user, there))
