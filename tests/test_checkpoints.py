"""Checkpoints from a stranger: what is hostile or broken gives a sentence, and nothing in a folder is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import polars as pl
import pytest
import torch
import toy
from open_clip.coca_model import MultimodalCfg
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, RobertaConfig, XLMRobertaConfig

from cliper import config, files
from cliper.__main__ import main
from cliper.collect.sources.records import ITEMS
from cliper.config import Config
from cliper.features.encoders import ENCODERS, checkpoint_files, loading
from cliper.features.encoders.packages import find_package

CONFIG = ["--config", str(toy.REPOSITORY / "config.yaml"), "toy.yaml"]
VIEW = ["--dataset", "toy", "--encoder", "mine", "--prompts", "as_described", "--view", "title"]
CANARY = "canary"
CODE = "open('canary', 'w').close()\n"
MINILM = find_package("all-MiniLM-L6-v2").find().parent  # a tokenizer of Hugging Face
PLAIN: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
HUGGING: dict[str, Any] = PLAIN | {
    "text_cfg": PLAIN["text_cfg"] | {"vocab_size": 30522, "hf_tokenizer_name": "somebody/minilm"}
}
BERT: dict[str, Any] = PLAIN | {
    "custom_text": True,
    "text_cfg": {
        "hf_model_name": "somebody/bert",
        "hf_tokenizer_name": "somebody/bert",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
    },
}
LITTLE_BERT = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 16,
    "pad_token_id": 0,
}


def write(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def make(folder: Path, model: dict[str, Any]) -> Path:
    """A checkpoint with random weights, and with the files that its text tower needs."""
    folder.mkdir(parents=True)
    write(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3}})
    torch.manual_seed(0)
    text = model["text_cfg"]
    if "hf_tokenizer_name" in text:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(MINILM / name, folder / name)
    if "hf_model_name" in text:
        write(folder / "config.json", {"model_type": "bert"} | LITTLE_BERT)
        text = text | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    kind = open_clip.CustomTextCLIP if "custom_text" in model else open_clip.CLIP
    made = kind(**{name: value for name, value in model.items() if name != "custom_text"} | {"text_cfg": text})
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, model in (("plain", PLAIN), ("hugging", HUGGING), ("bert", BERT)):
        make(folder / name, model)
    return folder


@pytest.fixture
def run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config whose encoder is the folder `given`, and the prompts of one item."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arms = {"cliper": {"image": "mine", "text": "mine"}}
    mine = {"kind": "open_clip", "architecture": "local-dir:given", "context": 77}
    overlay = toy.dataset(workdir) | {"encoders": {"mine": mine}, "arms": arms}
    overlay["run"] |= {"arms": ["cliper"], "backbones": ["freedom"]}
    config.write(overlay, Path("toy.yaml"))
    settings = toy.settings(**overlay)
    items = pl.DataFrame([{"asin": "i", "title": "Red lamp"}], schema=ITEMS).with_row_index("item")
    files.write_table(toy.path(settings, "items", dataset="toy"), "items", items)
    toy.run("prompt", settings, dataset="toy", prompts="as_described", view="title")
    return settings


def edit(**changes: Any) -> Callable[[Path], None]:
    """Change keys of open_clip_config.json; a__b is b in a. None removes it."""

    def damage(folder: Path) -> None:
        path = folder / "open_clip_config.json"
        whole = json.loads(path.read_text(encoding="utf-8"))
        for place, value in changes.items():
            *parents, key = place.split("__")
            section = whole
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
            if value is None:
                del section[key]
        write(path, whole)

    return damage


def text(**changes: Any) -> Callable[[Path], None]:
    return edit(**{f"model_cfg__text_cfg__{key}": value for key, value in changes.items()})


def vision(**changes: Any) -> Callable[[Path], None]:
    return edit(**{f"model_cfg__vision_cfg__{key}": value for key, value in changes.items()})


def put(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, value)


def lay_over(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change keys of a JSON file, and put code next to it."""

    def damage(folder: Path) -> None:
        write(folder / name, json.loads((folder / name).read_text(encoding="utf-8")) | changes)
        write(folder / "evil.py", CODE + "class Evil: pass\n")

    return damage


def remote_code(folder: Path) -> None:
    lay_over("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil")(folder)
    text(tokenizer_kwargs={"trust_remote_code": True})(folder)


