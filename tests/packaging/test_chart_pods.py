"""What the pods get: a file that the service accepts, secrets, addresses, ports that fit together, probes, few rights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from bridge.config import Config, load
from bridge.contract.operations import HEALTH
from bridge.http_serving import HTTP_PATIENCE_S
from bridge.service import STOP_PATIENCE_S
from bridge.supervisor import SIGNALLING_STOP_S
from bridge.webhooks.signing import new_secret
from tests.docs.pages import ROOT
from tests.packaging.chart import CHART, Manifest, Rendered, scenario, scenarios, with_options
from tests.packaging.dockerfile import read_stages
from tests.support.certificates import Authority

pytestmark = pytest.mark.packaging

SECRETS, TLS = "/etc/sip-bridge/secrets", "/etc/sip-bridge/tls"
ADDRESSES = {"status.hostIP": "192.0.2.7", "status.podIP": "10.0.0.7"}
HOOK = new_secret()
EXISTING = {
    "redis-url": "redis://:a-password@redis:6379/0",
    "cluster": "the secret of the cluster",
    "ops": "the key of the operators",
    "webhooks": HOOK,
    "webhooks-before": new_secret(),
    "desk-webhooks": new_secret(),
    "password-of-alice": "the password of alice",
}


def named(name: str) -> Rendered:
    return scenario(CHART / "ci" / f"{name}-values.yaml")


def started(rendered: Rendered, place: Path) -> dict[str, Config]:
    """The configuration of each pod, as `serve` in it would read it."""
    place.mkdir(exist_ok=True)
    authority = Authority(place)
    authority.pair(file="tls")
    for name, content in rendered.secret_files(EXISTING).items():
        (place / name).write_text(content)
    found = {}
    for pod, text in rendered.files.items():
        environ = rendered.environ(pod, ADDRESSES)
        *_, option, path = rendered.container["args"]
        assert option == "--config"
        assert Path(path.replace("$(BRIDGE_NODE_ID)", environ["BRIDGE_NODE_ID"])).name == f"{pod}.yaml"
        file = place / f"{pod}.yaml"
        own = text.replace(f"{TLS}/ca.crt", str(authority.path)).replace(TLS, str(place))
        file.write_text(own.replace(SECRETS, str(place)))
        found[pod] = load(file=file, environ=environ, options={})
    return found


@scenarios
def test_the_service_accepts_its_file(values: Path, tmp_path: Path) -> None:
    rendered = scenario(values)
    given = yaml.safe_load(values.read_text(encoding="utf-8"))
    configs = started(rendered, tmp_path)
    most = given["autoscaling"]["maxReplicas"] if "autoscaling" in given else given.get("replicas", 2)
    assert list(configs) == [f"{rendered.name}-{ordinal}" for ordinal in range(most)]
    for pod, config in configs.items():
        assert config.node_id == pod
        assert not config.store.is_embedded
        assert config.sip.advertise is not None
        assert config.media.advertise is not None
        assert config.media.pairs == given.get("callsPerPod", 100)
        assert config.media.workers is not None  # else one for each core of the node
        assert str(config.data_dir) == "/data"


def test_what_stands_under_config_is_what_the_service_gets(tmp_path: Path) -> None:
    config, _ = started(named("existing-secret"), tmp_path).values()
    assert config.store.retention_s == 3600
    assert config.log.level == "warning"
    assert config.log.format == "json"
    assert config.applications[0].match.users == ("100", "49*")
    assert config.applications[0].webhooks[0].secrets[0].get_secret_value() == EXISTING["desk-webhooks"]


def test_large_numbers_stay_numbers(tmp_path: Path) -> None:
    """Helm's numbers are floats, and 1e+06 would be text to YAML."""
    (config,) = started(named("host-network-behind-nat"), tmp_path).values()
    assert config.limits.max_calls == 1_000_000


# Secrets


def test_every_secret_reaches_the_service(tmp_path: Path) -> None:
    config, _ = started(named("existing-secret"), tmp_path).values()
    assert config.store.url.get_secret_value() == EXISTING["redis-url"]
    assert config.cluster.secret is not None
    assert config.cluster.secret.get_secret_value() == EXISTING["cluster"]
    assert [each.get_secret_value() for each in config.webhooks.secrets] == [
        EXISTING["webhooks"],
        EXISTING["webhooks-before"],
    ]
    (alice,) = config.users
    assert alice.password is not None
    assert alice.password.get_secret_value() == EXISTING["password-of-alice"]
    keys = {key.name: (key.key.get_secret_value(), key.scopes) for key in config.api.keys}
    assert keys == {"ops": (EXISTING["ops"], ("control",)), "wallboard": ("a-key-that-the-chart-keeps", ("read",))}


