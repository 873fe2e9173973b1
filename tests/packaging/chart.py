"""The chart, rendered by Helm itself, and the objects that come out of it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

CHART = ROOT / "helm"
SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "phones", "voice"
KUBERNETES = "1.31.0"  # a Helm that was built without a word about it takes 1.20
HELM_S = 60.0

Manifest = dict[str, Any]
scenarios = pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))


def find_helm() -> str:
    """The path of Helm; without it the test is skipped, and with CI=true it fails."""
    found = shutil.which("helm", path=f"{ROOT / '.tools' / 'bin'}:{os.environ.get('PATH', '')}")
    if found is not None:
        return found
    text = "helm is missing: make system-deps builds it, where there is Go"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text, allow_module_level=True)


@dataclass(frozen=True)
class Said:
    """What Helm answered."""

    code: int
    out: str
    err: str


def helm(*arguments: str | Path, directory: Path = ROOT) -> Said:
    """Run it, without anybody's clusters and caches in its way."""
    done = subprocess.run(
        [find_helm(), *map(str, arguments)],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=HELM_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def template(*arguments: str | Path, chart: Path = CHART, kubernetes: str = KUBERNETES) -> Said:
    """`helm template` with these options."""
    return helm("template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", kubernetes, *arguments)


def refused(*arguments: str | Path) -> str:
    """What Helm says when it must not render."""
    said = template(*arguments)
    assert said.code != 0, said.out
    return said.err


class Rendered:
    """Every object of one rendering."""

    def __init__(self, *arguments: str | Path, chart: Path = CHART, kubernetes: str = KUBERNETES) -> None:
        said = template(*arguments, chart=chart, kubernetes=kubernetes)
        assert said.code == 0, said.err
        self.text = said.out
        self.manifests: list[Manifest] = [each for each in yaml.load_all(said.out, yaml.CSafeLoader) if each]

    def all(self, kind: str) -> list[Manifest]:
        return [each for each in self.manifests if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Manifest:
        found = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
        return found[0]

    @property
    def stateful_set(self) -> Manifest:
        return self.one("StatefulSet")

    @property
    def name(self) -> str:
        """Of the release's objects."""
        name: str = self.stateful_set["metadata"]["name"]
        return name

    @property
    def pod(self) -> Manifest:
        """The spec of the bridge's pods."""
        spec: Manifest = self.stateful_set["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["containers"]
        found: Manifest = container
        return found

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Every pod spec there is, of the bridge and of the trial Redis."""
        for each in self.all("StatefulSet") + self.all("Deployment"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]

    @property
    def files(self) -> dict[str, str]:
        """The service's file of each pod, by the pod's name."""
        data = self.one("ConfigMap", self.name)["data"]
        return {name.removesuffix(".yaml"): text for name, text in data.items()}

    def environ(self, pod: str, addresses: dict[str, str]) -> dict[str, str]:
        """The container's variables in this pod, with what the Downward API would say; one may name those before it."""
        fields = {"metadata.name": pod, **addresses}
        environ: dict[str, str] = {}
        for each in self.container["env"]:
            text = each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
            environ[each["name"]] = re.sub(r"\$\(([A-Z_]+)\)", lambda found: environ[found[1]], text)
        return environ

    def secret_files(self, existing: dict[str, str]) -> dict[str, str]:
        """What lies in /etc/sip-bridge/secrets. `existing`: the operator's Secret."""
        found: dict[str, str] = {}
        for volume in self.pod["volumes"]:
            for source in volume.get("projected", {}).get("sources", ()):
                secret = source["secret"]
                if "items" in secret:
                    found |= {item["path"]: existing[item["key"]] for item in secret["items"]}
                else:
                    data = self.one("Secret", secret["name"])["data"]
                    found |= {name: base64.b64decode(value).decode() for name, value in data.items()}
        return found


@cache
def scenario(values: Path, kubernetes: str = KUBERNETES) -> Rendered:
    """One of `helm/ci`, rendered once; to be read only."""
    return Rendered("--values", values, kubernetes=kubernetes)


def with_options(*pairs: str) -> Sequence[str]:
    """`a=1` as `--set a=1`."""
    return [word for pair in pairs for word in ("--set", pair)]
