"""Every leaf of the config: what is planned when it changes is what reads it, no stage too few and none too many.

The whole line runs once on a toy, and what each stage reads of its value is recorded. Then each leaf changes in turn.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import toy
from PIL import Image
from pydantic import BaseModel

from cliper import config, resources
from cliper.config import GivenFeatures, MadeFeatures, decides
from cliper.errors import ConfigError
from cliper.layout import At, Layout
from cliper.settings import HOW
from cliper.stages import STAGES
from cliper.variants import Variant

CHOOSES = ("name", "run.")  # leaves that say which jobs there are, and are in no stage's value
# what cannot change alone: fusion sa, its temperature and its one encoder go together; the run has one dataset
UNTRIED = {f"arms.cliper.{key}" for key in ("fusion", "image", "text")} | {"encoders.bridge.kind", "run.datasets"}


def toy_config(folder: Path) -> dict[str, Any]:
    """A complete config of a small run over all backbones, written out."""
    raw = copy.deepcopy(toy.shipped())
    sets, used = resources.read_yaml("prompts.yaml"), ("joined_fields", "as_described")
    raw["prompts"] = {
        name: {view: parts if "views" in parts else raw["prompt"] | parts for view, parts in sets[name].items()}
        for name in used
    }
    raw["prompts"]["as_described"]["brand"] = sets["as_described"]["brand"]  # takes the section prompt
    for view in ("title", "global"):
        raw["prompts"]["as_described"][view]["slice_prefix"] = "It is "
    raw |= toy.dataset(folder / "raw", image_folder=str(folder / "images"), min_rating=1)
    raw["datasets"]["toy"]["drop_items_without_metadata"] = False
    raw["run"] |= {"backbones": list(raw["backbones"]), "arms": ["vanilla", "cliper"]}
    raw["studies"] = {}
    raw["encoders"] = {name: raw["encoders"][name] for name in ("bridge", "minilm", "lite0")}
    cliper = {"image": "bridge", "text": "bridge", "missing_image": "default_image", "views": ["title", "global"]}
    raw["arms"] = {
        "vanilla": raw["arms"]["vanilla"] | {"d": 8},  # takes the section fuse
        "cliper": raw["fuse"] | raw["arms"]["cliper"] | cliper | {"d": 8},
        "content_free": {"d": 8},
    }
    raw["train"] |= {"max_epochs": 2, "device": "cpu", "weight_decay_on": "parameters"}  # which both behaviours have
    grid = {"grid": {"learning_rate": [0.001, 0.01], "n_layers": [1, 2]}, "draws": None}
    raw["search"] |= {"seed": 5, "rungs": [1], "keep": 0.6, "spaces": {"lightgcn": {"content_free": grid}}}
    raw["encode"] |= {"device": "cpu", "store": str(folder / "vectors")}
    return raw


def write_inputs(folder: Path) -> None:
    """Five users who each bought four of six items; item 5 has no picture and no field."""
    rows = [f"u{user},i{(user + step) % 6},5.0,{user * 10 + step}\n" for user in range(5) for step in range(4)]
    items = [
        f"{{'asin': 'i{i}', 'title': 'Thing {i}', 'brand': 'B', 'categories': [['Baby', 'Prams']], "
        f"'description': 'A &amp; b {i}'}}"
        for i in range(5)
    ]
    items.append("{'asin': 'i5'}")
    toy.write_raw(folder / "raw", "".join(rows), items)
    (folder / "images").mkdir()
    for i in range(5):
        Image.new("RGB", (40, 30), (40 * i, 0, 90)).save(folder / "images" / f"i{i}.png")


def models() -> list[type]:
    """Classes whose fields a stage may read."""
    found, todo = list[type](), [BaseModel]
    while todo:
        found += (children := todo.pop().__subclasses__())
        todo += children
    ours = [model for model in found if model.__module__.startswith("cliper.")]
    return [*ours, *(v for v in vars(decides).values() if is_dataclass(v)), MadeFeatures, GivenFeatures]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, set[tuple[str, str]]]]:
    """The config, and the fields that each stage has read."""
    folder = tmp_path_factory.mktemp("leaves")
    write_inputs(folder)
    raw = toy_config(folder)
    chosen = config.structure(raw, where="toy")
    layout, reads, active = Layout(chosen), {stage: set() for stage in STAGES}, list[str]()
    jobs = [*layout.jobs(), *(("tabulate", {"table": table}) for table in ("table1", "table2"))]
    for stage, names in jobs:
        layout.folder(stage, **names)  # keys of folders are made of all settings; no stage reads them

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        deciding = decides.deciding
        patched.setattr(decides, "deciding", lambda value: paused(active, deciding, value))  # train writes all of it
        for model in models():
            names_of = set(model.model_fields) if issubclass(model, BaseModel) else {f.name for f in fields(model)}
            patched.setattr(model, "__getattribute__", recorder(model, names_of, reads, active), raising=False)
        for stage, names in jobs:
            value, row = decides.BUILDERS[stage](chosen, **names), STAGES[stage]
            do = getattr(import_module(row.module), row.function)
            active.append(stage)
            do(value, At(layout, names))
            active.pop()
    return raw, reads


def paused(active: list[str], call: Any, value: Any) -> Any:
    stages, active[:] = active[:], []
    found = call(value)
    active[:] = stages
    return found


def recorder(model: type, names: set[str], reads: dict[str, set[tuple[str, str]]], active: list[str]) -> Any:
    """An attribute look-up that notes which field of a model the stage at work has read."""
    inherited = model.__getattribute__

    def read(self: Any, name: str) -> Any:
        if active and name in names:
            reads[active[-1]].add((type(self).__name__, name))
        return inherited(self, name)

    return read


def leaves(raw: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in raw.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*place, key))
        elif not isinstance(value, dict):
            yield (*place, key)


def other_values(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> Iterator[Any]:
    """Other valid values for a value."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (value + 1, value * 0.5, max(1, value - 1), 0.5)
        case None:
            yield from (2, 0.5, "other.json", ["other"])
        case str():
            yield from (name for name in known_values(raw, place, "nosuch") if name != value)
            yield from (f"{value}x", f"x{value}")
        case list():
            yield from (value[:-1], value[1:], [*value, 7], [*value, "other"], value[::-1])
            yield from ([name] for name in known_values(raw, place, ["nosuch"]))