@pytest.mark.parametrize("name", ["host-network", "existing-secret"])
def test_secrets_stand_in_secrets_alone(name: str) -> None:
    rendered = named(name)
    secrets = rendered.secret_files({key: key for key in EXISTING}).values()
    others = yaml.safe_dump([each for each in rendered.manifests if each["kind"] != "Secret"])
    for secret in set(secrets) - set(EXISTING):
        assert secret not in others


def test_a_changed_secret_or_setting_restarts_and_another_replica_does_not() -> None:
    def template(*pairs: str) -> Manifest:
        values = ("--values", CHART / "ci" / "host-network-values.yaml", *with_options(*pairs))
        annotations: Manifest = Rendered(*values).stateful_set["spec"]["template"]["metadata"]["annotations"]
        return annotations

    before = template()
    assert template("redis.url=redis://other:6379/0") != before
    assert template("config.log.level=debug") != before
    assert template("replicas=1") == template("replicas=3") == before


# TLS


def test_a_certificate_of_the_operator(tmp_path: Path) -> None:
    rendered = named("tls-from-a-secret")
    assert volume(rendered, TLS) == {"secretName": "sip-certificate", "defaultMode": 0o440}
    assert rendered.all("Certificate") == []
    for ordinal, config in enumerate(started(rendered, tmp_path).values()):
        listening = [each.uri for each in config.sip.listen]
        assert listening == [f"udp:0.0.0.0:{30060 + ordinal}", f"tls:0.0.0.0:{30070 + ordinal}"]
        files = config.sip.tls.files
        assert files is not None
        assert files.ca is not None
        assert (files.verify_client, files.verify_server) == ("optional", True)


def test_a_certificate_that_cert_manager_makes(tmp_path: Path) -> None:
    rendered = named("tls-from-cert-manager")
    made = rendered.one("Certificate")["spec"]
    assert volume(rendered, TLS)["secretName"] == made["secretName"] == "phones-sip-bridge-tls"
    assert made["dnsNames"] == ["example.com", "sip.example.com"]
    assert made["issuerRef"] == {"name": "letsencrypt", "kind": "ClusterIssuer"}
    assert (made["duration"], made["renewBefore"]) == ("2160h", "360h")
    assert {"server auth", "client auth"} <= set(made["usages"])
    for config in started(rendered, tmp_path).values():
        assert [each.uri for each in config.sip.listen] == ["tls:0.0.0.0:5061"]
        files = config.sip.tls.files
        assert files is not None
        assert files.ca is None
    (port,) = [each for each in rendered.container["ports"] if each["name"].startswith("sip-")]
    assert port == {"name": "sip-tls", "protocol": "TCP", "containerPort": 5061}


def volume(rendered: Rendered, path: str) -> Manifest:
    """The Secret that is mounted there, as a directory, so that what Kubernetes changes in it is seen."""
    (mount,) = [each for each in rendered.container["volumeMounts"] if each["mountPath"] == path]
    assert mount["readOnly"] is True
    assert "subPath" not in mount
    (found,) = [each for each in rendered.pod["volumes"] if each["name"] == mount["name"]]
    secret: Manifest = found["secret"]
    return secret


def test_without_tls_nothing_of_it_is_there() -> None:
    assert TLS not in named("host-network").text


# Addresses and ports


@pytest.mark.parametrize(
    ("name", "sip", "media"),
    [
        ("host-network", ["192.0.2.7"] * 2, ["192.0.2.7"] * 2),
        ("host-network-behind-nat", ["203.0.113.10"], ["203.0.113.10"]),
        ("pod-network", ["10.0.0.7"] * 2, ["10.0.0.7"] * 2),
        ("service-per-pod-load-balancer", ["203.0.113.10", "203.0.113.11"], ["203.0.113.10", "203.0.113.11"]),
        ("service-per-pod-node-port", ["192.0.2.7"] * 2, ["192.0.2.7"] * 2),
        ("shared-sip-load-balancer", ["sip.example.com"] * 2, ["203.0.113.20", "203.0.113.21"]),
        ("shared-sip-node-port", ["192.0.2.7"] * 2, ["192.0.2.7"] * 2),
    ],
)
def test_each_pod_tells_the_address_that_leads_to_it(
    name: str, sip: list[str], media: list[str], tmp_path: Path
) -> None:
    configs = started(named(name), tmp_path).values()
    assert [str(config.sip.advertise) for config in configs] == sip
    assert [config.media.advertise for config in configs] == media


