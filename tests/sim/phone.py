"""A phone: an agent with dialogs. Who calls and who is called stand in `phone_caller` and `phone_callee`."""

from __future__ import annotations

from random import Random

from tests.sim.clock import VirtualClock
from tests.sim.dialog import Air, Dialog, Stage
from tests.sim.network import Address, Network
from tests.sim.transactions import Agent, Served
from tests.sim.wire import Message


class Phone(Agent):
    """What both kinds have in common."""

    def __init__(
        self, name: str, host: str, *, clock: VirtualClock, network: Network, chance: Random, air: Air
    ) -> None:
        super().__init__(name, host, clock=clock, network=network, chance=chance)
        self.air = air
        self.dialogs: list[Dialog] = []
        self._port = 4000
        self.refers_to: list[str] = []  # whom its people have others put through to

    def new_dialog(self, *, call_id: str, ours: str, theirs: str, target: str, way: Address) -> Dialog:
        """A dialog with a port of its own."""
        self._port += 2
        dialog = Dialog(
            self, self.air, call_id=call_id, ours=ours, theirs=theirs, target=target, way=way, port=self._port
        )
        self.dialogs.append(dialog)
        return dialog

    @property
    def idle(self) -> bool:
        return super().idle and not any(dialog.alive for dialog in self.dialogs)

    def speaks_to(self) -> set[Address]:
        """Where its media goes."""
        return {there for dialog in self.dialogs if (there := dialog.speaks_to) is not None}

    def hang_up_everything(self) -> None:
        """The people at this phone have had enough."""
        for dialog in list(self.dialogs):
            dialog.bye()

    def live_a_little(self, dialog: Dialog) -> None:
        """What people do with a call: hold it for a while, and leave it, or stay."""
        chance, clock = self.chance, self.clock
        if self.refers_to and chance.random() < 0.5:
            clock.later(chance.uniform(0.5, 20.0), lambda: self._refer(dialog))
        if chance.random() < 0.25:
            at, length = chance.uniform(0.2, 12.0), chance.uniform(0.5, 20.0)
            clock.later(at, lambda: dialog.reinvite("sendonly"))
            clock.later(at + length, lambda: self._resume(dialog))
        if chance.random() < 0.55:
            clock.later(chance.choice((0.0, 0.3, 2.0, chance.uniform(0.5, 30.0))), dialog.bye)

    def _refer(self, dialog: Dialog) -> None:
        """Blind, or to whom this phone talks in another call; and now and then they hang up at once."""
        others = [each for each in self.dialogs if each is not dialog and each.stage is Stage.CONFIRMED]
        target = self.chance.choice(self.refers_to)
        dialog.refer(self.chance.choice(others).replacing(target) if others else target)
        if self.chance.random() < 0.2:
            self.clock.later(self.chance.uniform(0.0, 3.0), dialog.bye)

    def _resume(self, dialog: Dialog) -> None:
        """Until it is so."""
        if dialog.alive and (dialog.wanted != "sendrecv" or dialog.direction == "sendonly"):
            dialog.reinvite("sendrecv")
            self.clock.later(5.0, lambda: self._resume(dialog))

    def within_dialog(self, served: Served) -> None:
        request = served.request
        dialog = self._dialog_of(request)
        if dialog is None or not dialog.alive:
            self.respond(served, 481)
        elif request.number <= dialog.heard:
            self.respond(served, 500)  # §12.2.2: it has been overtaken
        elif request.method == "INVITE":
            dialog.heard = request.number
            dialog.reinvited(served)
        elif request.method == "REFER":
            dialog.heard = request.number
            dialog.referred(served)
        else:
            dialog.heard = request.number
            self.respond(served, 200)
            if request.method == "NOTIFY":
                dialog.notified(request)
            if request.method == "BYE":
                dialog.over()

    def acknowledged(self, ack: Message) -> None:
        dialog = self._dialog_of(ack)
        if dialog is not None:
            dialog.acknowledged(ack)

    def _dialog_of(self, request: Message) -> Dialog | None:
        """§12.2.2."""
        wanted = (request.get("call-id"), request.to_tag, request.from_tag)
        return next((each for each in self.dialogs if (each.call_id, each.our_tag, each.their_tag) == wanted), None)
