"""Long-CLIP's files through open_clip: equal to what its own code gave, and other files refused."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import open_clip
import pytest
import torch
from servers import serve
from toy import SHARED

from cliper import files
from cliper.errors import ConfigError, SourceError
from cliper.features.encoders import ENCODERS, loading, longclip, overflow
from cliper.settings import plain

GOLDEN = SHARED / "golden" / "longclip"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the shared golden numbers are not here")
HOW = {"batch_size": 4, "batch_tokens": 256, "threads": 1, "device": "cpu", "precision": "fp32"}
MODEL = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def add_model(monkeypatch, model, name="little"):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, model)


def write(path, state):
    torch.save(state, path)
    settings = {"architecture": "little", "source": str(path), "weights": "as_stored", "context": 248}
    return ENCODERS.choose({"kind": "longclip", **settings})


def changed(chosen, **settings):
    return ENCODERS.choose({**plain(chosen), **settings})


def load(settings, folder):
    weights = loading.prepare(settings, folder, threads=1)
    files.write_json(folder / "weights.json", loading.note(settings, weights))
    return loading.load(settings, folder / "weights.json", name="mine", **HOW)


# --- a stand-in, made here ---


@pytest.fixture
def state():
    """A random model's state under Long-CLIP's names: two tables of 248 positions."""
    torch.manual_seed(0)
    text = {**MODEL["text_cfg"], "context_length": 248}
    found = open_clip.CLIP(**{**MODEL, "text_cfg": text}).state_dict()
    return found | {"positional_embedding_res": torch.randn(248, 64) / 100}


@pytest.fixture
def little(monkeypatch):
    add_model(monkeypatch, MODEL)


def test_longclip_takes_20_positions_from_one_table_and_the_rest_from_the_other(little, state, tmp_path):
    base, learned = state["positional_embedding"], state["positional_embedding_res"]
    model = open_clip.CLIP(**{**MODEL, "text_cfg": {**MODEL["text_cfg"], "context_length": 248}})
    joined = {name: tensor for name, tensor in state.items() if name != "positional_embedding_res"}
    model.load_state_dict(joined | {"positional_embedding": torch.cat([base[:20], learned[20:]])})
    texts = ["red lamp", "lamp " * 100, "lamp " * 300]

    encoder, weights = load(write(tmp_path / "longclip-L.pt", state), tmp_path)

    with torch.inference_mode():
        expected = model.eval().encode_text(open_clip.SimpleTokenizer(context_length=248)(texts)).numpy()
    encoded = encoder.encode_texts(texts)
    assert np.abs(encoded.embedding - expected).max() <= 1e-5
    assert encoded.n_tokens.tolist() == [4, 102, 302]
    assert encoded.truncated.tolist() == [False, False, True]
    digest = sha256((tmp_path / "longclip-L.pt").read_bytes()).hexdigest()
    assert weights.origin == {"source": str(tmp_path / "longclip-L.pt"), "sha256": digest}
    assert weights.context == 248


def test_longclip_rounds_only_what_its_code_computes_in_float16(state):
    stored = longclip.to_open_clip(state, rounds=False)
    rounded = longclip.to_open_clip(state, rounds=True)
    changed = {name for name in stored if not torch.equal(stored[name], rounded[name])}
    assert all(torch.equal(rounded[name], stored[name].half().float()) for name in changed)
    assert {"text_projection", "visual.proj", "visual.conv1.weight"} <= changed
    assert {"transformer.resblocks.0.attn.in_proj_weight", "visual.transformer.resblocks.0.mlp.c_fc.bias"} <= changed
    assert not {"positional_embedding", "token_embedding.weight", "visual.class_embedding"} & changed


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda state: state.pop("positional_embedding_res"), "it lacks positional_embedding_res"),
        (lambda state: [state.update({n: t[:77]}) for n, t in list(state.items()) if "_embedding" in n[:21]], "77"),
        (lambda state: state.update(positional_embedding=torch.ones(77, 64)), "positions have 77 and 248 tokens"),
        (lambda state: state.update(text_projection=torch.ones(64, 9)), "size mismatch for text_projection"),
        (lambda state: state.pop("ln_final.weight"), "Missing key.*ln_final.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "Unexpected key.*extra"),
        (lambda state: state["text_projection"][0].fill_(float("nan")), "text_projection has values that are not fin"),
        (lambda state: state.update(note="no tensor"), "no mapping of names to tensors"),
    ],
)
def test_longclip_refuses_a_file_of_another_kind_and_writes_nothing(little, state, tmp_path, damage, complaint):
    damage(state)
    settings = write(tmp_path / "wrong.pt", state)
    with pytest.raises(SourceError, match=complaint):
        loading.prepare(settings, tmp_path / "weights", threads=1)
    assert not list((tmp_path / "weights").iterdir())


@pytest.mark.parametrize("size", [0, 1000, -100])
def test_longclip_refuses_a_truncated_file(little, state, tmp_path, size):
    settings = write(tmp_path / "cut.pt", state)
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:size])
    with pytest.raises(SourceError, match="does not hold Long-CLIP's weights for little"):
        loading.prepare(settings, tmp_path, threads=1)


def test_longclip_refuses_a_file_that_would_run_code(little, tmp_path):
    settings = write(tmp_path / "evil.pt", {"positional_embedding": pytest.raises})
    with pytest.raises(SourceError, match="does not hold Long-CLIP's weights"):
        loading.prepare(settings, tmp_path, threads=1)


def test_longclip_refuses_another_sha256_than_the_configs(little, state, tmp_path):
    settings = changed(write(tmp_path / "l.pt", state), sha256="0" * 64)
    with pytest.raises(SourceError, match=f"has the sha256 [0-9a-f]{{64}}, not {'0' * 64} as the config asks"):
        loading.prepare(settings, tmp_path, threads=1)


def test_longclip_refuses_an_architecture_with_plain_gelu(monkeypatch, state, tmp_path):
    add_model(monkeypatch, {**MODEL, "quick_gelu": False})
    with pytest.raises(ConfigError, match="add -quickgelu to little"):
        loading.prepare(write(tmp_path / "l.pt", state), tmp_path, threads=1)


def test_longclip_says_which_file_goes_where(little, state, tmp_path):
    settings = changed(write(tmp_path / "elsewhere.pt", state), source="http://127.0.0.1:9/a/resolve/main/l.pt")
    with pytest.raises(SourceError) as error:
        loading.prepare(settings, tmp_path / "weights", threads=1)
    said = f"(no connection); by hand, put http://127.0.0.1:9/a/resolve/main/l.pt into {tmp_path / 'weights'} and run"
    assert said in str(error.value)
    (tmp_path / "elsewhere.pt").rename(tmp_path / "weights" / "l.pt")
    assert loading.prepare(settings, tmp_path / "weights", threads=1).context == 248
    with pytest.raises(SourceError, match="there is no file .*nowhere.pt"):
        loading.prepare(changed(settings, source=str(tmp_path / "nowhere.pt")), tmp_path, threads=1)


def test_longclip_continues_a_half_file(little, state, tmp_path):
    settings = write(tmp_path / "l.pt", state)
    whole, asked = (tmp_path / "l.pt").read_bytes(), []

    def answer(request):
        asked.append(request.headers["Range"])
        start = int(asked[-1][6:-1]) if asked[-1] else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        request.send_header("ETag", '"one"')
        request.send_header("Content-Length", str(len(whole) - start))
        request.end_headers()
        request.wfile.write(whole[start : None if start else 2_000_000])

    with serve(answer) as url:
        fetched = changed(settings, source=f"{url}/l.pt")
        with pytest.raises(SourceError, match="cannot fetch the weights"):
            loading.prepare(fetched, tmp_path / "weights", threads=1)
        loading.prepare(fetched, tmp_path / "weights", threads=1)
    assert asked[0] is None and asked[1] is not None
    assert (tmp_path / "weights" / "l.pt").read_bytes() == whole


# --- golden: what Long-CLIP's own code gave ---


def longclip_golden(monkeypatch, tmp_path, name, weights="as_stored", change=lambda state: state):
    """An encoder from one of the golden files' weights."""
    meta = json.loads((GOLDEN / "meta.json").read_text())
    add_model(monkeypatch, meta["open_clip_config"])
    with np.load(GOLDEN / f"{name}.npz") as stored:
        state = {key: torch.from_numpy(value) for key, value in stored.items()}
    settings = changed(write(tmp_path / f"{name}.pt", change(state)), weights=weights)
    return load(settings, tmp_path / weights)[0], meta