def ports_of(service: Manifest) -> set[tuple[str, int]]:
    """What a Service passes on; always unchanged."""
    found = set()
    for port in service["spec"]["ports"]:
        assert port["targetPort"] == port["port"]
        assert port.get("nodePort", port["port"]) == port["port"]
        found.add((port["protocol"], port["port"]))
    return found


def wanted_by(config: Config) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """The ports that a pod listens on for SIP, and for media."""
    sip = {("UDP" if each.transport == "udp" else "TCP", each.address.port) for each in config.sip.listen}
    return sip, {("UDP", port) for each in config.media.ports for port in range(each.first, each.last + 1)}


@pytest.mark.parametrize("name", ["service-per-pod-load-balancer", "service-per-pod-node-port", "tls-from-a-secret"])
def test_a_service_per_pod_leads_every_port_to_its_pod(name: str, tmp_path: Path) -> None:
    rendered = named(name)
    for pod, config in started(rendered, tmp_path).items():
        service = rendered.one("Service", pod)
        sip, media = wanted_by(config)
        assert ports_of(service) == sip | media
        assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == pod
        assert service["spec"]["publishNotReadyAddresses"] is True
        assert service["spec"]["externalTrafficPolicy"] == "Local"


@pytest.mark.parametrize("name", ["shared-sip-load-balancer", "shared-sip-node-port", "scaled-by-keda"])
def test_a_shared_service_has_sip_and_the_pods_own_has_media(name: str, tmp_path: Path) -> None:
    rendered = named(name)
    shared = rendered.one("Service", f"{rendered.name}-sip")
    assert "statefulset.kubernetes.io/pod-name" not in shared["spec"]["selector"]
    for pod, config in started(rendered, tmp_path).items():
        sip, media = wanted_by(config)
        assert ports_of(shared) == sip
        assert ports_of(rendered.one("Service", pod)) == media


@scenarios
def test_no_node_port_is_taken_twice(values: Path) -> None:
    services = scenario(values).all("Service")
    taken = Counter(
        (port["protocol"], port["nodePort"])
        for service in services
        for port in service["spec"]["ports"]
        if "nodePort" in port
    )
    assert not [port for port, times in taken.items() if times > 1]


def test_each_load_balancer_has_its_own_annotations() -> None:
    rendered = named("service-per-pod-load-balancer")
    for ordinal, address in enumerate(["203.0.113.10", "203.0.113.11"]):
        service = rendered.one("Service", f"{rendered.name}-{ordinal}")
        assert service["metadata"]["annotations"] == {
            "metallb.io/address-pool": "sip",
            "metallb.io/loadBalancerIPs": address,
        }
        assert service["spec"]["loadBalancerSourceRanges"] == ["198.51.100.0/24"]
        assert service["spec"]["allocateLoadBalancerNodePorts"] is False


