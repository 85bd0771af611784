from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import toy
import yaml

from cliper import config, resources
from cliper.config import GivenFeatures, MadeFeatures, decides
from cliper.config.collect import Split
from cliper.config.features import BareArm, MadeArm
from cliper.errors import ConfigError
from cliper.resources import read_csv
from cliper.settings import plain


def faults(**overlay: object) -> str:
    with pytest.raises(ConfigError) as caught:
        toy.settings(**overlay)
    return str(caught.value)


def test_shipped_config_is_valid_and_survives_a_round_trip(tmp_path: Path) -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    config.write(plain(shipped), tmp_path / "resolved.yaml")
    assert config.load([tmp_path / "resolved.yaml"]) == shipped


def test_shipped_config_holds_the_papers_settings() -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    assert [shipped.datasets[name].title for name in shipped.run.datasets] == ["Baby", "Sports", "Clothing"]
    assert shipped.run.arms == ("vanilla", "cliper")
    assert (shipped.arms["vanilla"].d, shipped.arms["cliper"].d) == (64, 512)
    cliper = shipped.features("baby", "cliper")
    assert isinstance(cliper, MadeFeatures)
    assert (cliper.temperature, cliper.fusion) == (0.1, "sa")
    assert (cliper.image, cliper.text, shipped.encoder("longclip-l").settings.context) == (*["longclip-l"] * 2, 248)
    assert {shipped.encode.overflow, shipped.encoder("longclip-l").settings.overflow} == {"truncate", None}
    for dataset in shipped.datasets.values():
        features = f"image_features_{dataset.source.settings.category}.b"
        assert dataset.given("vanilla") == (features, None)
    assert (shipped.train.patience, shipped.train.weight_decay) == (10, 1e-4)
    assert shipped.train.learning_rate in {a * b for a in (1, 3, 5) for b in (1e-4, 1e-5)}
    assert list(shipped.prompt_set("as_described")) == ["title", "brand", "categories", "description", "global"]


def test_all_faults_are_reported_at_once_each_with_its_place() -> None:
    said = faults(
        train={"learnin_rate": 1, "behaviour": "as_said", "threads": 0, "patience": 2.5},
        arms={"cliper": {"temperature": 0}},
        crawl={"timeout_s": "10", "min_ok": 1.5, "robots_txt": "no"},
        backbones={"freedom": {"edge_dropout": 1}},
        datasets={"baby": {"source": {"category": "a/b"}}, "mine": {"source": {"kind": "amazon2014"}}},
        encoders={"mine": {"architecture": "ViT-L-14"}},
        colour=1,
    )
    expected = [
        "train: unknown key 'learnin_rate'; known: behaviour, learning_rate",
        "train.behaviour: 'as_said' is not known; known: as_published, as_mmrec",
        "train.threads: 0 must be at least 1",
        "train.patience: 2.5 is no whole number",
        "arms.cliper.temperature: 0 must be at least 1e-09",
        "crawl.timeout_s: '10' is a string; write a number without quotes",
        "crawl.min_ok: 1.5 must be at most 1",
        "crawl.robots_txt: 'no' is neither true nor false",
        "backbones.freedom.edge_dropout: 1 must be less than 1",
        "datasets.baby.source.category: 'a/b' does not have the form",
        "datasets.mine.title: missing (name in the tables",
        "datasets.mine.source.category: missing (as in the files' names",
        "datasets.mine.source.interactions: missing",
        "encoders.mine: kind is missing; known: open_clip, longclip",
        "config: unknown key 'colour'; known: name, run, studies",
    ]
    assert [sentence for sentence in expected if f"toy: {sentence}" not in said] == []
    assert said.count("toy: ") == len(expected)


