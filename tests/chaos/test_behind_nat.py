"""A phone behind a router that masquerades: it registers, is called, calls, talks, and its node dies (survival §4.8, §5).

The phone is baresip, which knows its private address only and says so everywhere. Its router gives it other ports outside, another
one for each whom it speaks to, and lets nobody in whom it has not spoken to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.cluster import LINKED, Cluster
from tests.support.application import Event, actions
from tests.support.baresip import Baresip
from tests.support.caller import OutgoingCall
from tests.support.namespaces import Network
from tests.support.phone import Leg
from tests.support.scene import Scene
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

DOMAIN = "home.test"
ALICE = f"sip:alice@{DOMAIN}"
CONFIG = {**LINKED, "users": [{"username": "alice", "password": "secret"}]}
AUDIBLE = 20  # packets


@dataclass
class Street:
    """Two nodes, everybody else at ours, and phones that are not on the street."""

    scene: Scene
    network: Network
    cluster: Cluster

    def account(self, node: int) -> str:
        """Alice's line, by way of this node."""
        host, port = self.cluster.nodes[node].sip_address
        return f'<{ALICE}>;auth_pass=secret;outbound="sip:{host}:{port}";regint=60;answermode=auto'

    async def phone(self, name: str, *, other_ports: bool) -> Baresip:
        """Alice's, behind a router of its own, and registered by way of the first node."""
        host = self.network.behind_nat(name, other_ports=other_ports)
        phone = await self.scene.baresip(self.account(0), host=host)
        await phone.registered()
        return phone

    async def only_by_way_of(self, phone: Baresip, node: int) -> None:
        """Each account of this phone is a contact: all would answer, and those that are hung up on hold the other. The older
        ones do not register again for as long as this test takes."""
        living = self.cluster.nodes[node]
        async with living.rest("DELETE", f"/v1/registrations/{ALICE}") as answer:
            assert answer.status == 200
        await phone.command("uanew", self.account(node))

        async def is_bound_once() -> bool:
            found = (await living.read("/v1/registrations"))["data"]
            return [len(each["bindings"]) for each in found] == [1]

        await until_awaited(is_bound_once, "one contact is left")

    async def call(self, node: int) -> OutgoingCall:
        """Somebody on the street calls Alice by way of this node, and it answers."""
        call = self.cluster.callers[node].call("alice")
        answer = await call.invite()
        assert answer.status == 200, answer
        return call


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def street(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    async with Scene(tmp_path_factory.mktemp("street")) as scene:
        network = scene.network()
        hosts = [network.host(f"node-{number}") for number in (1, 2)]
        store = (await scene.redis(host=network.here)).url
        config = {**CONFIG, "sip": {"domains": [DOMAIN, *(host.address for host in hosts)]}}
        cluster = await Cluster.up_at(scene, hosts, here=network.here, store=store, config=config)
        cluster.application.reply = switchboard(cluster)
        yield Street(scene, network, cluster)


def switchboard(cluster: Cluster):  # type: ignore[no-untyped-def]
    """Who calls Alice is put through to her phone; who calls anybody else, to the callee on the street."""

    async def reply(event: Event) -> web.StreamResponse:
        if event["type"] != "call.incoming":
            return web.Response()
        user = event["data"]["call"]["to"]["user"]
        return actions({"action": "dial", "to": ALICE if user == "alice" else cluster.callee.uri_of(user)})

    return reply


async def they_hear_each_other(leg: Leg, phone: Baresip) -> None:
    """Whoever is on the street speaks, and hears the phone's tone; and what is said comes out behind the router."""
    before, inside = leg.phone.rtp.heard[leg.media_port], phone.host.datagrams_heard()

    def both_hear() -> bool:
        leg.phone.rtp.speak(leg.media_port)
        is_heard = leg.phone.rtp.heard[leg.media_port] > before + AUDIBLE
        return is_heard and phone.host.datagrams_heard() > inside + AUDIBLE

    def said() -> str:
        heard = leg.phone.rtp.heard[leg.media_port] - before
        return f"both hear: {heard} packets on the street, {phone.host.datagrams_heard() - inside} datagrams behind the router"

    await until(both_hear, said, poll_s=0.02)


async def test_it_registers_is_called_and_calls_by_way_of_any_node(street: Street) -> None:
    cluster, phone = street.cluster, await street.phone("first", other_ports=True)
    (registration,) = (await cluster.nodes[1].read("/v1/registrations"))["data"]
    (binding,) = registration["bindings"]
    assert phone.host.address in binding["contact"]
    assert not binding["source"]["address"].startswith(phone.host.address)

    call = await street.call(1)  # which its router would not let in
    await they_hear_each_other(call, phone)
    assert (await call.bye()).status == 200
    await phone.event("CALL_CLOSED")

    await phone.command("dial", f"sip:100@{DOMAIN}")
    party = await cluster.callee.called()
    await phone.event("CALL_ESTABLISHED", number=2)
    await they_hear_each_other(party, phone)
    assert (await party.bye()).status == 200
    await phone.event("CALL_CLOSED", number=2)
    await phone.command("quit")
    await cluster.application.event("registration.removed")
    await cluster.application.all_ended(4)
    cluster.application.judge()


async def test_its_node_dies_and_its_call_goes_on_once_it_registers_by_way_of_another(street: Street) -> None:
    """What is given up: its router lets the other node in only then, and only at the port that it knew. The call waits for it."""
    cluster, phone = street.cluster, await street.phone("second", other_ports=False)
    ended = cluster.application.count("call.ended")
    call = await street.call(0)
    await they_hear_each_other(call, phone)
    cluster.nodes[0].kill()
    await cluster.application.event("call.recovered")
    assert cluster.application.count("call.recovered") == 1  # the caller's, who is on the street
    await phone.command("uanew", street.account(1))
    await cluster.application.event("call.recovered", number=2)
    await they_hear_each_other(call, phone)
    assert not call.is_over
    await phone.command("hangup")
    await call.hung_up()

    await street.only_by_way_of(phone, 1)
    again = await street.call(1)
    await they_hear_each_other(again, phone)
    assert (await again.bye()).status == 200
    await cluster.application.all_ended(ended + 4)
    assert cluster.application.judge()["call.recovered"] == 2
