"""Where settings come from: the file, the environment, the command line. Each knows its values and where they stand.

Refuses to know what the keys mean: that is `bridge.config`. What is read here is nested plain data; `place` says
afterwards where a wrong value was written, in the words of whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import yaml

from bridge.errors import ConfigurationError

PREFIX = "BRIDGE_"
DEPTH_MAX = 20  # an alias that contains itself would be read for ever

V = TypeVar("V")
KeyPath: TypeAlias = tuple[str | int, ...]  # ("sip", "listen", 0, "uri")

# Variables that are not ours although they bear our name: what this project uses outside the configuration, and what
# Kubernetes sets in every pod for a Service called `bridge` or `bridge-…` (the "Docker links" form).
_NOT_KEYS = frozenset({"BRIDGE_CONFIG"})
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)


class Source(Protocol):
    """One origin of settings."""

    values: dict[str, Any]

    def place(self, path: KeyPath) -> str | None:
        """Where this source says something about `path`, for a person; None where it is silent."""
        ...

    def spelling(self, path: KeyPath) -> str:
        """How `path` would be written in this source."""
        ...


def dotted(path: KeyPath) -> str:
    """`("sip", "listen", 0, "uri")` as `sip.listen[0].uri`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def source_of(path: KeyPath, sources: Sequence[Source]) -> Source | None:
    """The source whose word about `path` counted; `sources` come strongest first. None: nobody said anything.

    Sections are merged key by key and everything else is replaced whole, so the first source that has a plain value or
    a list anywhere along the path has decided it.
    """
    for source in sources:
        value: Any = source.values
        for step in path:
            if not isinstance(value, dict):
                return source
            if step not in value:
                break
            value = value[step]
        else:
            return source
    return next((source for source in sources if source.place(path) is not None), None)


class FileSource:
    """A YAML file. Relative paths of `{file: ...}` are relative to it, not to where the command was started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[KeyPath, int] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot read it: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}") from error
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigurationError(f"{path}:{line}: not YAML: {error.problem or error.context}") from error
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path}: not YAML: {error}") from error
        values = {} if root is None else self._read(root, ())
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise ConfigurationError(f"{path}:1: expected `key: value` lines, such as `sip: {{listen: ...}}`")
        self.values: dict[str, Any] = values

    def place(self, path: KeyPath) -> str | None:
        line = _deepest(self._lines, path)
        return None if line is None else f"{self.path}:{line}"

    def spelling(self, path: KeyPath) -> str:
        return dotted(path)

    def _read(self, node: yaml.Node, path: KeyPath) -> Any:
        if len(path) > DEPTH_MAX:
            raise ConfigurationError(f"{self.path}:{node.start_mark.line + 1}: nested deeper than {DEPTH_MAX} levels")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigurationError(f"{self.path}:{node.start_mark.line + 1}: {dotted(path)}: {error}") from error

    def _read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            # A bare `off:` or `10:` is no string to YAML; a key is what was written.
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(f"{self.path}:{line}: {dotted(path)}: a key must be a word")
            key = str(key_node.value)
            if key in values:
                raise ConfigurationError(f"{self.path}:{line}: {dotted((*path, key))}: given twice")
            self._lines[(*path, key)] = line
            values[key] = self._read(value_node, (*path, key))
        if list(values) == ["file"] and isinstance(values["file"], str):
            values["file"] = str(self.path.parent / Path(values["file"]).expanduser())
        return values


class EnvironmentSource:
    """`BRIDGE_SIP__DOMAINS=…`: nested by two underscores. An empty variable counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.values: dict[str, Any] = {}
        self._names: dict[KeyPath, str] = {}
        for name in sorted(environ):  # a section as a whole comes before its keys, which then refine it
            if not name.startswith(PREFIX) or not environ[name] or _is_foreign(name):
                continue
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            _put(self.values, path, read_text(environ[name], name), name)
            self._names[path] = name

    def place(self, path: KeyPath) -> str | None:
        return _deepest(self._names, path)

    def spelling(self, path: KeyPath) -> str:
        return PREFIX + "__".join(str(step) for step in path).upper()


class CommandLineSource:
    """Options named like the keys: `--sip.domains example.com`. Shorthands say for themselves what they were called."""

    def __init__(self, options: Mapping[KeyPath, tuple[str, Sequence[str]]]) -> None:
        self.values: dict[str, Any] = {}
        self._names: dict[KeyPath, str] = {}
        for path, (name, texts) in options.items():
            value = read_text(texts[0], name) if len(texts) == 1 else list(texts)
            _put(self.values, path, value, name)
            self._names[path] = name

    def place(self, path: KeyPath) -> str | None:
        return _deepest(self._names, path)

    def spelling(self, path: KeyPath) -> str:
        return "--" + dotted(path)


def read_text(text: str, name: str) -> Any:
    """A variable's or an option's value: a list or a mapping in YAML's flow style (JSON is), else the text itself."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name}: neither JSON nor YAML: {' '.join(str(error).split())}") from error


def _is_foreign(name: str) -> bool:
    return name in _NOT_KEYS or ("__" not in name and _SERVICE_LINK.search(name) is not None)


def _put(values: dict[str, Any], path: KeyPath, value: Any, name: str) -> None:
    for step in path[:-1]:
        values = values.setdefault(str(step), {})
        if not isinstance(values, dict):
            raise ConfigurationError(f"{name}: {step} was given a plain value too; it has keys of its own")
    values[str(path[-1])] = value


def _deepest(places: Mapping[KeyPath, V], path: KeyPath) -> V | None:
    """The place of `path`, or of the closest thing around it, or else in it, that this source has written."""
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            return places[path[:length]]
    return next((place for written, place in places.items() if written[: len(path)] == path), None)
