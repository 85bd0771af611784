from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import toy

from cliper import config
from cliper.errors import ConfigError


def faults(**overlay: object) -> str:
    with pytest.raises(ConfigError) as caught:
        toy.settings(**overlay)
    return str(caught.value)


def test_shipped_config_is_valid_and_survives_a_round_trip(tmp_path: Path) -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    config.write(shipped, tmp_path / "resolved.yaml")
    assert config.load([tmp_path / "resolved.yaml"]) == shipped


def test_shipped_config_holds_the_papers_settings() -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    assert [shipped.datasets[name].title for name in shipped.run.datasets] == ["Baby", "Sports", "Clothing"]
    assert shipped.run.arms == ("vanilla", "cliper")
    assert (shipped.arms["vanilla"].d, shipped.arms["cliper"].d) == (64, 512)
    assert (shipped.arms["cliper"].temperature, shipped.arms["cliper"].fusion) == (0.1, "sa")
    assert (shipped.train.patience, shipped.train.weight_decay) == (10, 1e-4)
    assert list(shipped.prompt_set("as_described")) == ["title", "brand", "categories", "description", "global"]


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(config.schema())


def test_all_faults_are_told_at_once_each_with_its_place() -> None:
    told = faults(train={"learnin_rate": 1}, arms={"cliper": {"temperature": 0}}, crawl={"timeout_s": "10"})
    assert "train: unknown key 'learnin_rate'; known: behaviour, learning_rate" in told
    assert "arms.cliper.temperature: 0 must be greater than 0" in told
    assert "crawl.timeout_s: '10' is a string; write a number without quotes" in told


def test_an_unknown_backbone_is_answered_with_the_known_ones() -> None:
    assert "'latice' is not known; known: mmgcn, dualgnn, lattice" in faults(run={"backbones": ["latice"]})


def test_an_unknown_encoder_is_answered_with_the_known_ones() -> None:
    told = faults(arms={"cliper": {"image": "clipp", "text": "clipp"}})
    assert "arms.cliper.text: unknown encoder 'clipp'; known: bridge, clip-rn50, clip-vit-b32" in told


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    assert "unknown dataset 'bany'; known: baby, clothing, sports" in faults(run={"datasets": ["bany"]})


def test_an_unknown_view_is_answered_with_the_known_ones() -> None:
    told = faults(prompts={"as_described": {"global": {"views": ["title", "colour"]}}})
    assert "prompts.as_described.global.views: unknown view 'colour'; known: brand, categories" in told


def test_later_slices_begin_with_the_views_words_unless_the_view_says_otherwise() -> None:
    assert toy.settings().slice_prefix("as_described", "title") == "The product title is "
    chosen = toy.settings(prompts={"as_described": {"global": {"slice_prefix": ""}}})
    assert chosen.slice_prefix("as_described", "global") == ""


def test_an_encoder_names_its_own_policy_for_long_texts_or_takes_the_runs() -> None:
    chosen = toy.settings(encode={"overflow": "chunk_mean"}, encoders={"minilm": {"overflow": "truncate"}})
    assert (chosen.overflow("minilm"), chosen.overflow("bridge")) == ("truncate", "chunk_mean")


def test_longclip_reads_248_tokens_and_says_where_its_file_lies() -> None:
    assert "encoders.longclip-l.context: 248 was expected" in faults(encoders={"longclip-l": {"context": 77}})
    told = faults(encoders={"mine": {"kind": "longclip", "architecture": "ViT-L-14-quickgelu", "context": 248}})
    assert "encoders.mine: 'source' is a required property" in told
    local = {"kind": "open_clip", "architecture": "local-dir:/a/folder", "context": 77}
    assert toy.settings(encoders={"mine": local}).encoder("mine").settings.origin == "/a/folder"
    told = faults(encoders={"mine": local | {"architecture": "ViT-L-14"}})
    assert "encoders.mine: 'pretrained' is a required property" in told


def test_weighing_by_similarity_needs_one_space_and_a_temperature() -> None:
    assert "sa compares image and text" in faults(arms={"cliper": {"text": "minilm"}})
    assert "temperature: given with fusion sa" in faults(arms={"vanilla": {"temperature": 0.1}})


def test_an_encoder_is_not_asked_for_what_it_cannot_encode() -> None:
    assert "encoder 'minilm' encodes no images" in faults(arms={"vanilla": {"image": "minilm"}})


def test_an_arm_cannot_name_a_view_that_its_prompt_set_has_not() -> None:
    told = faults(arms={"vanilla": {"views": ["joined", "brand"]}})
    assert "arms.vanilla.views: unknown view of joined_fields 'brand'; known: joined" in told