@golden
def test_longclip_golden_texts_images_and_slices(monkeypatch, tmp_path):
    encoder, meta = longclip_golden(monkeypatch, tmp_path, "tiny_longclip_state")
    expected = np.load(GOLDEN / "tiny_longclip_golden.npz")

    found = encoder.encode_texts(meta["texts"])
    assert np.abs(found.embedding - expected["text_features"]).max() <= 1e-5
    tokens, _ = encoder.text.tokenise(meta["texts"])
    padded = [row + [0] * (248 - len(row)) for row in tokens]
    assert np.array_equal(padded, expected["tokens"])

    pixels = [encoder.read_image((GOLDEN / path).read_bytes()) for path in meta["images"].values()]
    given = torch.from_numpy(expected["image_pixels"])
    assert (torch.stack(pixels) - given).abs().max() <= 1e-2  # JPEG decoders differ
    images = np.concatenate([encoder.encode_images(list(part)) for part in given.split(4)])
    assert np.abs(images - expected["image_features"]).max() <= 1e-5

    text, prefix = meta["overlong_text"], meta["overlong_prefix"]
    assert overflow.cut_as_released(text, prefix) == meta["overlong_chunks"]
    released = encoder.encode_texts([text], overflow=overflow.find("chunk_sum_as_released", prefix))
    assert np.abs(released.embedding[0] - expected["chunk_sum"]).max() <= 1e-5
    assert (released.n_chunks.tolist(), released.truncated.tolist()) == ([6], [False])
    mean = encoder.encode_texts([text], overflow=overflow.find("chunk_mean", prefix))
    assert np.abs(mean.embedding[0] - expected["chunk_features"].mean(0)).max() <= 1e-5


