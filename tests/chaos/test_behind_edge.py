"""Nodes that leave through one address, a phone behind a NAT, and its node dies (survival §4.8): it is reached at once.

As behind an address that a load balancer has, and everybody's packets leave from: the phone's router knows that address, lets in
what comes from it, and cannot tell which node has sent it.
"""

from __future__ import annotations

import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.test_behind_nat import CONFIG, DOMAIN, Street, switchboard, they_hear_each_other
from tests.support.namespaces import Edge
from tests.support.scene import Scene
from tests.support.served import merged

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SIP_PORT = 5060


async def up(scene: Scene) -> tuple[Street, Edge]:
    """Two nodes behind the edge, which leads all of SIP to the first one; everybody else is on the street."""
    network = scene.network()
    edge = network.edge("edge")
    hosts = [edge.host(f"node-{number}") for number in (1, 2)]
    sip = {"listen": [f"udp:0.0.0.0:{SIP_PORT}"], "advertise": f"{edge.address}:{SIP_PORT}"}
    config = merged(CONFIG, {"sip": {**sip, "domains": [DOMAIN, edge.address]}, "media": {"advertise": edge.address}})
    store = (await scene.redis(host=network.here)).url
    cluster = await Cluster.up_at(scene, hosts, here=network.here, store=store, config=config)
    cluster.application.reply = switchboard(cluster)
    for node, caller in zip(cluster.nodes, cluster.callers, strict=True):
        edge.lead(node.config["media"]["ports"], node.host)
        caller.target = (edge.address, SIP_PORT)
        node.sip_address = caller.target
    edge.lead(str(SIP_PORT), hosts[0])
    return Street(scene, network, cluster), edge


async def test_its_node_dies_and_the_next_one_is_let_in(scene: Scene) -> None:
    street, edge = await up(scene)
    cluster, phone = street.cluster, await street.phone("phone", other_ports=True)
    call = await street.call(0)
    await they_hear_each_other(call, phone)
    cluster.nodes[0].kill()
    edge.lead(str(SIP_PORT), cluster.nodes[1].host)  # as the balancer sees it that somebody is gone
    await cluster.application.event("call.recovered", number=2)  # the caller's, and the phone's, which has said nothing
    await they_hear_each_other(call, phone)
    assert not call.is_over
    await phone.command("hangup")
    await call.hung_up()
    await cluster.application.all_ended(2)
    assert cluster.application.judge()["call.recovered"] == 2
