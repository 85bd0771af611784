"""Read config files: YAML laid over YAML, completed, checked; all faults at once, each with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cliper import resources
from cliper.config.contradictions import find_contradictions
from cliper.config.deriving import changed_arm, with_derived
from cliper.config.features import Fuse, Prompt, is_made
from cliper.config.whole import Config
from cliper.errors import ConfigError, unknown
from cliper.settings import Settings, faults

MOST = 1_000_000  # values of a config, each counted as often as aliases repeat it


def load(paths: list[Path], changes: Iterable[str] = ()) -> Config:
    """Read YAML files, lay each over the ones before it, check the result.

    changes  KEY=VALUE, laid over the files

    Raises ConfigError with all faults at once.
    """
    raw: dict[str, Any] = {}
    for path in paths:
        lay_over(raw, read(path))
    for change in changes:
        lay_over(raw, parse_change(change))
    return structure(raw, where=", ".join([*map(str, paths), *changes]))


def parse_change(text: str) -> dict[str, Any]:
    """Turn KEY=VALUE, of which VALUE is YAML, into a config that can be laid over another.

    A view's name stands for its template, which is taken as it is written. Raises ConfigError if it has another form.

    >>> parse_change("train.learning_rate=0.01")
    {'train': {'learning_rate': 0.01}}
    >>> parse_change("prompt.as_described.title=Title: ___.")
    {'prompts': {'as_described': {'title': {'prompt': 'Title: ___.'}}}}
    """
    place, is_there, written = text.partition("=")
    keys = place.strip().split(".")
    if not is_there or not all(keys):
        raise ConfigError(f"{text!r} is no change of the config; write KEY=VALUE, such as train.learning_rate=0.01")
    if keys[0] == "prompt" and len(keys) > 2:
        keys[0] = "prompts"
    if keys[0] == "prompts" and len(keys) == 3 and not written.startswith("{"):
        keys.append("prompt")
    is_template = keys[0] == "prompts" and keys[3:] == ["prompt"]
    try:
        value = resources.parse_yaml(written)
    except (ConfigError, yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        if not is_template:
            raise ConfigError(f"{place}: {written!r} is no YAML: {' '.join(str(error).split())}") from None
        value = written
    if is_template and not isinstance(value, str):
        value = written
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def structure(raw: Mapping[str, Any], *, where: str) -> Config:
    """Check a config and give it its types. Raises ConfigError with all faults at once."""
    _require_size(raw, where)
    if len(absent := [name for name in Config.model_fields if name not in raw]) > 1:
        advice = "a file of your own is laid over config.yaml: name that file before it"
        raise ConfigError(f"{where}: {', '.join(absent)} are missing; {advice}")
    try:
        complete, inherited = _complete(raw)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    bases = {name: _mapping(arm).get("extends") for name, arm in _mapping(raw.get("arms")).items()}
    try:
        config, found = with_derived(Config.model_validate(_as_tuples(complete)))
        found += find_contradictions(config)
        bases = {name: arm.extends for name, arm in config.arms.items()}
    except ValidationError as error:
        # report a fault of the section prompt or fuse there, not for each view or arm that inherits it
        found = [f"{place}: {text}" for place, text in faults(error) if not place.startswith(inherited)]
    if found:
        raise ConfigError("; ".join(f"{where}: {fault}" for fault in found if not _is_inherited(fault, found, bases)))
    return config


def _is_inherited(fault: str, found: Collection[str], bases: Mapping[str, str | None]) -> bool:
    """Whether an arm has a fault from the one that it extends, where it is reported."""
    return any(
        base is not None and fault.startswith(own := f"arms.{name}.") and f"arms.{base}.{fault[len(own) :]}" in found
        for name, base in bases.items()
    )


def write(raw: Mapping[str, Any], path: Path) -> None:
    """Write a merged config where the stages of a run read it."""
    from cliper import files

    files.write_text(path, yaml.safe_dump(_as_yaml(raw), sort_keys=False, allow_unicode=True))


def lay_over(base: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one config over another, in place: mappings merge, all else is replaced (as Snakemake does).

    >>> lay_over({"run": {"seeds": [1, 2]}, "name": "a"}, {"run": {"seeds": [3]}})
    {'run': {'seeds': [3]}, 'name': 'a'}
    """
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            lay_over(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value
    return base


def read(path: Path) -> dict[str, Any]:
    """Read one YAML file, unchecked. Raises ConfigError if it is none, or repeats a key."""
    try:
        raw = resources.parse_yaml(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except FileNotFoundError:
        shipped = resources.place("line/config.yaml")
        raise ConfigError(f"{path} does not exist; name one with --config, such as {shipped}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name a config file with --config") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # ValueError: bytes that are not UTF-8, or an impossible date; the last two: PyYAML's for such as `!!bool x`
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is no mapping of sections; see config.yaml for their names")
    _require_size(raw, str(path))
    return raw


def _require_size(raw: Any, where: str) -> None:
    """Raise ConfigError if a config is too deep or too large to be walked: aliases can make it endless."""
    todo, n_values = [(raw, 0)], 0
    while todo:
        value, depth = todo.pop()
        n_values += 1
        if depth > resources.DEEPEST or n_values > MOST:
            too_large = f"more than {resources.DEEPEST} levels or {MOST:,} values"
            raise ConfigError(f"{where}: {too_large}; see config.yaml for the form of a config")
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        todo.extend((each, depth + 1) for each in inner)


def _complete(raw: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Add to views and arms the keys that they inherit from other sections. Also returns the places of these keys."""
    complete = {**raw, "prompts": _prompt_sets(raw.get("prompts", {}))}
    inherited = list[str]()

    def inherit(place: str, own: Any, section: str, model: type[Settings]) -> Any:
        given, absent = _mapping(raw.get(section)), [key for key in model.model_fields if key not in own]
        inherited.extend(f"{place}.{key}" for key in absent)
        return {**{key: given[key] for key in absent if key in given}, **own}

    for name, views in _mapping(complete["prompts"]).items():
        for view, parts in _mapping(views).items():
            if isinstance(parts, Mapping) and "views" not in parts:
                views[view] = inherit(f"prompts.{name}.{view}", parts, "prompt", Prompt)
    if isinstance(arms := raw.get("arms"), Mapping):
        arms = {name: _extended(arms, name) for name in arms}
        complete["arms"] = {
            name: inherit(f"arms.{name}", arm, "fuse", Fuse) if is_made(arm) else arm for name, arm in arms.items()
        }
    return complete, tuple(inherited)


def _extended(arms: Mapping[str, Any], name: str, below: tuple[str, ...] = ()) -> Any:
    """An arm with the keys of the one that it extends. Raises ConfigError if that is unknown or extends this one."""
    arm = arms[name]
    base = _mapping(arm).get("extends")
    if not isinstance(base, str):  # what else it may be, the check of types reports
        return arm
    if not isinstance(arms.get(base), Mapping):
        raise ConfigError(f"arms.{name}.extends: {unknown('arm', base, map(str, arms))}")
    if base in (*below, name):
        raise ConfigError(f"arms.{name}.extends: {base} extends {name} itself; leave it out")
    return changed_arm(_extended(arms, base, (*below, name)), arm)


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty mapping: the check of types reports the fault."""
    return value if isinstance(value, Mapping) else {}


def _prompt_sets(own: Any) -> Any:
    return lay_over(read(resources.place("prompts.yaml")), own) if isinstance(own, Mapping) else own


def _as_yaml(value: Any) -> Any:
    """What YAML can write: Snakemake has mappings of its own."""
    if isinstance(value, Mapping):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, list | tuple) else value


def _as_tuples(value: Any) -> Any:
    """YAML's lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
