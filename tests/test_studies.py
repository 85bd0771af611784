"""Studies: derived arms and datasets, shared cells, what is compared, settings of single cells."""

from __future__ import annotations

from typing import Any

import pytest
import toy

from cliper import config
from cliper.config import decides
from cliper.config.studies import Comparison
from cliper.config.whole import Cell, Config
from cliper.errors import ConfigError
from cliper.layout import Layout

BABY = {"datasets": ["baby"], "backbones": ["freedom"], "seeds": [1, 2]}


def study(vary: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"title": "Try", "arm": "cliper", "datasets": ["baby"], "backbones": ["freedom"], "vary": vary, **more}


def with_study(vary: dict[str, Any], *, run: Any = None, more: Any = None, **overlay: Any) -> Config:
    return toy.settings(run={**BABY, **(run or {})}, studies={"try": study(vary, **(more or {}))}, **overlay)


def arms_of(config: Config) -> list[str]:
    return [each.arm for each in config.variations("try")]


def test_each_value_is_one_derived_arm_after_the_base() -> None:
    config = with_study({"temperature": [0.05, 0.2], "d": [128], "without": ["title"], "only": ["global"]})
    assert arms_of(config) == [
        "cliper",
        "cliper.temperature-0.05",
        "cliper.temperature-0.2",
        "cliper.d-128",
        "cliper.without-title",
        "cliper.only-global",
    ]
    assert config.arm("cliper.d-128").d == 128
    assert config.features("baby", "cliper.without-title").views == ("brand", "categories", "description", "global")  # type: ignore[union-attr]
    assert config.features("baby", "cliper.only-global").views == ("global",)  # type: ignore[union-attr]


def test_an_arm_that_equals_a_named_one_shares_its_cells() -> None:
    config = with_study({"temperature": [0.1], "d": [64]}, arms={"vanilla_matched": {"d": 511}})
    assert arms_of(config) == ["cliper", "cliper", "cliper_small"]
    assert config.fair_arms == {64: ("vanilla", "cliper_small"), 512: ("vanilla.d-512", "cliper")}
    assert len(config.cells) == len(set(config.cells)) == 2 * 4


def test_the_order_of_sections_decides_nothing() -> None:
    """Snakemake lays files over each other in another order than the command does."""
    without = {"without": ["title"]}
    twin = {"extends": "cliper", "d": 64}  # as cliper_small is
    found = []
    for order in (1, -1):
        studies = {"try": study({"d": [64]}), "b": study(without, seeds=[1]), "a": study(without, seeds=[2])}
        raw = {**toy.shipped(), "run": {**toy.shipped()["run"], **BABY}, "studies": dict([*studies.items()][::order])}
        raw["arms"] = dict([*raw["arms"].items(), ("aaa", twin)][::order])
        one = config.structure(raw, where="test")
        found.append((arms_of(one), set(one.cells), decides.of_plot(one, figure="fig5")))
    assert found[0] == found[1]


def test_another_fusion_needs_no_temperature() -> None:
    assert arms_of(with_study({"fusion": ["mean", "sa"]})) == ["cliper", "uniform_weights", "cliper"]


def test_a_text_encoded_otherwise_leaves_images_and_weights_as_they_are() -> None:
    config = with_study({"overflow": ["truncate", "chunk_mean"]})
    base, same, other = arms_of(config)
    assert (base, same, other) == ("cliper", "cliper", "cliper.overflow-chunk_mean")
    layout = Layout(config)
    for result, names in (("weights", {}), ("image_embeddings", {"dataset": "baby", "range": 0, "ranges": 1})):
        paths = {layout.path(result, encoder=config.features("baby", arm).text, **names) for arm in (base, other)}  # type: ignore[union-attr]
        assert len(paths) == 1


def test_another_split_has_the_items_images_and_features_of_its_base() -> None:
    config = with_study({"split": ["random", "user_time"], "split_seed": [7]})
    base, same, timed, seeded = (each.dataset for each in config.variations("try"))
    assert (base, same, timed, seeded) == ("baby", "baby", "baby.split-user_time", "baby.split_seed-7")
    layout = Layout(config)
    for result in ("images", "features", "item_neighbours", "raw"):
        names = {"arm": "cliper", "modality": "text", "file": "a"}
        assert len({layout.path(result, dataset=each, **names) for each in (base, timed, seeded)}) == 1
    for result in ("train", "items", "user_neighbours"):
        assert len({layout.path(result, dataset=each) for each in (base, timed, seeded)}) == 3
    assert config.comparisons_of("try") == []  # other splits have other test items


def test_more_split_seeds_add_cells_and_runs_to_compare() -> None:
    one, two = (with_study({"d": [512]}, run={"split_seeds": seeds}) for seeds in (None, [7]))
    assert set(one.cells) < set(two.cells)
    assert {cell.dataset for cell in set(two.cells) - set(one.cells)} == {"baby.split_seed-7"}
    (compared,) = two.comparisons_of("table2")
    assert compared == Comparison("baby", "freedom", "cliper", "freedom", "vanilla")
    runs, base_runs = two.runs_of(compared)
    assert runs == tuple(
        Cell(dataset, "freedom", "cliper", seed) for dataset in ("baby", "baby.split_seed-7") for seed in (1, 2)
    )
    assert base_runs == tuple(run._replace(arm="vanilla") for run in runs)


