"""Settings of single cells: section `tuned`, and how flat keys change the settings of a backbone, d and training.

A flat key is a field of `train`, `d`, or a setting of the backbone. What a search selects is written in this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from cliper.config.features import BareArm
from cliper.config.models import Train
from cliper.config.studies import base_of
from cliper.errors import ConfigError, unknown
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Derived, Name, faults
from cliper.variants import Variant

M = TypeVar("M", bound=BaseModel)
ANY = "any"
ONE_FOR_ALL = ("behaviour", "threads", "device")  # neighbours are found by the behaviour too; the others are machines'
Flat = Mapping[str, Any]
Tuned = dict[Derived, dict[Name, dict[Derived, dict[str, Any]]]]  # dataset or any -> backbone or any -> arm or any


class CellSettings(NamedTuple):
    """What decides a cell in addition to its data."""

    backbone: Variant[BackboneSettings]
    d: int
    train: Train


def tune(
    given: CellSettings, tuned: Tuned, *, dataset: str, backbone: str, lineage: Mapping[str, bool]
) -> CellSettings:
    """Change the settings of a cell by all that is said for it; what is said for `any` comes first.

    What is said for a dataset holds for those derived from it, too.

    lineage  the cell's arm, the one that it extends, and so on -> whether the cell's arm has another d than that one.
             The first of them of which something is said counts; such a cell keeps its d
    """
    for datasets in dict.fromkeys((ANY, base_of(dataset), dataset)):
        for backbones in (ANY, backbone):
            said = tuned.get(datasets, {}).get(backbones, {})
            given = change(given, said.get(ANY, {}))
            if nearest := next((name for name in lineage if name in said), None):
                given = change(given, without_d(said[nearest]) if lineage[nearest] else said[nearest])
    return given


def without_d(flat: Flat) -> Flat:
    """The other settings."""
    return {key: value for key, value in flat.items() if key != "d"}


def change(given: CellSettings, flat: Flat) -> CellSettings:
    """Change settings by flat keys. Raises ConfigError if a key is unknown or a value is not allowed."""
    own, backbone = given.backbone.settings, dict[str, Any]()
    train, d = dict[str, Any](), given.d
    for key, value in flat.items():
        if key in ONE_FOR_ALL:
            raise ConfigError(f"{key}: it is one for all cells; set it in train")
        if key == "d":
            d = _checked(BareArm, {"d": value}).d
        elif key in Train.model_fields:
            train[key] = value
        elif key in type(own).model_fields:
            backbone[key] = value
        else:
            raise ConfigError(unknown("setting of a cell", key, ["d", *Train.model_fields, *type(own).model_fields]))
    settings = _checked(type(own), {**dict(own), **backbone}) if backbone else own
    trained = _checked(Train, {**dict(given.train), **train}) if train else given.train
    return CellSettings(given.backbone._replace(settings=settings), d, trained)


def _checked(model: type[M], values: Flat) -> M:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(f"{place}: {text}" for place, text in faults(error))) from None