class Evil:
    """Makes the canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def pickled(name: str, *, is_zipped: bool) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "open_clip_model.safetensors").unlink()
        if is_zipped:
            torch.save({"state_dict": Evil()}, folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(Evil(), protocol=2))

    return damage


def saved(value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "open_clip_model.safetensors").unlink()
        torch.save(value, folder / "pytorch_model.bin")

    return damage


def poorer_vocabulary(folder: Path) -> None:
    """Tokens that the model does not know: the table is cut, and the config with it."""
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    save_file(state | {"token_embedding.weight": state["token_embedding.weight"][:100].clone()}, path)
    text(vocab_size=100)(folder)


NESTED = '{"model_cfg":' * 100_000
ATTACKS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    # which checkpoint, what is done to it, what is said
    "no JSON": ("plain", put("open_clip_config.json", "{'model_cfg': 1}"), "Invalid JSON"),
    "empty": ("plain", put("open_clip_config.json", ""), "Invalid JSON"),
    "no text": ("plain", lambda f: (f / "open_clip_config.json").write_bytes(b"\xff\xfe{") and None, "Invalid JSON"),
    "nested": ("plain", put("open_clip_config.json", NESTED), "recursion limit exceeded"),
    "no object": ("plain", put("open_clip_config.json", "[]"), "is no mapping"),
    "no model_cfg": ("plain", put("open_clip_config.json", "{}"), "model_cfg: missing"),
    "no text_cfg": ("plain", edit(model_cfg__text_cfg=None), "model_cfg.text_cfg: missing"),
    "wrong type": ("plain", edit(model_cfg__embed_dim="8"), "'8' is a string; write a whole number"),
    "NaN": ("plain", vision(mlp_ratio=float("nan")), "nan is no finite number"),
    "negative": ("plain", text(layers=-1), "-1 must be at least 1"),
    "huge": ("plain", vision(width=10**12), "must be at most"),
    "very long number": (
        "plain",
        put("open_clip_config.json", f'{{"model_cfg": {"9" * 5000}}}'),
        "number out of range",
    ),
    "unknown key": ("plain", edit(model_cfg__on_load="evil"), "unknown key 'on_load'; known: embed_dim"),
    "unknown section": ("plain", edit(hooks={}), "unknown key 'hooks'; known: model_cfg, preprocess_cfg"),
    "zero spread": ("plain", edit(preprocess_cfg__std=[0, 1, 1]), "preprocess_cfg.std.0: 0 must be greater than 0"),
    "hub's timm": ("plain", vision(timm_model_name="hf-hub:some/body"), "does not have the form"),
    "unknown timm": ("plain", vision(timm_model_name="resnetty"), "does not fit its open_clip_config.json"),
    "tokenizer by path": ("hugging", text(hf_tokenizer_name="/etc/evil"), "does not have the form"),
    "tokenizer above": ("hugging", text(hf_tokenizer_name="../evil"), "does not have the form"),
    "tokenizer of the hub": ("plain", text(hf_tokenizer_name="some/body"), "tokenizer"),
    "tower by path": ("bert", text(hf_model_name="../evil"), "does not have the form"),
    "tower of the hub": ("plain", text(hf_model_name="some/body"), "config.json"),
    "trust_remote_code": ("hugging", text(tokenizer_kwargs={"trust_remote_code": True}), "'trust_remote_code'; known"),
    "download": ("plain", text(tokenizer_kwargs={"reduction_mask": "syntax"}), "unknown key 'reduction_mask'"),
    "file elsewhere": ("plain", text(tokenizer_kwargs={"bpe_path": "/etc/passwd"}), "unknown key 'bpe_path'"),
    "code": ("hugging", remote_code, "unknown key 'trust_remote_code'"),
    "tokenizer's code": (
        "hugging",
        lay_over("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
        "auto_map: must be left out (it names code",
    ),
    "tower's code": ("bert", lay_over("config.json", auto_map={"AutoConfig": "evil.Evil"}), "unknown key 'auto_map'"),
    "tower's kernel": ("bert", lay_over("config.json", _attn_implementation="some/body"), "'_attn_implementation'"),
    "unknown tower": ("bert", lay_over("config.json", model_type="evil"), "'evil' is not known; known: bert"),
    "huge tower": ("bert", lay_over("config.json", hidden_size=10**9), "must be at most"),
    "other tower": ("bert", lay_over("config.json", hidden_size=32), "does not fit its open_clip_config.json"),
    "no marks": ("hugging", put("tokenizer_config.json", "{}"), "pad_token: missing"),
    "broken tokenizer": ("hugging", put("tokenizer.json", '{"model": {"type": "Evil"}}'), "is no tokenizer"),
    "a tokenizer of nothing": ("hugging", put("tokenizer.json", "[" * 100_000), "is no tokenizer"),
    "heads that do not fit": ("plain", text(heads=3), "does not fit its open_clip_config.json"),
    "another shape": ("plain", vision(layers=2), "Missing key(s) in state_dict: "),
    "two results": ("bert", text(output_tokens=True), "output_tokens is for models with a multimodal_cfg"),
    "vocabulary": ("plain", poorer_vocabulary, "the tokenizer gives token 49407, and the model knows 100"),
    "pickle": ("plain", pickled("pytorch_model.bin", is_zipped=True), "(it is cut, or would run code)"),
    "old pickle": ("plain", pickled("weights.pth", is_zipped=False), "(it is cut, or would run code)"),
    "no tensors": ("plain", saved({"logit_scale": "high"}), "does not fit its open_clip_config.json"),
    "no state": ("plain", saved([1]), "does not fit its open_clip_config.json"),
    "empty state": ("plain", saved({}), "does not fit its open_clip_config.json"),
}
LARGE = {"width": 16_384, "layers": 100}


def is_refused(capsys: pytest.CaptureFixture[str], said: str, *command: str) -> None:
    """The last line is what was said, and the exit code 2; nothing was run."""
    capsys.readouterr()
    assert main([*command, *CONFIG]) == 2
    *before, line = capsys.readouterr().err.splitlines()
    assert all(told.startswith("cliper ") for told in before)
    assert line.startswith(("SourceError: ", "ConfigError: "))
    assert said in line
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_checkpoint_that_is_hostile_or_broken_is_refused_with_a_sentence(
    attack: str, models: Path, run: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    name, damage, said = ATTACKS[attack]
    shutil.copytree(models / name, "given")
    damage(Path("given"))
    is_refused(capsys, said, "weights", "--encoder", "mine")
    assert not toy.path(run, "weights", encoder="mine").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_among_the_results_is_refused_too_wherever_it_is_read(
    attack: str, models: Path, run: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if a stranger had made the results, weights.json with fitting hashes among them."""
    name, damage, said = ATTACKS[attack]
    shutil.copytree(models / name, "given")
    toy.run("weights", run, encoder="mine")
    path = toy.path(run, "weights", encoder="mine")
    damage(path.parent / "local")
    weights = loading.read_weights(run.encoder("mine"), path, name="mine")
    hashes = {f"local/{each.name}": files.sha256(each) for each in (path.parent / "local").iterdir()}
    files.write_json(path, loading.note(run.encoder("mine"), replace(weights, files=hashes)))
    is_refused(capsys, said, "encode-text", *VIEW)
    assert main(["prompt", *CONFIG, "--preview", "1"]) in (0, 2)  # 0 if the damage is not in what a preview reads
    assert not Path(CANARY).exists()


