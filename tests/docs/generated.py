"""The parts of the pages that code knows better: keys, errors, metrics, an example. `make docs` writes them anew.

Each stands between `<!-- generated: name -->` and `<!-- end -->`; everything around them is written by hand.
"""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr

from bridge.config import Config, Key, keys
from bridge.contract import examples
from bridge.contract.problems import KINDS
from bridge.settings.complaints import key_paths
from bridge.telemetry.metrics import Metrics

DOCS = Path(__file__).parent.parent.parent / "docs"
COVERAGE = Path(__file__).with_name("rfc_coverage.toml")
STATES = ("done", "partly", "not")
_PART = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_WIDTH = 130


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def key_table() -> str:
    """Every key of the configuration, one table for each section."""
    secret = {path for path, field in key_paths(Config) if _holds_secret(field.annotation)}
    sections: dict[str, list[tuple[str, ...]]] = {}
    for key in keys():
        section = key.name.split(".")[0].removesuffix("[]") if "." in key.name else ""
        note = "; *secret*" if key.path in secret else ""
        sections.setdefault(section, []).append((f"`{key.name}`", _default(key), f"{key.description}{note}"))
    # A section's own list (`applications`) stands with its keys.
    for name in [name for name in sections if name]:
        own = [row for row in sections[""] if row[0] == f"`{name}`"]
        sections[""] = [row for row in sections[""] if row not in own]
        sections[name] = own + sections[name]
    return "\n".join(table(("key", "default", "meaning"), rows) for rows in sections.values())


def _default(key: Key) -> str:
    return f"`{key.default.lower() if key.default in ('True', 'False') else key.default}`" if key.default else ""


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(each) for each in get_args(annotation))


def problem_table() -> str:
    """Every code of a problem."""
    return table(
        ("status", "`code`", "what it means"),
        [(str(kind.status), f"`{code}`", kind.remedy) for code, kind in KINDS.items()],
    )


def metric_table() -> str:
    """Every metric of ours; the ones of the process itself are the library's."""
    rows: list[tuple[str, ...]] = []
    for metric in Metrics(endpoints=["desk"]).collect():
        if not metric.name.startswith("bridge_"):
            continue
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = dict.fromkeys(label for sample in metric.samples for label in sample.labels if label != "le")
        rows.append((f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation))
    return table(("metric", "type", "labels", "counts"), rows)


def call_example() -> str:
    """A whole Call."""
    return f"```json\n{compact(examples.SCHEMAS['Call'][0])}\n```\n"


def rfc_table() -> str:
    """What of each RFC is there, in the order of their numbers, and how much that is."""
    covered = tomllib.loads(COVERAGE.read_text(encoding="utf-8"))
    parts, counts = [], dict.fromkeys(STATES, 0)
    for number, rfc in sorted(covered.items(), key=lambda each: int(each[0])):
        rows: list[tuple[str, ...]] = []
        for section, what, state, code, tests, why in rfc["rows"]:
            counts[state] += 1
            found = ", ".join(f"`{named(each)}`" for each in code.split())
            shown = ", ".join(f"`{shown_by(each)}`" for each in tests.split())
            rows.append((section, what, f"**{state}**" + (f": {why}" if why else ""), found, shown))
        link = f"[RFC {number}](https://www.rfc-editor.org/rfc/rfc{number})"
        parts.append(f"## {link}: {rfc['title']}\n\n" + table(("section", "what", "state", "code", "tests"), rows))
    told = " · ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(covered)} RFCs, {sum(counts.values())} rows: {told}.\n\n" + "\n".join(parts)


def named(code: str) -> str:
    """A module, or a name in one. LookupError where there is no such thing."""
    module, _, name = code.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise LookupError(code) from error
    if name and not hasattr(found, name):
        raise LookupError(code)
    return code


def shown_by(place: str) -> str:
    """A file of tests, or one test in it. LookupError where there is no such thing."""
    file, _, name = place.partition("::")
    path = DOCS.parent / file
    if not path.exists() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
        raise LookupError(place)
    return place


def compact(value: Any, indent: int = 0, used: int = 0) -> str:
    """JSON with what fits into a line in one line; `used` characters of the first line are taken."""
    flat = json.dumps(value, ensure_ascii=False)
    if indent and indent + used + len(flat) < _WIDTH:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        named = [(json.dumps(name) + ": ", item) for name, item in value.items()]
        lines = [pad + name + compact(item, indent + 2, len(name)) for name, item in named]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + compact(item, indent + 2) for item in value) + "\n" + " " * indent + "]"


PARTS: dict[str, Callable[[], str]] = {
    "keys": key_table,
    "problems": problem_table,
    "metrics": metric_table,
    "call": call_example,
    "rfcs": rfc_table,
}


def renewed(text: str) -> str:
    """A page's text with its generated parts as they should be. KeyError for a part that nobody generates."""
    return _PART.sub(lambda found: f"{found[1]}{found[2]}\n{PARTS[found[1]]()}\n", text)


def main() -> None:
    """Write every page anew."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path} written")


if __name__ == "__main__":
    main()