def test_views_and_arms_take_what_they_do_not_say_from_the_sections_prompt_and_fuse() -> None:
    chosen = toy.settings(prompt={"min_length": 3}, fuse={"missing_image": "zero"}, arms={"cliper": {"vectors": "raw"}})
    titles = [chosen.prompts[prompts]["title"] for prompts in ("as_described", "as_released")]
    assert [title.min_length for title in titles] == [3, 2]  # type: ignore[union-attr]
    assert {arm: chosen.arms[arm].missing_image for arm in chosen.arms} == {
        "vanilla": "zero",
        "cliper": "zero",
        "content_free": None,
    }


def test_a_joined_view_cannot_be_cleaned() -> None:
    assert "prompts.as_described.global" in faults(prompts={"as_described": {"global": {"clean": []}}})


def test_a_view_cannot_be_joined_of_itself() -> None:
    two = {"a": {"views": ["b"], "prompt": "___"}, "b": {"views": ["a"], "prompt": "___"}}
    assert "prompts.two.a.views: the view is joined of itself" in faults(prompts={"two": two})


def test_an_unknown_step_of_cleaning_is_answered_with_the_known_ones() -> None:
    assert "prompt.clean.0: 'html' is not known; known: entities, tags" in faults(prompt={"clean": ["html"]})


def test_a_given_split_cannot_be_filtered() -> None:
    given = {"title": "G", "source": {"kind": "mmrec", "inter": "g.inter", "mirrors": ["."]}, "k_core": 5}
    assert "a given split is used as it is" in faults(datasets={"g": given})


def test_a_split_is_given_exactly_where_the_source_has_one() -> None:
    source = {"kind": "mmrec", "inter": "g.inter", "mirrors": ["."]}
    assert "datasets.baby.split: given, but the source has no split of its own" in faults(
        datasets={"baby": {"split": "given"}}
    )
    told = faults(datasets={"g": {"title": "G", "source": source, "split": "user_time"}})
    assert "datasets.g.split: user_time, but the source has a split of its own" in told
    assert toy.settings(datasets={"g": {"title": "G", "source": source}}).datasets["g"].split == "given"


def test_the_splits_in_the_schema_are_those_that_can_be_made() -> None:
    from cliper.collect.interactions.splits import SPLITTERS

    named = config.schema()["properties"]["datasets"]["additionalProperties"]["properties"]["split"]["enum"]
    assert set(named) == {*SPLITTERS, "given"}


FILES = {"image": "own/image_feat.npy", "text": "text_feat.npy"}


def given(*, run: dict[str, object], arms: dict[str, object], features: object) -> dict[str, object]:
    """Overlay of a dataset g with features of its own."""
    source = {"kind": "mmrec", "inter": "g.inter", "mirrors": ["."], "features": features}
    return {"run": run, "arms": arms, "datasets": {"g": {"title": "G", "source": source}}}


def test_an_arm_may_do_without_encoders_where_every_dataset_gives_its_features() -> None:
    chosen = toy.settings(
        **given(run={"datasets": ["g"], "arms": ["own"]}, arms={"own": {"d": 8}}, features={"own": FILES})
    )
    assert chosen.datasets["g"].raw_files(chosen.run.arms) == ["g.inter", "own/image_feat.npy", "text_feat.npy"]
    assert (
        chosen.datasets["g"].raw_files(["cliper"])
        == list(chosen.datasets["g"].source.settings.files.values())
        == ["g.inter"]
    )


def test_an_arm_without_encoders_names_the_dataset_that_gives_it_no_features() -> None:
    told = faults(
        **given(run={"datasets": ["g", "baby"], "arms": ["own"]}, arms={"own": {"d": 8}}, features={"own": FILES})
    )
    assert "arms.own.image, text, prompts, fusion: missing, and datasets.baby.source.features has no 'own'" in told
    assert "datasets.g.source" not in told


def test_an_arm_with_half_of_its_encoders_is_no_given_one() -> None:
    overlay = given(run={"datasets": ["g"], "arms": ["own"]}, arms={"own": {"d": 8, "image": "lite0"}}, features={})
    assert "arms.own.text, prompts, fusion: missing" in faults(**overlay)


def test_given_features_go_before_an_arms_encoders() -> None:
    chosen = toy.settings(**given(run={"datasets": ["g", "baby"]}, arms={}, features={"cliper": FILES}))
    assert chosen.arm_of("g", "cliper") == config.Arm(d=512)
    assert chosen.arm_of("baby", "cliper") == chosen.arms["cliper"]


@pytest.mark.parametrize("arm", ["clipper", "content_free"])
def test_features_of_an_unknown_arm_are_answered_with_the_known_ones(arm: str) -> None:
    told = faults(**given(run={}, arms={}, features={arm: FILES}))
    assert f"datasets.g.source.features: unknown arm '{arm}'; known: cliper, vanilla" in told