def test_a_preview_reads_no_hostile_tokenizer(models: Path, run: Config, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(models / "hugging", "given")
    toy.run("weights", run, encoder="mine")
    path = toy.path(run, "weights", encoder="mine")
    remote_code(path.parent / "local")
    with pytest.raises(Exception, match="was changed"):
        loading.load_counter(run.encoder("mine"), path, name="mine")
    capsys.readouterr()
    assert main(["prompt", *CONFIG, "--preview", "1"]) == 2
    assert "was changed. Delete" in capsys.readouterr().err
    assert not Path(CANARY).exists()


def test_a_model_larger_than_its_file_takes_no_memory(
    models: Path, run: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "plain", "given")
    text(**LARGE)(Path("given"))  # 1.3 TB
    is_refused(capsys, "does not fit its open_clip_config.json", "weights", "--encoder", "mine")


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(
    models: Path, run: Config, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(models / "hugging", "given")
    Path("given", name).rename("elsewhere")
    Path("given", name).symlink_to(Path("elsewhere").absolute())
    is_refused(capsys, f"given needs {name} as a file, not as a link", "weights", "--encoder", "mine")


def test_only_what_a_model_needs_is_copied(models: Path, run: Config) -> None:
    shutil.copytree(models / "bert", "given")
    for name in ("evil.py", "README.md", "requirements.txt", "special_tokens_map.json", ".hidden"):
        write(Path("given", name), CODE)
    toy.run("weights", run, encoder="mine")
    copied = toy.path(run, "weights", encoder="mine").parent / "local"
    assert sorted(path.name for path in copied.iterdir()) == [
        "config.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize("name", ["aaa.safetensors", "open_clip_pytorch_model.bin", "z.pth", ".safetensors"])
def test_two_files_of_weights_are_refused_by_name_whichever_is_pinned(
    models: Path, run: Config, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(models / "plain", "given")
    shutil.copyfile("given/open_clip_model.safetensors", Path("given", name))
    both = ", ".join(sorted([name, "open_clip_model.safetensors"]))
    is_refused(capsys, f"given has 2 files of weights: {both}; leave one of them", "weights", "--encoder", "mine")


def test_a_second_file_next_to_prepared_weights_is_refused(
    models: Path, run: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "plain", "given")
    Path("given/open_clip_model.safetensors").rename("given/mine.safetensors")
    toy.run("weights", run, encoder="mine")
    ready = toy.path(run, "weights", encoder="mine").parent / "local"
    shutil.copyfile("given/mine.safetensors", ready / "open_clip_model.safetensors")  # open_clip would prefer it
    is_refused(capsys, "2 files of weights: mine.safetensors, open_clip_model", "encode-text", *VIEW)


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.pth", "mine.bin"])
def test_the_pin_and_the_check_for_nan_are_of_the_file_that_is_loaded(
    models: Path, run: Config, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(models / "plain", "given")
    state = load_file("given/open_clip_model.safetensors")
    Path("given/open_clip_model.safetensors").unlink()
    save = save_file if name.endswith("safetensors") else torch.save
    save(state, Path("given", name))
    pinned = {"kind": "open_clip", "architecture": "local-dir:given", "context": 77}
    chosen = ENCODERS.choose(pinned | {"sha256": files.sha256(Path("given", name))})
    assert f"local/{name}" in loading.prepare(chosen, Path("ready"), threads=1).files
    save(state | {"logit_scale": torch.tensor(float("nan"))}, Path("given", name))
    is_refused(capsys, "logit_scale has values that are not finite", "weights", "--encoder", "mine")
    with pytest.raises(Exception, match="as the config asks"):
        loading.prepare(chosen, Path("ready"), threads=1)


@pytest.mark.parametrize("name", ["plain", "hugging", "bert"])
def test_a_sound_checkpoint_gives_what_the_library_gives(models: Path, run: Config, name: str) -> None:
    shutil.copytree(models / name, "given")
    assert main(["weights", "--encoder", "mine", *CONFIG]) == 0
    assert main(["encode-text", *VIEW, *CONFIG]) == 0
    paths = {"dataset": "toy", "encoder": "mine", "prompts": "as_described", "view": "title", "range": 0, "ranges": 1}
    ours = files.read_table(toy.path(run, "text_embeddings", **paths), "text_embeddings")
    here = {"text_cfg": BERT["text_cfg"] | {"hf_model_name": "given", "hf_model_pretrained": False}}
    model, _ = open_clip.create_model_from_pretrained("local-dir:given", **(here if name == "bert" else {}))
    tokens = open_clip.get_tokenizer("local-dir:given")(["The product title is Red lamp."])
    with torch.inference_mode():
        theirs = model.eval().encode_text(tokens).numpy()
    assert np.abs(ours["embedding"].to_numpy() - theirs).max() <= 1e-5


def test_the_models_of_open_clip_can_all_be_written_as_checkpoints() -> None:
    for name in open_clip.list_models():
        model = open_clip.get_model_config(name)
        assert checkpoint_files.Model.model_validate_json(json.dumps(model)).embed_dim == model["embed_dim"]


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig, XLMRobertaConfig])
def test_a_text_tower_is_read_as_transformers_saves_it(kind: Any, tmp_path: Path) -> None:
    AutoModel.from_config(kind(**LITTLE_BERT)).save_pretrained(tmp_path)
    assert checkpoint_files.read(tmp_path / "config.json", checkpoint_files.TextModel).model_type == kind.model_type


@pytest.mark.parametrize(
    ("form", "theirs"),
    [
        (checkpoint_files.VisionTower, CLIPVisionCfg),
        (checkpoint_files.TextTower, CLIPTextCfg),
        (checkpoint_files.Decoder, MultimodalCfg),
        (checkpoint_files.Preprocessing, open_clip.transform.PreprocessCfg),
    ],
)
def test_the_keys_are_those_of_open_clip(form: Any, theirs: Any) -> None:
    assert set(form.model_fields) == {field.name for field in fields(theirs)}
