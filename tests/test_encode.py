"""The encode stage: tables in, tables out; items without an image get the mean of the others."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cliper import config, encode, files, weights
from cliper.errors import DataError, FeatureError
from cliper.imagestore import shard_folder
from cliper.layout import locate

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # results lie below the working directory
    return config.load([REPOSITORY / "config.yaml"])


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def write_images(settings, images):
    """A manifest and one shard: item -> bytes, or None where crawl got none."""
    manifest = locate(settings.root, "images", dataset="baby")
    there = [data for data in images.values() if data is not None]
    url = {"url": "http://shop.test/", "status": "ok", "http_code": 200, "sha256": "", "width": 40, "height": 30}
    unknown = dict.fromkeys(("format", "mode", "is_animated", "orientation"))
    shard = [
        {"row": row, **url, **unknown, "final_url": None, "detail": None, "bytes": data}
        for row, data in enumerate(there)
    ]
    files.write_table(shard_folder(manifest) / "images-00000.parquet", "image_shard", pl.DataFrame(shard))
    rows = [
        {
            "item": item,
            "status": "http_error" if data is None else "ok",
            "http_code": 404 if data is None else 200,
            "shard": None if data is None else "images-00000.parquet",
            "row": None if data is None else there.index(data),
            "sha256": None if data is None else sha256(data).hexdigest(),
            "width": None,
            "height": None,
            "detail": None,
            **unknown,
        }
        for item, data in images.items()
    ]
    files.write_table(manifest, "images", pl.DataFrame(rows))


def test_missing_images_get_the_mean_of_the_present_ones():
    items = np.array([0, 1, 2, 3], np.int32)
    filled, is_fallback = encode.fill_missing(items, [1, 3], np.array([[1, 0], [3, 4]], np.float32))
    assert filled.tolist() == [[2, 2], [1, 0], [2, 2], [3, 4]]
    assert is_fallback.tolist() == [True, False, True, False]


def test_without_any_image_there_is_no_mean():
    with pytest.raises(FeatureError, match="no item has an image"):
        encode.fill_missing(np.array([0, 1], np.int32), [], np.empty((0, 0), np.float32))


def test_a_thread_keeps_the_order_and_passes_errors_on():
    def stream():
        yield [1]
        yield [2]
        raise DataError("shard is broken")

    seen = []
    with pytest.raises(DataError, match="shard is broken"):
        seen.extend(encode.in_thread(stream()))
    assert list(encode.in_thread(iter([[1], [2], [3]]))) == [[1], [2], [3]]


def test_images_are_encoded_and_broken_ones_told(settings, caplog):
    caplog.set_level("INFO")
    weights.run(settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: None, 2: png("blue"), 3: png("teal")[:60], 4: b"<html>", 5: None})

    encode.run_image(settings, dataset="baby", encoder="lite0")

    path = locate(settings.root, "image_embeddings", dataset="baby", encoder="lite0")
    table = files.read_table(path, "image_embeddings")
    embedding = table["embedding"].to_numpy()
    assert table["item"].to_list() == [0, 1, 2, 3, 4, 5]
    assert table["is_fallback"].to_list() == [False, True, False, True, True, True]
    assert embedding.shape == (6, 1280)
    assert not np.allclose(embedding[0], embedding[2])
    np.testing.assert_allclose(embedding[[1, 3, 4, 5]], [(embedding[0] + embedding[2]) / 2] * 4, rtol=1e-6)
    default = locate(settings.root, "default_image", dataset="baby", encoder="lite0")
    assert files.read_table(default, "default_image")["embedding"].to_numpy().shape == (1, 1280)
    assert "2 images cannot be decoded and get the mean (first: item 3, OSError" in caplog.text
    assert "baby, lite0: 6 items, 4 without an image" in caplog.text


def test_texts_are_encoded_with_a_note_of_what_made_them(settings, caplog):
    caplog.set_level("INFO")
    names = {"dataset": "baby", "prompts": "as_described", "view": "title"}
    texts = ["red lamp", "lamp " * 300, "red lamp"]
    prompts = {"item": [0, 1, 2], "view": ["title"] * 3, "text": texts, "is_missing": [False, False, True]}
    files.write_table(locate(settings.root, "prompts", **names), "prompts", pl.DataFrame(prompts))
    weights.run(settings, encoder="minilm")

    encode.run_text(settings, encoder="minilm", **names)

    path = locate(settings.root, "text_embeddings", encoder="minilm", **names)
    table = files.read_table(path, "text_embeddings")
    embedding = table["embedding"].to_numpy()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-6)
    assert np.array_equal(embedding[0], embedding[2])
    assert table["n_tokens"].to_list() == [4, 302, 4]
    assert table["truncated"].to_list() == [False, True, False]
    assert table["is_missing"].to_list() == [False, False, True]
    note = files.read_metadata(path)
    ready = files.read_json(locate(settings.root, "weights", encoder="minilm"), made_by="weights")
    assert (note["encoder"], note["weights"], note["context"]) == ("minilm", ready["id"], 256)
    assert {"torch", "transformers"} <= set(note["versions"])
    assert note["files"] == ready["files"]
    told = "3 items, 2 distinct texts, tokens 4 to 302 (median 4), 1 truncated, 0 in slices; 2 encoded, 0 found"
    assert told in caplog.text
    report = files.read_table(locate(settings.root, "token_report", encoder="minilm", **names), "token_report")
    assert report.row(0) == ("title", 3, 2, 4, 4.0, 302, 1, 0)


def write_prompts(settings, view, texts):
    names = {"dataset": "baby", "prompts": "as_described", "view": view}
    table = {"item": range(len(texts)), "view": [view] * len(texts), "text": texts, "is_missing": [False] * len(texts)}
    schema = {"item": pl.Int32, "view": pl.String, "text": pl.String, "is_missing": pl.Boolean}
    files.write_table(locate(settings.root, "prompts", **names), "prompts", pl.DataFrame(table, schema))
    return names


def encode_text(settings, names):
    """Encode a view; the bytes of its table."""
    encode.run_text(settings, encoder="minilm", **names)
    return locate(settings.root, "text_embeddings", encoder="minilm", **names).read_bytes()


def test_only_new_texts_are_encoded_and_the_bytes_are_those_of_a_clean_run(settings, caplog):
    caplog.set_level("INFO")
    weights.run(settings, encoder="minilm")
    texts = [f"lamp number {i} {'red ' * (i % 7)}" for i in range(40)]
    edited = [f"new {text}" if i % 3 == 0 else text for i, text in enumerate(texts)]  # 14 of 40

    first = encode_text(settings, write_prompts(settings, "title", texts))
    assert "40 encoded, 0 found in the store" in caplog.text
    assert encode_text(settings, write_prompts(settings, "title", texts)) == first
    assert "0 encoded, 40 found in the store" in caplog.text
    other_view = write_prompts(settings, "brand", edited)  # another view, and it might be another dataset
    incremental = encode_text(settings, other_view)
    assert "14 encoded, 26 found in the store" in caplog.text

    shutil.rmtree(settings.encode.store)  # safe to delete
    assert encode_text(settings, other_view) == incremental
    without = replace(settings, encode=replace(settings.encode, store=None))
    assert encode_text(without, other_view) == incremental
    assert caplog.text.count("40 encoded, 0 found in the store") == 3


def test_a_broken_store_is_warned_of_and_encoded_anew(settings, caplog):
    caplog.set_level("INFO")
    weights.run(settings, encoder="minilm")
    names = write_prompts(settings, "title", ["red lamp", "lamp"])
    first = encode_text(settings, names)
    (kept,) = Path(settings.encode.store).rglob("*.parquet")
    kept.write_bytes(kept.read_bytes()[:100])
    assert encode_text(settings, names) == first
    assert "it is ignored" in caplog.text
    assert caplog.text.count("2 encoded, 0 found") == 2


def test_a_long_text_is_encoded_in_slices_led_by_the_views_words(settings, caplog):
    caplog.set_level("INFO")
    weights.run(settings, encoder="minilm")
    summed = replace(settings, encode=replace(settings.encode, overflow="chunk_sum_as_released"))
    long = "The product title is " + "ok " * 300
    names = write_prompts(summed, "title", [long, "lamp"])
    encode_text(summed, names)
    path = locate(settings.root, "text_embeddings", encoder="minilm", **names)
    table = files.read_table(path, "text_embeddings")
    assert table["n_chunks"].to_list() == [5, 1]  # 921 characters
    assert table["truncated"].to_list() == [False, False]
    assert files.read_metadata(path)["overflow"] == "chunk_sum_as_released"
    assert "0 truncated, 1 in slices; 6 encoded" in caplog.text
    slices = [long[i : i + 230] for i in range(0, len(long), 230)]
    alone = write_prompts(summed, "brand", [slices[0], *(f"The product title is {part}" for part in slices[1:])])
    encode_text(summed, alone)
    path = locate(settings.root, "text_embeddings", encoder="minilm", **alone)
    parts = files.read_table(path, "text_embeddings")["embedding"].to_numpy()
    np.testing.assert_allclose(table["embedding"].to_numpy()[0], parts.sum(axis=0), atol=1e-5)


def test_equal_images_are_encoded_once_and_known_ones_not_at_all(settings, caplog):
    caplog.set_level("INFO")
    weights.run(settings, encoder="lite0")
    path = locate(settings.root, "image_embeddings", dataset="baby", encoder="lite0")
    write_images(settings, {0: png("red"), 1: png("blue"), 2: png("red")})
    encode.run_image(settings, dataset="baby", encoder="lite0")
    assert (
        "3 items, 0 without an image; 3 distinct images (the default too) encoded, 0 found in the store" in caplog.text
    )
    red = files.read_table(path, "image_embeddings")["embedding"].to_numpy()
    assert np.array_equal(red[0], red[2])
    write_images(settings, {0: png("teal"), 1: None, 2: png("red"), 3: png("teal")[:60]})
    encode.run_image(settings, dataset="baby", encoder="lite0")
    assert (
        "4 items, 2 without an image; 1 distinct images (the default too) encoded, 2 found in the store" in caplog.text
    )
    incremental = path.read_bytes()
    assert np.array_equal(files.read_table(path, "image_embeddings")["embedding"].to_numpy()[2], red[0])
    shutil.rmtree(settings.encode.store)
    encode.run_image(settings, dataset="baby", encoder="lite0")
    assert path.read_bytes() == incremental


def test_encoding_twice_gives_equal_bytes(settings):
    weights.run(settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: None})
    path = locate(settings.root, "image_embeddings", dataset="baby", encoder="lite0")
    encode.run_image(settings, dataset="baby", encoder="lite0")
    first = path.read_bytes()
    encode.run_image(settings, dataset="baby", encoder="lite0")
    assert path.read_bytes() == first


def test_weights_that_are_not_ready_name_the_command(settings):
    write_images(settings, {0: png("red"), 1: None})
    with pytest.raises(DataError, match="python -m cliper weights --encoder lite0"):
        encode.run_image(settings, dataset="baby", encoder="lite0")


@pytest.mark.parametrize("stage", ["weights", "encode-text", "encode-image"])
def test_help_imports_no_torch(stage):
    code = (
        "import sys\nfrom cliper.__main__ import main\n"
        f"try: main(['{stage}', '--help'])\nexcept SystemExit: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
