"""The parts of the chart's schema that the code knows better: `config`, and the transports. `make docs` writes them anew.

What stands under `config` in the chart's values becomes the service's file, so its schema is that of the file, without the
keys that the chart writes itself. A secret is not written there at all, for it would lie in a ConfigMap: only `{file: path}` is.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bridge.config import Config, Listener
from bridge.settings.values import Secret
from tests.docs.pages import ROOT

SCHEMA = ROOT / "helm" / "values.schema.json"
TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")

# What the chart makes out of other values: a second way to say it would be one that is overruled.
OWNED = (
    "node_id",
    "data_dir",
    "sip.listen",
    "sip.advertise",
    "sip.tls.certificate",
    "sip.tls.key",
    "sip.tls.ca",
    "media.ports",
    "media.advertise",
    "store.url",
    "api",
    "health",
    "cluster",
    "webhooks.secrets",
)
FILE = {
    "type": "object",
    "description": "a secret: the path of a file that has it",
    "additionalProperties": False,
    "required": ["file"],
    "properties": {"file": {"type": "string", "minLength": 1}},
}

# What the configuration reads from a file if it is told to. A password in an action is another type, and is not read.
SECRET = TypeAdapter(Secret).json_schema()


def transports() -> list[str]:
    """What this release can listen on."""
    return [name for name in TRANSPORTS if _is_accepted(f"{name}:0.0.0.0:5060")]


def _is_accepted(uri: str) -> bool:
    try:
        TypeAdapter(Listener).validate_python(uri)
    except ValidationError:
        return False
    return True


def config_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of `config`, and the definitions that it refers to."""
    whole = _plain(Config.model_json_schema())
    definitions = whole.pop("$defs")
    for key in OWNED:
        *sections, name = key.split(".")
        section = whole
        for step in sections:
            section = definitions[section["properties"][step]["$ref"].rpartition("/")[2]]
        del section["properties"][name]
    used: dict[str, Any] = {}
    _collect(whole, definitions, used)
    whole["description"] = (
        "the service's configuration as docs/configuration.md has it, without what the chart writes itself"
    )
    return whole, dict(sorted(used.items()))


def _plain(node: Any) -> Any:
    """Without titles and defaults, which say nothing new; a secret by its file, or not at all where no file can stand for it."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "password":
        return FILE if SECRET.items() <= node.items() else False
    return {
        name: {key: _plain(each) for key, each in value.items()} if name in ("properties", "$defs") else _plain(value)
        for name, value in node.items()
        if name not in ("title", "default")
    }


def _collect(node: Any, definitions: dict[str, Any], used: dict[str, Any]) -> None:
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(each, str) and each.startswith("#/$defs/"):
            name = each.removeprefix("#/$defs/")
            if name not in used:
                used[name] = definitions[name]
                _collect(definitions[name], definitions, used)
        else:
            _collect(each, definitions, used)


def renewed(text: str) -> str:
    """The schema's text with its generated parts as they should be."""
    schema = json.loads(text)
    schema["properties"]["config"], schema["$defs"] = config_schema()
    schema["properties"]["transports"]["items"]["enum"] = transports()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema anew."""
    text = SCHEMA.read_text(encoding="utf-8")
    if (new := renewed(text)) != text:
        SCHEMA.write_text(new, encoding="utf-8")
        print(f"{SCHEMA} written")


if __name__ == "__main__":
    main()