def test_another_seed_adds_only_its_cells() -> None:
    few, more = (with_study({"d": [128]}, run={"seeds": seeds}) for seeds in ([1, 2], [1, 2, 3]))
    assert {cell.seed for cell in set(more.cells) - set(few.cells)} == {3}


def test_a_reference_backbone_runs_content_free() -> None:
    config = with_study({"backbone": ["lightgcn"]})
    assert config.variations("try")[1][2:] == ("baby", "lightgcn", "content_free")
    assert config.comparisons_of("try") == [Comparison("baby", "lightgcn", "content_free", "freedom", "cliper")]


def test_a_derived_name_may_stand_wherever_a_name_may() -> None:
    run = {**BABY, "datasets": ["baby.split-global_time"], "arms": ["vanilla", "cliper.d-64.temperature-0.2"]}
    config = toy.settings(run=run)
    assert config.dataset("baby.split-global_time").split == "global_time"
    assert config.features("baby.split-global_time", run["arms"][1]).temperature == 0.2  # type: ignore[union-attr]


def test_a_study_of_other_datasets_is_no_part_of_the_run() -> None:
    config = with_study({"d": [128]}, more={"datasets": ["sports"]})
    assert "try" not in Layout(config).tables
    assert {cell.dataset for cell in config.cells} == {"baby"}


@pytest.mark.parametrize(
    ("vary", "more", "sentence"),
    [
        ({}, {}, "studies.try.vary: nothing is varied"),
        ({"d": [128]}, {"arm": "clipper"}, "studies.try.arm: unknown arm 'clipper'"),
        ({"d": [128]}, {"datasets": ["toys"]}, "studies.try.datasets: unknown dataset 'toys'"),
        ({"d": [128]}, {"backbones": ["fredom"]}, "studies.try.backbones: unknown backbone 'fredom'"),
        ({"d": [128]}, {"backbones": ["lightgcn"]}, "studies.try.backbones: lightgcn uses no features; name it in"),
        ({"arm": ["vanila"]}, {}, "studies.try.vary.arm: unknown arm 'vanila'"),
        ({"backbone": ["lightgnc"]}, {}, "studies.try.vary.backbone: unknown backbone 'lightgnc'"),
        ({"without": ["titel"]}, {}, "studies.try.vary.without: unknown view of cliper 'titel'"),
        ({"d": [0]}, {}, "studies.try.vary.d.0: 0 must be at least 1"),
        ({"temperature": [0.1, 0.1]}, {}, "names one twice"),
        ({"colour": ["red"]}, {}, "unknown key 'colour'"),
        ({"fusion": ["max"]}, {}, "studies.try.vary.fusion.0: 'max' is not known"),
        ({"encoder": ["clop"]}, {}, "arms.cliper.encoder-clop.image: unknown encoder 'clop'"),
        ({"d": [128]}, {"seeds": []}, "studies.try.seeds: is empty"),
    ],
)
def test_what_a_study_cannot_be_is_a_sentence(vary: dict[str, Any], more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_study(vary, more=more)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        ({"run": {"arms": ["cliper", "copy"]}, "arms": {"copy": {"extends": "cliper"}}}, "run.arms: copy is cliper by"),
        ({"arms": {"a": {"extends": "b"}}}, "arms.a.extends: unknown arm 'b'"),
        ({"arms": {"a": {"extends": "b"}, "b": {"extends": "a"}}}, "leave it out"),
        ({"run": {"arms": ["cliper.colour-red"]}}, "run.arms: unknown thing that a name may vary 'colour'"),
        ({"run": {"arms": ["cliper.d-wide"]}}, "run.arms: 'wide' is no number for d"),
        ({"run": {"datasets": ["baby.d-64"]}}, "run.datasets: unknown thing that a dataset's name may vary 'd'"),
        ({"tuned": {"baby": {"freedom": {"cliper": {"learning_rat": 1}}}}}, "unknown setting of a cell 'learning_rat'"),
        ({"tuned": {"baby": {"freedom": {"cliper": {"k": 0}}}}}, "tuned.baby.freedom.cliper: k: 0 must be at least 1"),
        ({"tuned": {"any": {"any": {"any": {"device": "cpu"}}}}}, "tuned.any.any.any: device: it is one for all cells"),
        ({"tuned": {"baby": {"fredom": {}}}}, "tuned.baby: unknown backbone 'fredom'"),
    ],
)
def test_what_arms_and_cells_cannot_be_is_a_sentence(overlay: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toy.settings(**overlay)
    assert sentence in str(caught.value)


def test_settings_of_a_cell_hold_for_what_is_derived_from_its_arm_but_not_for_what_that_varies() -> None:
    tuned = {
        "any": {"any": {"any": {"learning_rate": 0.1}}, "freedom": {"cliper": {"learning_rate": 0.2, "k": 5}}},
        "baby": {"freedom": {"cliper": {"d": 32}}},
    }
    config = with_study({"d": [128], "without": ["title"]}, tuned=tuned)
    settings = {arm: config.cell_settings("baby", "freedom", arm) for arm in ("vanilla", *arms_of(config))}
    assert {arm: each.train.learning_rate for arm, each in settings.items()} == {
        "vanilla": 0.1,
        "cliper": 0.2,
        "cliper.d-128": 0.2,
        "cliper.without-title": 0.2,
    }
    assert [each.d for each in settings.values()] == [64, 32, 128, 32]
    assert [each.backbone.settings.k for each in settings.values()] == [10, 5, 5, 5]  # type: ignore[attr-defined]
    assert config.cell_settings("sports", "freedom", "cliper").d == 512