@scenarios
def test_selectors_find_the_pods_and_names_their_ports(values: Path) -> None:
    rendered = scenario(values)
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in rendered.manifests
        if "template" in each.get("spec", {})
    }
    for service in rendered.all("Service"):
        selector = dict(service["spec"]["selector"])
        selector.pop("statefulset.kubernetes.io/pod-name", None)
        (pod,) = [pod for pod in pods.values() if selector.items() <= pod["metadata"]["labels"].items()]
        named = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        wanted = {port["targetPort"] for port in service["spec"]["ports"]}
        assert {each for each in wanted if isinstance(each, str)} <= named
    assert rendered.stateful_set["spec"]["serviceName"] in [
        each["metadata"]["name"] for each in rendered.all("Service")
    ]
    for monitor in rendered.all("ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [each for each in rendered.all("Service") if labels <= each["metadata"]["labels"].items()]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
        assert endpoint["path"] == "/metrics"


def test_rest_is_open_only_to_keys(tmp_path: Path) -> None:
    with_keys, without = named("host-network"), named("shared-sip-node-port")
    config, _ = started(with_keys, tmp_path / "with").values()
    assert str(config.api.listen) == "0.0.0.0:8080"
    assert with_keys.one("Service", f"{with_keys.name}-api")["spec"]["type"] == "ClusterIP"
    config, _ = started(without, tmp_path / "without").values()
    assert config.api.listen.is_loopback
    assert f"{without.name}-api" not in [each["metadata"]["name"] for each in without.all("Service")]


@pytest.mark.parametrize("name", ["pod-network", "service-per-pod-node-port", "scaled-by-hpa", "tls-from-a-secret"])
def test_a_network_policy_opens_what_is_listened_on_and_no_more(name: str, tmp_path: Path) -> None:
    rendered = named(name)
    policy = rendered.one("NetworkPolicy", rendered.name)["spec"]
    opened = {
        (port["protocol"], number)
        for rule in policy["ingress"]
        for port in rule["ports"]
        for number in range(port["port"], port.get("endPort", port["port"]) + 1)
    }
    listened = set()
    for config in started(rendered, tmp_path).values():
        sip, media = wanted_by(config)
        assert config.health.listen is not None
        assert config.cluster.listen is not None
        listened |= sip | media | {("TCP", config.health.listen.port), ("TCP", config.cluster.listen.port)}
        listened |= set() if config.api.listen.is_loopback else {("TCP", config.api.listen.port)}
    assert opened == listened
    assert policy["policyTypes"] == ["Ingress"]
    assert (
        policy["podSelector"]["matchLabels"].items()
        <= rendered.stateful_set["spec"]["template"]["metadata"]["labels"].items()
    )


def test_a_network_policy_lets_in_whom_it_is_told() -> None:
    rendered = named("pod-network")
    sip, media, api, cluster, health = rendered.one("NetworkPolicy")["spec"]["ingress"]
    assert sip["from"] == media["from"] == [{"ipBlock": {"cidr": "198.51.100.0/24"}}]
    assert api["from"] == [{"podSelector": {"matchLabels": {"app": "control"}}}]
    assert cluster["from"] == [{"podSelector": rendered.stateful_set["spec"]["selector"]}]
    assert health["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


# Life and death


@scenarios
def test_probes_ask_the_process_and_not_the_store(values: Path, tmp_path: Path) -> None:
    """`/livez` and `/readyz` answer without the store: tests/api holds them to it, and tests/chaos with a real one."""
    rendered = scenario(values)
    probes = {name: each for name, each in rendered.container.items() if name.endswith("Probe")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    port = next(each["containerPort"] for each in rendered.container["ports"] if each["name"] == "health")
    for config in started(rendered, tmp_path).values():
        assert config.health.listen is not None
        assert config.health.listen.port == port
    assert all(probe["httpGet"]["port"] == "health" for probe in probes.values())
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= {operation.path for operation in HEALTH}


@scenarios
def test_a_pod_is_given_time_to_end(values: Path, tmp_path: Path) -> None:
    rendered = scenario(values)
    grace_s = rendered.pod["terminationGracePeriodSeconds"]
    for config in started(rendered, tmp_path).values():
        assert 0 < config.cluster.drain_limit_s < min(grace_s, SIGNALLING_STOP_S) - STOP_PATIENCE_S - HTTP_PATIENCE_S
    assert "lifecycle" not in rendered.container
    spec = rendered.stateful_set["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    budget = rendered.one("PodDisruptionBudget")["spec"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["selector"] == spec["selector"]


def test_pods_that_share_their_nodes_ports_never_share_a_node() -> None:
    rendered = named("host-network")
    assert rendered.pod["hostNetwork"] is True
    assert rendered.pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    (rule,) = rendered.pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"] == rendered.stateful_set["spec"]["selector"]


# Rights


@scenarios
def test_pods_have_no_rights(values: Path) -> None:
    rendered = scenario(values)
    for _, pod in rendered.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostPID", "hostIPC", "initContainers"} & set(pod)
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]["limits"]) == {"memory"}
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    for account in rendered.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@scenarios
def test_only_empty_directories_can_be_written(values: Path) -> None:
    rendered = scenario(values)
    for _, pod in rendered.pods():
        writable = {
            mount["name"]
            for container in pod["containers"]
            for mount in container["volumeMounts"]
            if not mount.get("readOnly")
        }
        for volume in pod["volumes"]:
            assert "hostPath" not in volume
            if volume["name"] in writable:
                assert volume["emptyDir"]["sizeLimit"]


def test_the_pod_runs_as_the_images_user() -> None:
    user, _, group = read_stages(ROOT / "Dockerfile")[-1].last("USER").rest.partition(":")
    context = named("host-network").pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))


def test_websockets_have_ports_of_their_own(tmp_path: Path) -> None:
    rendered = named("websocket")
    for config in started(rendered, tmp_path).values():
        assert [each.uri for each in config.sip.listen] == ["udp:0.0.0.0:5060", "ws:0.0.0.0:5062", "wss:0.0.0.0:5063"]
        assert config.sip.websocket.origins == ("https://app.example.com",)
        assert config.sip.tls.files is not None
    ports = [each for each in rendered.container["ports"] if each["name"].startswith("sip-ws")]
    assert ports == [
        {"name": "sip-ws", "protocol": "TCP", "containerPort": 5062},
        {"name": "sip-wss", "protocol": "TCP", "containerPort": 5063},
    ]
