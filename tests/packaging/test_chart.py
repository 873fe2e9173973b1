"""The chart as Helm and Kubernetes see it: clean, valid for old and new clusters, strict about its values, clear when it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bridge import __version__
from bridge.config import Config
from tests.packaging.chart import (
    CHART,
    KUBERNETES,
    Rendered,
    helm,
    refused,
    scenario,
    scenarios,
    template,
    with_options,
)
from tests.packaging.generated import OWNED, SCHEMA, config_schema, renewed

pytestmark = pytest.mark.packaging

OLDEST = "1.27.0"  # Chart.yaml's
NEWEST = kubernetes_validate.latest_version()
CUSTOM = {
    "Certificate",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
}  # operators', of which Kubernetes knows nothing
REDIS = with_options("redis.url=redis://redis:6379/0")


def test_the_chart_and_what_it_runs_are_one_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={OLDEST}-0"


@scenarios
def test_lint(values: Path) -> None:
    said = helm("lint", CHART, "--strict", "--kube-version", KUBERNETES, "--values", values)
    assert said.code == 0, said.out + said.err


@scenarios
@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_kubernetes_would_take_it(values: Path, kubernetes: str) -> None:
    for manifest in scenario(values, kubernetes).manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, kubernetes.rpartition(".")[0], strict=True)


def test_what_kubernetes_would_not_take_is_noticed() -> None:
    manifest = Rendered(*REDIS).stateful_set
    manifest["spec"]["podManagementPolice"] = "Parallel"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES.rpartition(".")[0], strict=True)


def test_an_older_kubernetes_is_refused() -> None:
    said = template(*REDIS, kubernetes="1.26.0")
    assert "chart requires kubeVersion" in said.err


# Refusals


def test_without_a_redis_it_says_what_to_give() -> None:
    said = refused()
    for way in ("redis.url=redis://", "existingSecret=NAME and redis.secretKey=KEY", "trialRedis.enabled=true"):
        assert way in said
    assert "Rendered" not in said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["trialRedis.enabled=true"], "trialRedis.enabled and redis.url or redis.secretKey were given"),
        (["redis.secretKey=url"], "redis-url has a value and a secretKey"),
        (["clusterSecret.secretKey=key"], "cluster-secret has the secretKey key, and there is no existingSecret"),
        (["replicas=2", "network.podAddresses={192.0.2.1}"], "1 addresses for 2 pods"),
        (["autoscaling.by=hpa", "network.podAddresses={192.0.2.1,192.0.2.2}"], "2 addresses for 4 pods"),
        (["network.podAddresses={192.0.2.1,192.0.2.2}"], "goes to whatever node is free"),
        (["network.mode=service-per-pod"], "network.podAddresses={203.0.113.10}"),
        (["autoscaling.by=hpa", "autoscaling.minReplicas=5"], "minReplicas is 5, and maxReplicas 4"),
        (["autoscaling.by=hpa", "autoscaling.cpuPercent=0"], "nothing to go by"),
        (["autoscaling.by=keda"], "give autoscaling.prometheusUrl"),
        (["networkPolicy.enabled=true"], "does nothing for pods with hostNetwork"),
        (["callsPerPod=30000"], "end at 79999"),
        (["transports={tls}"], "tls.secretName=NAME"),
        (["tls.secretName=mine"], "add tls to transports"),
        (["transports={tls}", "tls.secretName=mine", "tls.certManager.enabled=true"], "whose certificate shall it be"),
        (["transports={tls}", "tls.certManager.enabled=true"], "who signs: tls.certManager.issuerRef.name"),
        (
            ["transports={tls}", "tls.certManager.enabled=true", "tls.certManager.issuerRef.name=ca"],
            "tls.certManager.dnsNames={sip.example.com}",
        ),
        (["transports={tcp,tls}", "tls.secretName=mine", "ports.sips=5060"], "at least 1 apart"),
        (
            [
                "transports={udp,tls}",
                "tls.secretName=mine",
                "network.mode=service-per-pod",
                "network.service.type=NodePort",
                "replicas=3",
                "ports.sip=30062",
                "ports.sips=30060",
            ],
            "at least 3 apart",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: list[str], says: str) -> None:
    assert says in refused(*REDIS, *with_options(*values))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("replicas=0", "/replicas"),
        ("network.mode=bridge", "/network/mode"),
        ("network.podAddresses={sip.example.com}", "/network/podAddresses/0"),
        ("transports={sctp}", "/transports/0"),
        ("ports.mediaFirst=20001", "/ports/mediaFirst"),
        ("tls.certManager.dnsNames={*.example.com}", "/tls/certManager/dnsNames/0"),
        ("tls.certManager.duration=90d", "/tls/certManager/duration"),
        ("config.sip.tls.verify_client=yes", "/config/sip/tls/verify_client"),
        ("redis.url=embedded://", "/redis/url"),
        ("redis.url=http://redis", "/redis/url"),
        ("webhookSecrets[0].value=secret", "/webhookSecrets/0"),
        ("apiKeys[0].name=ops", "missing property 'scopes'"),
        ("apiKeys[0].scopes={root}", "/apiKeys/0/scopes/0"),
        ("config.media.latching=loose", "/config/media/latching"),
        ("config.media.latch=strict", "additional properties 'latch' not allowed"),
        ("config.limits.max_calls=0", "/config/limits/max_calls"),
        ("config.applications[0].webhooks[0].secrets[0]=whsec_AAAA", "/config/applications/0/webhooks/0/secrets/0"),
        ("podDisruptionBudget.maxUnavailable=some", "/podDisruptionBudget/maxUnavailable"),
        ("terminationGracePeriodSeconds=20", "/terminationGracePeriodSeconds"),
        ("autoscaling.by=calls", "/autoscaling/by"),
        ("autoscaling.prometheusUrl=prometheus:9090", "/autoscaling/prometheusUrl"),
        ("resources.limit.cpu=1", "additional properties 'limit' not allowed"),
    ],
)
def test_the_schema_refuses(value: str, says: str) -> None:
    said = refused(*REDIS, *with_options(value))
    assert "don't meet the specifications of the schema" in said
    assert says in said


def test_a_password_that_no_file_can_stand_for_has_no_place() -> None:
    """It would lie in a ConfigMap."""
    target = "to.uri=sip:a@b,to.auth.username=a,to.auth.password=b".replace(
        "to.", "config.applications[0].fallback[0].to."
    )
    said = refused(*REDIS, *with_options("config.applications[0].fallback[0].action=dial", target))
    assert "/to/auth/password': false schema" in said


@pytest.mark.parametrize("key", OWNED)
def test_what_the_chart_writes_itself_cannot_be_given_twice(key: str) -> None:
    assert f"additional properties '{key.rpartition('.')[2]}' not allowed" in refused(
        *REDIS, *with_options(f"config.{key}=x")
    )


# The schema


def test_the_schema_is_as_the_code_would_write_it() -> None:
    """`make docs` writes it anew."""
    text = SCHEMA.read_text(encoding="utf-8")
    assert renewed(text) == text


def test_no_secret_has_a_place_in_config() -> None:
    assert '"format": "password"' in json.dumps(Config.model_json_schema())
    assert '"format": "password"' not in json.dumps(config_schema())


def test_every_value_has_a_default_and_a_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert set(_keys(values)) == set(_properties(schema)) - {"global"}


def _keys(values: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{at}{name}"
        if isinstance(value, dict) and f"{at}{name}" != "config" and name != "resources":
            yield from _keys(value, f"{at}{name}.")


def _properties(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in schema["properties"].items():
        yield f"{at}{name}"
        if "properties" in value and f"{at}{name}" != "config" and name != "resources":
            assert value["additionalProperties"] is False, name
            yield from _properties(value, f"{at}{name}.")


def test_every_value_is_told_above_itself() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    lines = ["", *text.splitlines()]
    for name, line in _places(yaml.compose(text)):
        assert lines[line - 1].lstrip().startswith("#"), f"{name} in line {line}"


def _places(node: yaml.MappingNode, at: str = "") -> Iterator[tuple[str, int]]:
    """Every value and the line of its key. A section whose values are told one by one need not be told itself."""
    for key, value in node.value:
        name, line = f"{at}{key.value}", key.start_mark.line + 1
        section = isinstance(value, yaml.MappingNode) and not value.flow_style
        if section and name != "config" and key.value != "resources":
            yield from _places(value, f"{name}.")
        else:
            yield name, line


# What Helm says afterwards


def notes(tmp_path: Path, *arguments: str | Path) -> str:
    """NOTES.txt, which `helm template` does not show, smuggled out as a ConfigMap."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    (chart / "notes").write_text((chart / "templates/NOTES.txt").read_text(encoding="utf-8"), encoding="utf-8")
    (chart / "templates/notes.yaml").write_text(
        'kind: Notes\nmetadata: {name: notes}\ntext: {{ tpl (.Files.Get "notes") . | quote }}\n', encoding="utf-8"
    )
    text: str = Rendered(*arguments, chart=chart).one("Notes")["text"]
    return text


