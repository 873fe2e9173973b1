"""What makes several pods one service: links between them, one secret that stays, a place to hand calls over to, as many as it takes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.chart import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    RELEASE,
    Manifest,
    Rendered,
    helm,
    scenario,
    scenarios,
    with_options,
)
from tests.packaging.test_chart_pods import EXISTING, named, started

pytestmark = pytest.mark.packaging

REDIS = with_options("redis.url=redis://redis:6379/0")
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
MADE = f"{RELEASE}-sip-bridge-cluster"


# Links


@scenarios
def test_each_pod_listens_for_the_others_at_its_own_address(values: Path, tmp_path: Path) -> None:
    rendered = scenario(values)
    (port,) = [each["containerPort"] for each in rendered.container["ports"] if each["name"] == "cluster"]
    (service,) = [each for each in rendered.all("Service") if each["spec"].get("clusterIP") == "None"]
    assert {"name": "cluster", "port": port, "targetPort": "cluster"} in service["spec"]["ports"]
    assert service["spec"]["publishNotReadyAddresses"] is True  # who drains is not ready, and still spoken to
    configs = started(rendered, tmp_path).values()
    assert {str(config.cluster.listen) for config in configs} == {f"10.0.0.7:{port}"}
    secrets = {config.cluster.secret.get_secret_value() for config in configs if config.cluster.secret is not None}
    assert len(secrets) == 1


def test_no_service_that_the_world_reaches_leads_to_the_clusters_port() -> None:
    for name in ("service-per-pod-load-balancer", "service-per-pod-node-port", "shared-sip-load-balancer"):
        for service in named(name).all("Service"):
            if service["spec"].get("type", "ClusterIP") != "ClusterIP":
                assert VALUES["ports"]["cluster"] not in [each["port"] for each in service["spec"]["ports"]]


# The secret


def made_secret(rendered: Rendered) -> str:
    return base64.b64decode(rendered.one("Secret", MADE)["data"]["cluster-secret"]).decode()


def test_a_secret_is_made_where_none_is_given() -> None:
    rendered = named("trial")
    secret = rendered.one("Secret", MADE)
    assert len(made_secret(rendered)) == 64
    assert secret["immutable"] is True
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert made_secret(rendered) not in yaml.safe_dump([each for each in rendered.manifests if each is not secret])
    again = Rendered("--values", CHART / "ci" / "trial-values.yaml")
    assert made_secret(again) != made_secret(rendered)
    # A rendering that could not ask restarts nobody.
    assert again.stateful_set == rendered.stateful_set


@pytest.mark.parametrize("name", ["existing-secret", "scaled-by-hpa"])
def test_none_is_made_where_one_is_given(name: str, tmp_path: Path) -> None:
    rendered = named(name)
    assert MADE not in [each["metadata"]["name"] for each in rendered.all("Secret")]
    for config in started(rendered, tmp_path).values():
        assert config.cluster.secret is not None
        assert config.cluster.secret.get_secret_value() in (EXISTING["cluster"], "a-secret-of-the-cluster")


class Answers(BaseHTTPRequestHandler):
    """As much of the Kubernetes API as `lookup` asks for: one Secret, and what leads to it."""

    secret: dict[str, Any]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        listed = {"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
        found = {
            "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [listed]},
            f"/api/v1/namespaces/{NAMESPACE}/secrets/{MADE}": self.secret,
        }.get(path)
        body = json.dumps(found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the test says what it wanted."""


@contextmanager
def a_cluster_with(secret: Manifest) -> Iterator[str]:
    """The URL of its API."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Answers,), {"secret": secret})) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


def test_an_upgrade_keeps_the_secret() -> None:
    kept = named("trial").one("Secret", MADE)
    with a_cluster_with(kept) as url:
        said = helm(
            *("template", RELEASE, CHART, "--namespace", NAMESPACE, "--is-upgrade", "--dry-run=server"),
            *("--kube-version", KUBERNETES, "--kube-apiserver", url, "--values", CHART / "ci" / "trial-values.yaml"),
        )
    assert said.code == 0, said.err
    (found,) = [each for each in yaml.safe_load_all(said.out) if each and each["metadata"]["name"] == MADE]
    assert found["data"] == kept["data"]


# How many, and where


def test_two_pods_unless_told_otherwise_and_a_node_will_do() -> None:
    rendered = named("trial")
    assert rendered.stateful_set["spec"]["replicas"] == 2
    assert "affinity" not in rendered.pod
    constraints = {each["topologyKey"]: each for each in rendered.pod["topologySpreadConstraints"]}
    assert set(constraints) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for each in constraints.values():
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"
        assert each["labelSelector"] == rendered.stateful_set["spec"]["selector"]


@pytest.mark.parametrize("name", ["scaled-by-hpa", "scaled-by-keda"])
def test_every_pod_that_may_come_has_all_it_needs(name: str, tmp_path: Path) -> None:
    rendered = named(name)
    assert "replicas" not in rendered.stateful_set["spec"]  # else each upgrade would set it back
    (scaler,) = rendered.all("HorizontalPodAutoscaler") + rendered.all("ScaledObject")
    spec = scaler["spec"]
    most = spec.get("maxReplicas", spec.get("maxReplicaCount"))
    configs = started(rendered, tmp_path)
    assert list(configs) == [f"{rendered.name}-{ordinal}" for ordinal in range(most)]
    if rendered.all("ScaledObject"):
        assert {f"{rendered.name}-{ordinal}" for ordinal in range(most)} <= {
            each["metadata"]["name"] for each in rendered.all("Service")
        }
    target = rendered.stateful_set
    assert spec["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }


def test_pods_go_one_at_a_time() -> None:
    """Whoever takes over must not be told to end meanwhile."""
    keda = named("scaled-by-keda").one("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    for behavior in (named("scaled-by-hpa").one("HorizontalPodAutoscaler")["spec"]["behavior"], keda["behavior"]):
        down = behavior["scaleDown"]
        assert down["policies"] == [
            {"type": "Pods", "value": 1, "periodSeconds": VALUES["terminationGracePeriodSeconds"]}
        ]
        assert down["stabilizationWindowSeconds"] == VALUES["autoscaling"]["scaleDownSeconds"]


def test_the_autoscaler_goes_by_calls_and_by_cpu() -> None:
    calls, cpu = named("scaled-by-hpa").one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert calls["pods"]["metric"]["name"] == "bridge_calls"
    assert calls["pods"]["target"] == {"type": "AverageValue", "averageValue": "300"}  # 60 % of 500
    assert cpu["resource"]["target"]["averageUtilization"] == VALUES["autoscaling"]["cpuPercent"]
    alone = Rendered(*REDIS, *with_options("autoscaling.by=hpa")).one("HorizontalPodAutoscaler")
    assert [each["type"] for each in alone["spec"]["metrics"]] == ["Resource"]


def test_nobody_scales_unless_asked() -> None:
    rendered = Rendered(*REDIS)
    assert not rendered.all("HorizontalPodAutoscaler") + rendered.all("ScaledObject")
