"""The files in cliper/data: words, published numbers, pins of weights. Imports little: planning a run reads them.

`line/` has what a run needs of a checkout (Snakefile, config.yaml and their folders), so that a wheel has it too.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

from cliper.errors import ConfigError, unknown

try:
    from yaml import CSafeLoader as SafeLoader  # libyaml's: eight times as fast
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

DEEPEST = 50  # levels of YAML; our config has 7


class _Loader(Composer, SafeLoader):
    """The safe loader, but a repeated key is refused, and levels without end, which would fill the stack of libyaml."""

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        SafeLoader.__init__(self, text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _at(self.peek_event(), f"more than {DEEPEST} levels; see config.yaml for the form of a config")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node, known = super().compose_mapping_node(anchor), set[Any]()
        for key, _ in node.value:
            if (name := (key.tag, str(key.value))) in known:
                raise _at(key, f"the key {key.value!r} is repeated; keep one")
            known.add(name)
        return node


def _at(place: Any, fault: str) -> ConfigError:
    return ConfigError(f"line {place.start_mark.line + 1}: {fault}")


def parse_yaml(text: str) -> Any:
    """What a YAML text says. Raises ConfigError naming a line, yaml.YAMLError, or what a value's own parser raises."""
    return yaml.load(text, _Loader)  # noqa: S506 - a safe one


def place(name: str) -> Path:
    """Where a file of cliper/data is installed, by its path there."""
    return Path(str(files("cliper").joinpath("data", name)))


def read_bytes(name: str) -> bytes:
    """A file of cliper/data, by its path there."""
    return place(name).read_bytes()


def sha256(name: str) -> str:
    """Hash of its bytes, in hex."""
    return hashlib.sha256(read_bytes(name)).hexdigest()


def read_text(name: str) -> str:
    """A file of cliper/data as text, by its path there."""
    return read_bytes(name).decode("utf-8")


def read_yaml(name: str) -> Any:
    """What a YAML or JSON file holds."""
    return parse_yaml(read_text(name))


def read_csv(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file, each by the names of its heading."""
    return list(csv.DictReader(read_text(name).splitlines()))


def read_lines(name: str) -> list[str]:
    """Lines of a text file, without empty lines and comments."""
    return [line for line in read_text(name).splitlines() if line and not line.startswith("#")]


def noise_values() -> list[str]:
    """Values of the metadata that mean "no value", in lower case."""
    return read_lines("noise_values.txt")


def placeholders() -> list[str]:
    """Parts of URLs that shops use for "no image"."""
    return read_lines("placeholders.txt")


def packages(models: Collection[str]) -> dict[str, dict[str, str]]:
    """Rows of encoders.json, by the model whose weights they pin. Raises ConfigError for one that is not there."""
    known: dict[str, dict[str, str]] = read_yaml("encoders.json")
    for model in models:
        if model not in known:
            raise ConfigError(unknown("model in cliper/data/encoders.json", model, known))
    return {model: known[model] for model in models}