@pytest.mark.parametrize(
    "name", ["../x.npy", "/etc/x.npy", "a/../x.npy", "a//x.npy", "x.pkl", "http://h/x.npy", ".npy"]
)
def test_given_features_lie_inside_the_mirror(name: str) -> None:
    told = faults(**given(run={}, arms={}, features={"cliper": FILES | {"text": name}}))
    assert f"datasets.g.source.features.cliper.text: '{name}' does not have the form" in told


def with_image_file(arm: str, **more: object) -> dict[str, object]:
    source = {"features": {arm: {"image": "image_features_Baby.b"}}}
    return {"datasets": {"baby": {"source": source}}, "arms": {arm: more}}


def test_given_image_features_leave_the_text_to_the_arm() -> None:
    chosen = toy.settings(**with_image_file("vanilla"))
    arm = chosen.arm_of("baby", "vanilla")
    assert (arm.image, arm.text, arm.fusion) == (None, "minilm", "concat")
    assert chosen.arm_of("sports", "vanilla") == chosen.arms["vanilla"]
    assert chosen.datasets["baby"].raw_files(["vanilla"])[-1] == "image_features_Baby.b"


def test_given_image_features_cannot_be_compared_with_texts_or_stood_for_by_a_picture() -> None:
    told = faults(**with_image_file("cliper"))
    assert "datasets.baby.source.features.cliper: fusion sa compares image and text" in told
    told = faults(**with_image_file("vanilla", missing_image="default_image"))
    assert "datasets.baby.source.features.vanilla: the default image has no such features" in told


def test_a_backbone_cannot_read_more_neighbours_than_are_found() -> None:
    assert "backbones.freedom.k: 21 is more than neighbours.items" in faults(backbones={"freedom": {"k": 21}})


def test_values_of_another_type_are_told_how_to_be_written() -> None:
    told = faults(run={"backbones": "freedom", "seeds": 3}, datasets={"baby": {"k_core": "5"}})
    assert "run.backbones: 'freedom' is no list; write [freedom]" in told
    assert "run.seeds: 3 is no list; write [3]" in told
    assert "datasets.baby.k_core: '5' is a string; write a whole number without quotes" in told


def test_names_that_would_be_paths_are_refused() -> None:
    assert "does not have the form" in faults(name="../elsewhere")
    assert "does not have the form" in faults(datasets={"a/b": {}})


def test_later_files_are_laid_over_earlier_ones(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("run: {seeds: [7]}\ntrain: {patience: 3}\n")
    merged = config.load([toy.REPOSITORY / "config.yaml", overlay])
    assert merged.run.seeds == (7,)
    assert merged.train.patience == 3
    assert merged.train.max_epochs == config.load([toy.REPOSITORY / "config.yaml"]).train.max_epochs


@pytest.mark.parametrize("text", ["a: [", "- a list", "\t"])
def test_a_file_that_is_no_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml is no"):
        config.load([tmp_path / "c.yaml"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        config.load([tmp_path / "none.yaml"])


def test_content_free_backbones_run_once_a_seed() -> None:
    chosen = toy.settings(run={"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": [1, 2]})
    assert [cell[1:3] for cell in chosen.cells] == [
        *[("freedom", "vanilla")] * 2,
        *[("freedom", "cliper")] * 2,
        *[("lightgcn", "content_free")] * 2,
    ]


def test_every_overlay_in_the_repository_fits_the_shipped_config() -> None:
    for overlays in (["films"], ["films", "films_fusions"], ["line"], ["../cliper/data/demo"]):
        paths = [toy.REPOSITORY / "config.yaml", *(toy.REPOSITORY / f"tests/{name}.yaml" for name in overlays)]
        assert config.load(paths).name in ("films", "films-fusions", "demo", "paper")


@pytest.mark.parametrize("more", [[], ["reference_films_norm.yaml"], ["reference_films_slmrec.yaml"]])
def test_the_reference_runs_regularise_each_backbone_as_the_toolbox_does(more: list[str]) -> None:
    paths = [toy.REPOSITORY / "config.yaml", *(toy.REPOSITORY / "tests" / f for f in ("reference_films.yaml", *more))]
    chosen = config.load(paths)
    wanted = {"slmrec": (1e-4, "parameters"), "lightgcn": (1e-4, "batch"), "bpr": (1e-4, "batch")}
    for backbone in chosen.run.backbones:
        weight, where = wanted.get(backbone, (0, chosen.train.weight_decay_on))
        assert (chosen.train.weight_decay, chosen.train.weight_decay_on) == (weight, where)