@scenarios
def test_the_notes_say_where_to_call(values: Path, tmp_path: Path) -> None:
    said = notes(tmp_path, "--values", values)
    assert "kubectl -n voice rollout status statefulset/phones-sip-bridge" in said
    assert "sip:100@" in said
    assert "%!" not in said


def test_the_notes_say_where_tls_is_spoken(tmp_path: Path) -> None:
    alone = notes(tmp_path / "alone", "--values", CHART / "ci" / "tls-from-cert-manager-values.yaml")
    assert "sip:100@NODE:5061;transport=tls" in alone
    assert "5060" not in alone
    assert "kubectl -n voice get certificate phones-sip-bridge" in alone
    beside = notes(tmp_path / "beside", "--values", CHART / "ci" / "tls-from-a-secret-values.yaml")
    assert "sip:100@NODE:30061 " in beside
    assert "TCP port 30070, and see the certificate of the Secret sip-certificate" in beside


def test_the_notes_warn(tmp_path: Path) -> None:
    bare = notes(tmp_path / "bare", *with_options("trialRedis.enabled=true", "replicas=1"))
    assert re.search(r"[A-Z]{4,} [A-Z]{2,} ", bare)
    assert "THERE IS NO APPLICATION" in bare
    assert "THERE MAY BE ONE POD ALONE" in bare
    assert "THE REDIS IS FOR A TRIAL" in bare
    assert "grep whsec_" in bare
    assert "without a key for everybody on its node" in bare
    given = notes(tmp_path / "given", "--values", CHART / "ci" / "host-network-values.yaml")
    assert not re.search(r"[A-Z]{4,} [A-Z]{2,} ", given)
    assert "http://phones-sip-bridge-api.voice:8080/v1/calls" in given
    assert "A pod that stays Pending has found no node of its own" in given
    assert "TCP port 7070" in given
