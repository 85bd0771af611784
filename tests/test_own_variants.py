"""A variant of one's own: a class in a file of the current folder."""

import copy
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
import toy
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from toy_backbones import BATCH, TOY, give, toy_features

from cliper import config
from cliper.config import decides
from cliper.errors import ConfigError
from cliper.models.backbones import BACKBONES
from cliper.models.training import checkpoint, fitting

BACKBONE = """
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from cliper.models.backbones.base import Backbone, Given, Triples, batch_rows, xavier_embeddings
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.losses import bpr


class MySettings(BackboneSettings):
    title: ClassVar[str] = "Mine"
    uses_features: ClassVar[bool] = True

    image_weight: float = Field(ge=0, description="weight of the projected image in an item's embedding")


class MyBackbone(Backbone):
    Settings: ClassVar[type[MySettings]] = MySettings

    def __init__(self, given: Given, settings: MySettings) -> None:
        super().__init__(given, settings)
        self.image_weight = settings.image_weight
        self.users = xavier_embeddings(given.interactions.n_users, given.d, given.generator)
        self.items = xavier_embeddings(given.interactions.n_items, given.d, given.generator)
        self.image = FeatureRows(given.features.image, is_trained=False, generator=given.generator)
        self.projection = linear(self.image.width, given.d, given.generator)

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.users, self.items + self.image_weight * self.projection(self.image())

    def loss(self, triples: Triples) -> Tensor:
        return bpr(*batch_rows(triples, *self.embed()))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)
"""
MINE = {"class": "my_backbone:MyBackbone", "image_weight": 0.5}


@pytest.fixture(autouse=True)
def own_file(workdir, monkeypatch) -> Iterator[Path]:
    """The example in the current folder; each test imports it for the first time."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (workdir / "my_backbone.py").write_text(BACKBONE, encoding="utf-8")
    yield workdir / "my_backbone.py"
    sys.modules.pop("my_backbone", None)


def build_mine():
    mine = BACKBONES.choose(MINE)
    return mine.load()(give(type(mine.settings)), mine.settings)


def test_a_backbone_of_ones_own_is_chosen_by_its_class_with_its_settings_and_what_it_reads():
    mine = BACKBONES.choose(MINE)
    assert (mine.kind, mine.settings.title, mine.settings.image_weight) == ("my_backbone:MyBackbone", "Mine", 0.5)
    uses = mine.settings
    assert (uses.uses_features, uses.uses_item_graph, uses.uses_user_graph) == (True, False, False)
    assert mine.as_mapping() == MINE


def test_a_backbone_of_ones_own_scores_by_its_equation_and_learns():
    model = build_mine()
    image = torch.tensor(toy_features().image)
    items = model.items + 0.5 * (image @ model.projection.weight.T + model.projection.bias)
    torch.testing.assert_close(model.score(*model.embed()), model.users @ items.T)
    model.loss(BATCH).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_backbone_of_ones_own_is_trained_and_ranked_as_ours(workdir):
    model, valid = build_mine(), pl.DataFrame({"user": [0, 1], "item": [2, 3]})
    settings = toy.settings(train={"max_epochs": 30, "patience": 30, "learning_rate": 0.05, "device": "cpu"}).train
    keep = checkpoint.Checkpoint(workdir / "checkpoint.pt", key="")
    history = fitting.fit(model, TOY, valid, settings, fitting.spawn_generators(0), keep)
    assert len(history) == 30 and history[-1].loss < history[0].loss
    ranking = fitting.rank(model, TOY, 5)
    assert [set(row) - {-1} for row in ranking.items.tolist()] == [{2, 3, 4}, {0, 2, 3, 4}, {0, 1, 4}]


def test_a_value_out_of_bounds_and_an_unknown_setting_are_both_reported():
    with pytest.raises(ValidationError) as refused:
        BACKBONES.choose(MINE | {"image_weight": -1.0, "k": 3})
    messages = [error["msg"] for error in refused.value.errors()]
    assert messages == ["-1.0 must be at least 0", "unknown key 'k'; known: image_weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("class MyBackbone(Backbone)", "class MyBackbone"), "must subclass cliper.models.backbones.base.Backbone"),
        (("class MyBackbone(", "class Other("), "unknown class of my_backbone 'MyBackbone'; known: .*Other"),
        (("title: ClassVar", "name: ClassVar"), "MySettings has no title; add title"),
        (("import ClassVar", "import ClassVr"), r"cannot be imported \(cannot import name 'ClassVr' [^;]*$"),
        (("class MyBackbone(", "class MyBackbone(("), r"cannot be imported \([^;]*my_backbone.py, line \d+\)\)$"),
        (("class MySettings(BackboneSettings)", "class MySettings"), "no settings of a backbone: subclass those of"),
    ],
)
def test_a_file_that_cannot_serve_is_refused_with_a_sentence(own_file, change, message):
    own_file.write_text(BACKBONE.replace(*change), encoding="utf-8")
    with pytest.raises(PydanticCustomError, match=message):
        BACKBONES.choose(MINE)


def test_what_a_backbone_of_ones_own_reads_undeclared_names_the_attribute_to_set(own_file):
    own_file.write_text(BACKBONE.replace("    uses_features: ClassVar[bool] = True\n", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match="reads features that it was not given; set uses_features = True"):
        build_mine()


def test_a_k_of_ones_own_that_counts_no_items_of_a_graph_is_let_be(own_file):
    own_file.write_text(
        BACKBONE.replace("    image_weight: float", "    k: str\n    image_weight: float"), encoding="utf-8"
    )
    assert toy.settings(backbones={"mine": MINE | {"k": "many"}}).backbone("mine").settings.k == "many"


def test_an_item_graph_without_features_is_refused(own_file):
    graph = BACKBONE.replace("uses_features: ClassVar", "uses_item_graph: ClassVar")
    own_file.write_text(graph, encoding="utf-8")
    with pytest.raises(ConfigError, match="backbones.mine: uses_item_graph needs uses_features"):
        toy.settings(backbones={"mine": MINE})


def test_a_null_that_is_not_the_default_reaches_the_stages(own_file, workdir):
    optional = BACKBONE.replace("    image_weight: float", "    depth: int | None = 3\n    image_weight: float")
    own_file.write_text(optional, encoding="utf-8")
    raw = config.lay_over(copy.deepcopy(toy.shipped()), {"backbones": {"mine": MINE | {"depth": None}}})
    config.write(raw, workdir / "resolved.yaml")
    assert config.load([workdir / "resolved.yaml"]).backbone("mine").settings.depth is None


def test_a_date_among_the_settings_of_ones_own_is_planned_by(own_file):
    dated = BACKBONE.replace("from typing", "import datetime\nfrom typing")
    dated = dated.replace("    image_weight: float", "    since: datetime.date\n    image_weight: float")
    own_file.write_text(dated, encoding="utf-8")
    chosen = toy.settings(backbones={"mine": MINE | {"since": datetime.date(2014, 1, 2)}})
    job = decides.of_train(chosen, dataset="baby", backbone="mine", arm="cliper", seed=1)
    assert json.loads(json.dumps(decides.deciding(job)))["backbone"]["since"] == "2014-01-02"