@golden
@pytest.mark.parametrize("weights", ["as_stored", "fp16_rounded"])
def test_longclip_golden_unrounded_weights_in_both_modes(monkeypatch, tmp_path, weights):
    encoder, meta = longclip_golden(monkeypatch, tmp_path, "unrounded_state", weights)
    expected = np.load(GOLDEN / "unrounded_golden.npz")
    other = {"as_stored": "fp16_rounded", "fp16_rounded": "as_stored"}[weights]
    pixels = torch.from_numpy(np.load(GOLDEN / "tiny_longclip_golden.npz")["image_pixels"])
    text = encoder.encode_texts(meta["texts"]).embedding
    images = np.concatenate([encoder.encode_images(list(part)) for part in pixels.split(4)])
    for kind, found in (("text", text), ("image", images)):
        assert np.abs(found - expected[f"{kind}_{weights}"]).max() <= 1e-5
        assert np.abs(found - expected[f"{kind}_{other}"]).max() > 1e-4


@golden
@pytest.mark.parametrize(
    "change",
    [
        lambda state: {name: value for name, value in state.items() if name != "positional_embedding_res"},
        lambda state: {name: value[:77] if name.startswith("positional") else value for name, value in state.items()},
        lambda state: state | {"text_projection": state["text_projection"][:, :16]},
    ],
    ids=["no res", "other context", "other widths"],
)
def test_longclip_golden_wrong_files_are_refused(monkeypatch, tmp_path, change):
    with pytest.raises(SourceError, match="does not hold Long-CLIP's weights"):
        longclip_golden(monkeypatch, tmp_path, "tiny_longclip_state", change=change)