def known_values(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> list[str]:
    """What a fault says that there may be in the place of an unknown value."""
    try:
        config.structure(changed(raw, place, value), where="toy")
    except ConfigError as error:
        known = re.search(r"known: ([^;]*)", str(error))
        return known[1].split(", ") if known else []
    return []


def changed(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(raw)
    section = found
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    return found


def another(raw: dict[str, Any], place: tuple[str, ...]) -> config.Config | None:
    """A valid config with another value in one place."""
    value = raw
    for key in place:
        value = value[key]
    for other in other_values(raw, place, value):
        if other != value:
            try:
                return config.structure(changed(raw, place, other), where="toy")
            except ConfigError:
                continue
    return None


def values(chosen: config.Config) -> dict[tuple[str, str], Any]:
    """Value of each job: stage and names -> value."""
    jobs = [*Layout(chosen).jobs(), *(("tabulate", {"table": table}) for table in ("table1", "table2"))]
    return {(stage, str(names)): decides.BUILDERS[stage](chosen, **names) for stage, names in jobs}


def differences(before: Any, after: Any, at: tuple[str, str, bool]) -> Iterator[tuple[str, str, bool]]:
    """Fields in which two values differ: class, field, whether it decides nothing."""
    if isinstance(before, Variant):
        before, after = before._asdict(), after._asdict()
    if type(before) is not type(after):
        yield at
    elif isinstance(before, BaseModel):
        for name, field in type(before).model_fields.items():
            how = at[2] or HOW in field.metadata
            yield from differences(getattr(before, name), getattr(after, name), (type(before).__name__, name, how))
    elif is_dataclass(before):
        hints = get_type_hints(type(before), include_extras=True)
        for name in hints:
            how = at[2] or HOW in getattr(hints[name], "__metadata__", ())
            yield from differences(getattr(before, name), getattr(after, name), (type(before).__name__, name, how))
    elif isinstance(before, dict) and before.keys() == after.keys():
        for key in before:
            yield from differences(before[key], after[key], at)
    elif before != after:
        yield at


def test_what_a_leaf_plans_is_what_reads_it(
    line: tuple[dict[str, Any], dict[str, set[tuple[str, str]]]], workdir: Path
) -> None:
    raw, reads = line
    before = values(config.structure(raw, where="toy"))
    faults, n_changed, untried = [], 0, set()
    for place in leaves(raw):
        leaf, chosen = ".".join(place), another(raw, place)
        if chosen is None:
            untried.add(leaf)
            continue
        after = values(chosen)
        if leaf.startswith(CHOOSES):
            assert leaf == "name" or after.keys() != before.keys() or after != before, leaf
            continue
        touched = False
        for job in before.keys() & after.keys():
            found = set(differences(before[job], after[job], ("", "", False)))
            touched |= bool(found)
            planned = decides.deciding(before[job]) != decides.deciding(after[job])
            read = any((model, field) in reads[job[0]] and not how for model, field, how in found)
            if planned != read:
                faults.append(f"{leaf}: {job[0]} is {'' if planned else 'not '}planned, but {sorted(found)}")
        if not touched and after.keys() == before.keys():
            faults.append(f"{leaf}: no stage is given it")
        n_changed += 1
    assert not faults, "\n".join(sorted(set(faults)))
    assert n_changed > 100
    assert untried == UNTRIED, sorted(untried)


@pytest.mark.parametrize(
    ("file", "stage", "names"),
    [
        ("noise_values.txt", "prompt", {"dataset": "toy", "prompts": "as_described", "view": "title"}),
        ("placeholders.txt", "crawl", {"dataset": "toy"}),
        ("encoders.json", "weights", {"encoder": "bridge"}),
        ("encoders.json", "weights", {"encoder": "minilm"}),
        ("default_image.png", "encode-default-image", {"encoder": "bridge"}),
        ("paper/table1.csv", "tabulate", {"table": "table1"}),
        ("paper/table2.csv", "tabulate", {"table": "table2"}),
        ("published.csv", "tabulate", {"table": "table2"}),
    ],
)
def test_a_file_of_the_package_that_decides_results_is_planned_by(
    file: str, stage: str, names: dict[str, str], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, read = config.structure(toy_config(workdir), where="toy"), resources.read_bytes
    before = decides.deciding(decides.BUILDERS[stage](chosen, **names))
    edited = read(file).replace(b'"0.1.0"', b'"0.2.0"') if file.endswith(".json") else read(file) + b"\nmore"
    monkeypatch.setattr(resources, "read_bytes", lambda name: edited if name == file else read(name))
    assert decides.deciding(decides.BUILDERS[stage](chosen, **names)) != before
