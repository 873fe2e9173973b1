"""Helm's commands as the pages show them, run as written; `template` stands in for what would need a cluster."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.docs.commands import lines_of
from tests.docs.pages import ROOT, Block, blocks
from tests.packaging.chart import CHART, KUBERNETES, helm
from tests.packaging.dockerfile import read_stages

pytestmark = pytest.mark.packaging

VALUES = re.compile(r"# ([a-z-]*values\.yaml)\n")
COMMANDS = [
    pytest.param(block, line, id=f"{block}: {' '.join(line.split()[:4])}")
    for block in blocks("sh")
    for line in lines_of(block.text)
    if line.startswith("helm ")
]


def shown_values(page: str) -> dict[str, Block]:
    """The values files of a page, by name."""
    found = {}
    for block in blocks("yaml"):
        if block.page == page and (name := VALUES.match(block.text)):
            found[name[1]] = block
    return found


@pytest.mark.parametrize(("block", "line"), COMMANDS)
def test_a_command_of_the_pages_renders(block: Block, line: str, tmp_path: Path) -> None:
    _, verb, *rest = shlex.split(line)
    for name, values in shown_values(block.page).items():
        (tmp_path / name).write_text(values.text, encoding="utf-8")
    (tmp_path / "helm").symlink_to(CHART)
    if verb == "uninstall":
        assert len(rest) == 1
        return
    assert verb in ("install", "upgrade")
    said = helm(
        "template", *[each for each in rest if each != "--install"], "--kube-version", KUBERNETES, directory=tmp_path
    )
    assert said.code == 0, said.err
    assert "kind: StatefulSet" in said.out


def test_every_values_file_that_is_shown_is_used() -> None:
    for page in {block.page for block in blocks("yaml")}:
        used = "".join(block.text for block in blocks("sh") if block.page == page)
        assert all(name in used for name in shown_values(page))


def test_the_readme_runs_the_image_as_it_can_be_run() -> None:
    """What the commands leave writable is what the image writes to, and ports are opened under their own numbers."""
    final = read_stages(ROOT / "Dockerfile")[-1]
    runs = [line for block in blocks("sh") for line in lines_of(block.text) if line.startswith("docker run ")]
    assert len(runs) == 2
    for line in runs:
        assert "--read-only --tmpfs /tmp --volume sip-bridge:/data" in line
        assert final.last("VOLUME").words == ["/data"]
        for outside, inside in re.findall(r"--publish ([\d-]+):([\d-]+)/udp", line):
            assert outside == inside


def test_the_names_in_the_example_are_those_of_the_chart(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        shown_values("docs/kubernetes.md")["phones-values.yaml"].text, encoding="utf-8"
    )
    said = helm("template", "phones", CHART, "--kube-version", KUBERNETES, "--values", tmp_path / "values.yaml")
    names = {each["metadata"]["name"] for each in yaml.safe_load_all(said.out) if each}
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for shown in set(re.findall(r"phones-sip-bridge[a-z-]*", text)):
        assert shown.removesuffix("-") in names, shown