@pytest.mark.parametrize("section", sorted(set(config.Config.model_fields) - {"prompts"}))  # which may all be ours
def test_every_section_must_be_there_and_a_mapping(section: str) -> None:
    raw = deepcopy(toy.shipped())
    raw[section] = 3
    with pytest.raises(ConfigError, match=f"toy: {section}: 3 is no (mapping|text)|{section}: 3 is not known"):
        config.structure(raw, where="toy")
    del raw[section]
    with pytest.raises(ConfigError, match=f"toy: {section}: missing"):
        config.structure(raw, where="toy")


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("prompt", "min_length", 0, "prompt.min_length: 0 must be at least 1"),
        ("prompt", "colour", 0, "prompt: unknown key 'colour'; known: clean, categories, min_length"),
        ("prompt", "categories", None, "prompt.categories: missing"),
        ("fuse", "vectors", "long", "fuse.vectors: 'long' is not known; known: raw, normalised"),
        ("fuse", "colour", 0, "fuse: unknown key 'colour'; known: vectors, missing_field, missing_image"),
        ("fuse", "missing_image", None, "fuse.missing_image: missing"),
    ],
)
def test_a_fault_of_the_section_prompt_or_fuse_is_reported_once(section: str, key: str, value: Any, said: str) -> None:
    raw = deepcopy(toy.shipped())
    raw[section][key] = value
    if value is None:
        del raw[section][key]
    with pytest.raises(ConfigError) as caught:
        config.structure(raw, where="toy")
    assert str(caught.value).startswith(f"toy: {said}")
    assert str(caught.value).count("toy: ") == 1


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    ("section", "key"), [("train", "learning_rate"), ("crawl", "requests_per_s"), ("download", "timeout_s")]
)
def test_numbers_that_are_not_finite_are_refused(section: str, key: str, number: str) -> None:
    overlay = yaml.safe_load(f"{{{section}: {{{key}: {number}}}}}")
    assert f"{section}.{key}: {number.replace('.', '')} is no finite number" in faults(**overlay)


def test_no_number_of_any_section_may_be_infinite() -> None:
    n_numbers = 0
    for section, values in toy.shipped().items():
        for place in list(places(values)):
            raw = deepcopy(toy.shipped())
            holder = at(raw[section], place[:-1])
            if isinstance(holder, dict) and isinstance(holder[place[-1]], float):
                holder[place[-1]] = float("inf")
                with pytest.raises(ConfigError, match="inf is no finite number"):
                    config.structure(raw, where="toy")
                n_numbers += 1
    assert n_numbers >= 15


def places(value: Any) -> list[tuple[Any, ...]]:
    """Paths of all keys and list entries inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(key, *more) for key, item in inner for more in ((), *places(item))]


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e400,
    "",
    "x",
    "..",
    [],
    [[]],
    {},
    {"a": {"b": 1}},
    {1: 2},
    [{}],
    10**30,
    ["x", "x"],
]


def mutate(raw: dict[str, Any], draw: random.Random) -> str:
    """Spoil one place of a config; returns what was done."""
    place = draw.choice(places(raw))
    holder, key = at(raw, place[:-1]), place[-1]
    action = draw.choice(["drop", "retype", "nest", "rename", "swap"])
    match action:
        case "drop":
            del holder[key]
        case "retype":
            holder[key] = deepcopy(draw.choice(ODD))
        case "nest":
            holder[key] = draw.choice(
                [[holder[key]], {"kind": holder[key]}, {"class": holder[key]}, {key: holder[key]}]
            )
        case "rename" if isinstance(holder, dict):
            holder[draw.choice(["x", "views", "kind", "class", "", 7, None, "a/b", "content_free"])] = holder.pop(key)
        case _:
            holder[key] = deepcopy(at(raw, draw.choice(places(raw))))
    return f"{action} {'.'.join(map(str, place))}"


def test_a_spoilt_config_is_refused_by_sentences_or_valid() -> None:
    """Ends in a config or in ConfigError; never in another exception, never in a message without a place."""
    draw, ends = random.Random(20), {"valid": 0, "refused": 0}
    complete = deepcopy(toy.shipped()) | {"prompts": {"own": {"a": {"views": ["b"], "prompt": "___"}}}}
    complete["prompts"]["own"]["b"] = {"fields": ["title"], "prompt": "a ___", "missing": "none", "min_length": 2}
    config.structure(complete, where="toy")
    for _ in range(300):
        raw = deepcopy(complete)
        done = [mutate(raw, draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
        try:
            config.structure(raw, where="toy")
            ends["valid"] += 1
        except ConfigError as error:
            ends["refused"] += 1
            assert str(error).startswith("toy: "), done
        except Exception as error:
            raise AssertionError(done) from error
    assert min(ends.values()) >= 10, ends


def test_an_unknown_backbone_is_answered_with_the_known_ones() -> None:
    said = faults(run={"backbones": ["latice"]})
    assert "run.backbones: unknown backbone 'latice'; known: bpr, dualgnn, freedom, lattice" in said
    assert "backbones.latice: 'latice' is not known; known: mmgcn, dualgnn" in faults(backbones={"latice": {"k": 1}})


def test_a_backbones_section_may_repeat_its_kind_but_name_no_other() -> None:
    assert toy.settings(backbones={"freedom": {"kind": "freedom"}}) == toy.settings()
    assert "backbones.freedom: unknown key 'kind'" in faults(backbones={"freedom": {"kind": "bpr"}})


def test_an_unknown_encoder_is_answered_with_the_known_ones() -> None:
    said = faults(arms={"cliper": {"image": "clipp", "text": "clipp"}})
    assert "arms.cliper.text: unknown encoder 'clipp'; known: bridge, clip-rn50, clip-vit-b32" in said


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    assert "unknown dataset 'bany'; known: baby, clothing, sports" in faults(run={"datasets": ["bany"]})


def test_an_unknown_view_is_answered_with_the_known_ones() -> None:
    said = faults(prompts={"as_described": {"global": {"views": ["title", "colour"]}}})
    assert "prompts.as_described.global.views: unknown view 'colour'; known: brand, categories" in said


def text_job(settings: config.Config, encoder: str, view: str) -> decides.EncodeText:
    return decides.of_encode_text(settings, dataset="baby", encoder=encoder, prompts="as_described", view=view)


def test_later_slices_begin_with_the_views_words_unless_the_view_says_otherwise() -> None:
    assert text_job(toy.settings(), "bridge", "title").slice_prefix == "The product title is "
    chosen = toy.settings(prompts={"as_described": {"global": {"slice_prefix": ""}}})
    assert text_job(chosen, "bridge", "global").slice_prefix == ""


def test_an_encoder_names_its_own_policy_for_long_texts_or_takes_the_runs() -> None:
    chosen = toy.settings(encode={"overflow": "chunk_mean"}, encoders={"minilm": {"overflow": "truncate"}})
    assert [text_job(chosen, name, "title").overflow for name in ("minilm", "bridge")] == ["truncate", "chunk_mean"]


def test_longclip_reads_248_tokens_and_says_where_its_file_lies() -> None:
    assert "encoders.longclip-l.context: 77 is not known; known: 248" in faults(
        encoders={"longclip-l": {"context": 77}}
    )
    said = faults(encoders={"mine": {"kind": "longclip", "architecture": "ViT-L-14-quickgelu", "context": 248}})
    assert "encoders.mine.source: missing (URL or path of the original .pt file)" in said
    local = {"kind": "open_clip", "architecture": "local-dir:/a/folder", "context": 77}
    assert toy.settings(encoders={"mine": local}).encoder("mine").settings.origin == "/a/folder"
    said = faults(encoders={"mine": local | {"architecture": "ViT-L-14"}})
    assert "encoders.mine: pretrained is missing (open_clip's tag of the weights)" in said


def test_weighing_by_similarity_needs_one_space_and_a_temperature() -> None:
    assert "sa compares image and text" in faults(arms={"cliper": {"text": "minilm"}})
    assert "temperature: given with fusion sa" in faults(arms={"vanilla": {"temperature": 0.1}})


def test_an_encoder_is_not_asked_for_what_it_cannot_encode() -> None:
    assert "encoder 'minilm' encodes no images" in faults(arms={"vanilla": {"image": "minilm"}})


def test_an_arm_cannot_name_a_view_that_its_prompt_set_has_not() -> None:
    said = faults(arms={"vanilla": {"views": ["joined", "brand"]}})
    assert "arms.vanilla.views: unknown view of joined_fields 'brand'; known: joined" in said


def test_views_and_arms_take_what_they_do_not_say_from_the_sections_prompt_and_fuse() -> None:
    chosen = toy.settings(prompt={"min_length": 3}, fuse={"missing_image": "zero"}, arms={"cliper": {"vectors": "raw"}})
    titles = [chosen.prompts[prompts]["title"] for prompts in ("as_described", "as_released")]
    assert [title.min_length for title in titles] == [3, 2]  # type: ignore[union-attr]
    made = {name: arm for name, arm in chosen.arms.items() if isinstance(arm, MadeArm)}
    assert {made[name].missing_image for name in ("vanilla", "cliper")} == {"zero"}
    assert chosen.arms["content_free"] == BareArm(d=64)


def test_a_joined_view_cannot_be_cleaned() -> None:
    assert "prompts.as_described.global" in faults(prompts={"as_described": {"global": {"clean": []}}})


def test_a_view_cannot_join_itself() -> None:
    two = {"a": {"views": ["b"], "prompt": "___"}, "b": {"views": ["a"], "prompt": "___"}}
    assert "prompts.two.a.views: the view joins itself; leave it out" in faults(prompts={"two": two})


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
    said = faults(datasets={"g": {"title": "G", "source": source, "split": "user_time"}})
    assert "datasets.g.split: user_time, but the source has a split of its own" in said
    chosen = toy.settings(datasets={"g": {"title": "G", "source": source}})
    assert decides.of_catalogue(chosen, dataset="g").split == "given"


def test_a_dataset_without_a_split_of_its_sources_must_name_one() -> None:
    source = toy.shipped()["datasets"]["baby"]["source"]
    said = faults(datasets={"x": {"title": "X", "source": source, "k_core": 5}})
    assert "datasets.x.split: missing; write random, user_time or global_time" in said
    assert "datasets.x.split_seed: missing" in said
    assert "datasets.x.k_core" not in said


def test_the_splits_in_the_config_are_those_that_can_be_made() -> None:
    from cliper.collect.interactions.splits import SPLITTERS

    assert set(get_args(Split)) == {*SPLITTERS, "given"}


FILES = {"image": "own/image_feat.npy", "text": "text_feat.npy"}


def given(*, run: dict[str, object], arms: dict[str, object], features: object) -> dict[str, object]:
    """Overlay of a dataset g with features of its own."""
    source = {"kind": "mmrec", "inter": "g.inter", "mirrors": ["."], "features": features}
    return {"run": run, "arms": arms, "datasets": {"g": {"title": "G", "source": source}}}


def test_an_arm_may_do_without_encoders_where_every_dataset_gives_its_features() -> None:
    chosen = toy.settings(
        **given(run={"datasets": ["g"], "arms": ["own"]}, arms={"own": {"d": 8}}, features={"own": FILES})
    )
    assert chosen.raw_files("g", chosen.run.arms) == ["g.inter", "own/image_feat.npy", "text_feat.npy"]
    assert chosen.raw_files("g", ["cliper"]) == list(chosen.datasets["g"].source.settings.files.values()) == ["g.inter"]


def test_an_arm_without_encoders_names_the_dataset_that_gives_it_no_features() -> None:
    said = faults(
        **given(run={"datasets": ["g", "baby"], "arms": ["own"]}, arms={"own": {"d": 8}}, features={"own": FILES})
    )
    assert "arms.own.image, text, prompts, fusion: missing, and datasets.baby.source.features has no 'own'" in said
    assert "datasets.g.source" not in said


def test_an_arm_with_half_of_its_encoders_is_no_given_one() -> None:
    overlay = given(run={"datasets": ["g"], "arms": ["own"]}, arms={"own": {"d": 8, "image": "lite0"}}, features={})
    said = faults(**overlay)
    for key in (
        "text: missing (the encoder of texts)",
        "prompts: missing (the prompt set)",
        "fusion: missing (how views become",
    ):
        assert f"arms.own.{key}" in said


def test_given_features_go_before_an_arms_encoders() -> None:
    chosen = toy.settings(**given(run={"datasets": ["g", "baby"]}, arms={}, features={"cliper": FILES}))
    assert chosen.features("g", "cliper") == GivenFeatures(**FILES)
    made, arm = chosen.features("baby", "cliper"), chosen.arm("cliper")
    assert isinstance(made, MadeFeatures)
    assert isinstance(arm, MadeArm)
    assert (made.image, made.given, made.text, made.fusion) == (arm.image, None, arm.text, arm.fusion)
    assert made.views == tuple(chosen.prompt_set("as_described"))


@pytest.mark.parametrize("arm", ["clipper", "content_free"])
def test_features_of_an_unknown_arm_are_answered_with_the_known_ones(arm: str) -> None:
    said = faults(**given(run={}, arms={}, features={arm: FILES}))
    assert f"datasets.g.source.features: unknown arm '{arm}'; known: as_released, cliper, " in said


@pytest.mark.parametrize(
    "name", ["../x.npy", "/etc/x.npy", "a/../x.npy", "a//x.npy", "x.pkl", "http://h/x.npy", ".npy"]
)
def test_given_features_lie_inside_the_mirror(name: str) -> None:
    said = faults(**given(run={}, arms={}, features={"cliper": FILES | {"text": name}}))
    assert f"datasets.g.source.features.cliper.text: '{name}' does not have the form" in said


def with_image_file(arm: str, **more: object) -> dict[str, Any]:
    source = {"features": {arm: {"image": "image_features_Baby.b"}}}
    return {"datasets": {"baby": {"source": source}}, "arms": {arm: more}}


def test_given_image_features_leave_the_text_to_the_arm() -> None:
    overlay = with_image_file("vanilla")
    overlay["datasets"]["sports"] = {"source": {"features": None}}
    chosen = toy.settings(**overlay)
    given, made = (chosen.features(name, "vanilla") for name in ("baby", "sports"))
    assert isinstance(given, MadeFeatures)
    assert isinstance(made, MadeFeatures)
    assert (given.image, given.given, given.text, given.fusion) == (None, "image_features_Baby.b", "minilm", "concat")
    assert made == replace(given, image="lite0", given=None)
    assert chosen.raw_files("baby", ["vanilla"])[-1] == "image_features_Baby.b"


def test_given_image_features_cannot_be_compared_with_texts_or_replaced_by_a_picture() -> None:
    said = faults(**with_image_file("cliper"))
    assert "datasets.baby.source.features.cliper: fusion sa compares image and text" in said
    said = faults(**with_image_file("vanilla", missing_image="default_image"))
    assert "datasets.baby.source.features.vanilla: the default image has no such features" in said


def test_a_control_that_changes_nothing_or_drops_every_item_is_refused() -> None:
    said = faults(**given(run={}, arms={"cliper": {"control": "noise"}}, features={"cliper": FILES}))
    assert "datasets.g.source.features.cliper: given features are used as they are, so control noise changes" in said
    said = faults(arms={"cliper": {"control": "text_only", "missing_image": "drop_item"}})
    assert "arms.cliper.control: with text_only no item has an image, and missing_image drop_item drops" in said
    said = faults(arms={"cliper": {"control": "shuffled"}})
    assert "'shuffled' is not known; known: shuffled_images, noise, text_only, image_only" in said


def test_a_control_changes_the_key_of_the_features_and_stands_in_their_folders_name() -> None:
    plain, noise = toy.settings(), toy.settings(arms={"cliper": {"control": "noise"}})
    paths = [toy.path(chosen, "features", dataset="baby", arm="cliper").parent.name for chosen in (plain, noise)]
    assert paths[1].rpartition("-")[0] == paths[0].rpartition("-")[0] + ".noise"


def test_an_arm_takes_the_image_features_of_the_one_that_it_extends_unless_its_encoder_is_another() -> None:
    noisy = {"extends": "vanilla", "control": "noise", "d": 8}
    chosen = toy.settings(arms={"noisy": noisy, "other": {"extends": "vanilla", "image": "clip-vit-l14"}})
    assert [chosen.given("baby", arm) for arm in ("vanilla", "noisy", "other")] == [
        ("image_features_Baby.b", None)
    ] * 2 + [None]
    said = faults(arms={"grey": {"extends": "vanilla", "missing_image": "default_image"}})
    assert said.startswith("toy: datasets.baby.source.features.grey: the default image has no such features")


def test_an_arm_takes_whole_features_of_the_one_that_it_extends_in_d_alone() -> None:
    arms = {"wide": {"extends": "vanilla", "d": 8}, "zero": {"extends": "vanilla", "missing_image": "zero"}}
    chosen = toy.settings(**given(run={}, arms=arms, features={"vanilla": FILES}))
    assert [chosen.given("g", arm) is None for arm in ("wide", "zero")] == [False, True]


def test_a_backbone_cannot_read_more_neighbours_than_are_found() -> None:
    assert "backbones.freedom.k: 21 is more than neighbours.items" in faults(backbones={"freedom": {"k": 21}})


def test_a_backbone_cannot_read_more_users_than_are_found() -> None:
    said = faults(neighbours={"users": 39})
    assert "backbones.dualgnn.n_neighbours: 40 is more than neighbours.users" in said
    assert toy.settings(neighbours={"users": 40}).neighbours.users == 40


def test_as_mmrec_the_batch_is_decayed_only_where_the_toolbox_does_it() -> None:
    as_there = {"behaviour": "as_mmrec", "weight_decay_on": "batch", "weight_decay": 0.1}
    names = ["mmgcn", "dualgnn", "lattice", "slmrec", "freedom"]
    said = faults(run={"backbones": [*names, "bpr"]}, train=as_there)
    assert f"train.weight_decay_on: batch, but as_mmrec Adam decays the weights of {', '.join(names)};" in said
    own = {"any": {name: {"any": {"weight_decay_on": "parameters"}} for name in names}}
    assert toy.settings(run={"backbones": [*names, "bpr"]}, train=as_there, studies={}, tuned=own)
    for backbones, changes in (
        (["lightgcn", "bpr", "vbpr"], {}),
        (names, {"behaviour": "as_published"}),
        (names, {"weight_decay_on": "parameters"}),
        (names, {"weight_decay": 0}),
    ):
        chosen = toy.settings(run={"backbones": backbones}, train=as_there | changes)
        assert list(chosen.run.backbones) == backbones


def test_values_of_another_type_are_refused_with_how_to_write_them() -> None:
    said = faults(run={"backbones": "freedom", "seeds": 3}, datasets={"baby": {"k_core": "5"}})
    assert "run.backbones: 'freedom' is no list; write [freedom]" in said
    assert "run.seeds: 3 is no list; write [3]" in said
    assert "datasets.baby.k_core: '5' is a string; write a whole number without quotes" in said


def test_a_power_of_ten_that_yaml_takes_for_a_string_is_written_as_yaml_wants_it() -> None:
    for given, wanted in (("1e-3", "1.0e-3"), ("-2E5", "-2.0e+5"), ("1.5e3", "1.5e+3")):
        assert yaml.safe_load(given) == given
        assert isinstance(yaml.safe_load(wanted), float)
        said = faults(train={"learning_rate": yaml.safe_load(given)})
        assert f"train.learning_rate: '{given}' is a string to YAML; write {wanted}" in said


def test_shipped_prompts_that_an_edit_broke_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "prompts.yaml"
    broken.write_text("as_described:\n  title:\n    prompt: Title: ___.\n")
    monkeypatch.setattr(resources, "place", lambda name: broken)
    assert f"{broken} is no YAML: mapping values are not allowed" in faults()


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


@pytest.mark.parametrize("text", ["a: [", "- a list", "\t", "a: 2024-99-99"])
def test_a_file_that_is_no_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml is no"):
        config.load([tmp_path / "c.yaml"])


def test_a_file_of_ones_own_alone_is_answered_with_how_to_lay_it_over_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nrun: {seeds: [1]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.yaml: studies, datasets, .* are missing; .* laid over config.yaml"):
        config.load([tmp_path / "mine.yaml"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        config.load([tmp_path / "none.yaml"])
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; name a config file"):
        config.load([tmp_path])


def test_content_free_backbones_run_once_a_seed() -> None:
    chosen = toy.settings(run={"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": [1, 2]})
    assert [cell[1:3] for cell in chosen.run_cells] == [
        *[("freedom", "vanilla")] * 2,
        *[("freedom", "cliper")] * 2,
        *[("lightgcn", "content_free")] * 2,
    ]


def test_a_fault_of_an_arm_is_not_repeated_for_those_that_extend_it() -> None:
    said = faults(arms={"cliper": {"image": "clop", "temperature": 0}})
    assert said == "toy: arms.cliper.temperature: 0 must be at least 1e-09"
    said = faults(arms={"cliper": {"image": "clop", "text": "clop"}})
    assert said.count("arms.") == 2
    said = faults(arms={"as_released": {"views": ["title", "colour"]}})  # its own
    assert said.startswith("toy: arms.as_released.views: unknown view of as_released 'colour'")


def test_no_studies_is_a_line() -> None:
    assert toy.settings(studies=None).studies == {}
    whole = config.load([toy.REPOSITORY / "config.yaml"])
    assert {cell.arm for cell in toy.settings(studies=None).cells} < {cell.arm for cell in whole.cells}


def test_the_shipped_studies_are_the_papers_and_more() -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    assert list(shipped.studies)[:5] == ["table3", "fig2", "fig3", "fig4", "fig6"]
    assert shipped.studies_of_run == shipped.studies
    for name in ("table3", "fig2", "fig3", "fig4", "fig6", "controls", "slips", "missing"):
        first = shipped.variations(name)[0]
        assert (first.backbone, first.arm) == ("freedom", "cliper")
    printed = [float(row["temperature"]) for row in read_csv("paper/table3.csv")]
    assert list(shipped.studies["table3"].vary.temperature or ()) == list(dict.fromkeys(printed))
    square = {(shipped.features("baby", arm), shipped.arm(arm).d) for _, _, _, _, arm in shipped.variations("capacity")}
    assert len(square) == 4
    assert {shipped.features("sports", arm).given for arm in ("vanilla", "vanilla_matched")} == {  # type: ignore[union-attr]
        "image_features_Sports_and_Outdoors.b"
    }
    released = shipped.features("baby", shipped.variations("slips")[-1].arm)
    assert isinstance(released, MadeFeatures)


DEMO = ["../cliper/data/demo"]


def test_every_overlay_in_the_repository_fits_the_shipped_config() -> None:
    for overlays in (["films"], ["films", "films_fusions"], [*DEMO, "line"], DEMO, ["../cliper/data/quick"]):
        paths = [toy.REPOSITORY / "config.yaml", *(toy.REPOSITORY / f"tests/{name}.yaml" for name in overlays)]
        assert config.load(paths).name in ("films", "films-fusions", "demo", "quick")


@pytest.mark.parametrize("more", [[], ["reference_films_norm.yaml"], ["reference_films_slmrec.yaml"]])
def test_the_reference_runs_regularise_each_backbone_as_the_toolbox_does(more: list[str]) -> None:
    paths = [toy.REPOSITORY / "config.yaml", *(toy.REPOSITORY / "tests" / f for f in ("reference_films.yaml", *more))]
    chosen = config.load(paths)
    wanted = {"slmrec": (1e-4, "parameters"), "lightgcn": (1e-4, "batch"), "bpr": (1e-4, "batch")}
    for backbone in chosen.run.backbones:
        weight, where = wanted.get(backbone, (0, chosen.train.weight_decay_on))
        assert (chosen.train.weight_decay, chosen.train.weight_decay_on) == (weight, where)


def test_every_table_and_figure_has_a_title() -> None:
    shipped = config.load([toy.REPOSITORY / "config.yaml"])
    named = {*decides.tables_of(shipped), *decides.figures_of(shipped)}
    assert named == decides.TITLES.keys() | shipped.studies_of_run.keys()
