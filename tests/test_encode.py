"""The encode stage: tables in, tables out; items without an image get the mean of the others."""

import io
import re
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy
from PIL import Image

from cliper import files
from cliper.__main__ import main
from cliper.collect.images.shards import shard_folder
from cliper.errors import ConfigError, DataError
from cliper.features import encode
from cliper.features.embeddings.ranges import read_ranges
from cliper.features.embeddings.store import VectorStore
from cliper.layout import At, Layout

pytestmark = pytest.mark.usefixtures("packaged_models_read_once")
ENCODE = Path("results/shared/encode")
WHOLE = {"range": 0, "ranges": 1}  # one range: all items
IMAGES = {"dataset": "baby", "encoder": "lite0", **WHOLE}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # results lie below the working directory
    return toy.settings(encode={"batch_size": 4, "batch_tokens": 64})  # batches are filled up


def at(settings, **names):
    """Paths of a job's results."""
    return At(Layout(settings), names)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def write_images(settings, images):
    """A manifest and one shard: item -> bytes, or None where crawl got none."""
    manifest = toy.path(settings, "images", dataset="baby")
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


def test_a_thread_keeps_the_order_and_passes_errors_on():
    def stream():
        yield [1]
        yield [2]
        raise DataError("shard is broken")

    seen = []
    with pytest.raises(DataError, match="shard is broken"):
        seen.extend(encode.in_thread(stream()))
    assert list(encode.in_thread(iter([[1], [2], [3]]))) == [[1], [2], [3]]


def test_images_are_encoded_and_broken_ones_counted(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: None, 2: png("blue"), 3: png("teal")[:60], 4: b"<html>", 5: None})

    toy.run("encode-image", settings, dataset="baby", encoder="lite0")

    table = files.read_table(toy.path(settings, "image_embeddings", **IMAGES), "image_embeddings")
    assert table["item"].to_list() == [0, 1, 2, 3, 4, 5]
    assert table["status"].to_list() == ["ok", "no_image", "ok", "undecodable", "undecodable", "no_image"]
    assert table["embedding"].is_null().to_list() == [False, True, False, True, True, True]
    present = table["embedding"].drop_nulls().to_numpy()
    assert present.shape == (2, 1280)
    assert not np.allclose(present[0], present[1])
    assert "2 images cannot be decoded (first: item 3, OSError" in caplog.text
    assert "baby, lite0: 6 items, 2 no_image, 2 undecodable; distinct images: 2 encoded, 0 found" in caplog.text


def test_a_range_without_any_image_has_rows_of_the_same_width(settings):
    toy.run("weights", settings, encoder="lite0")
    write_images(settings, {0: None, 1: None, 2: png("red"), 3: None})
    cut = toy.changed(settings, "encode", ranges=2)
    toy.run("encode-image", cut, dataset="baby", encoder="lite0")
    paths = at(cut, dataset="baby", encoder="lite0").ranges("image_embeddings", 2)
    table = read_ranges(paths, "image_embeddings")
    assert table["status"].to_list() == ["no_image", "no_image", "ok", "no_image"]
    assert table["embedding"].dtype == pl.Array(pl.Float32, 1280)


def test_bytes_that_crawl_did_not_fetch_stop_the_stage(settings):
    toy.run("weights", settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: png("blue")})
    shard = shard_folder(toy.path(settings, "images", dataset="baby")) / "images-00000.parquet"
    swapped = files.read_table(shard, "image_shard").with_columns(bytes=pl.Series([png("red"), png("teal")]))
    files.write_table(shard, "image_shard", swapped)
    with pytest.raises(DataError, match=r"00000\.parquet has other images .* Run: python -m cliper crawl ") as raised:
        toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    place = str(raised.value).rpartition("--place ")[2]
    assert Layout(settings).names_of("crawl", place, {"dataset": None}) == {"dataset": "baby"}
    assert not [path for path in ENCODE.rglob("*") if path.is_file()]


def test_a_corrupt_shard_of_images_stops_the_stage_and_leaves_nothing(settings, capsys):
    toy.run("weights", settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: png("blue")})
    capsys.readouterr()
    shard = shard_folder(toy.path(settings, "images", dataset="baby")) / "images-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-30])
    config = str(toy.REPOSITORY / "config.yaml")
    assert main(["encode-image", "--config", config, "--dataset", "baby", "--encoder", "lite0"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    again = r"Run: python -m cliper crawl --config \S+ --place crawl/baby-\w+$"
    assert re.match(rf"DataError: .*images-00000.parquet cannot be read .* {again}", line)
    assert not [path for path in ENCODE.rglob("*") if path.is_file()]


def test_corrupt_prompts_and_weights_are_one_line_and_leave_nothing(settings, capsys):
    toy.run("weights", settings, encoder="minilm")
    names = write_prompts(settings, "title", ["lamp"])
    prompts, ready = toy.path(settings, "prompts", **names), toy.path(settings, "weights", encoder="minilm")
    command = ["encode-text", "--config", str(toy.REPOSITORY / "config.yaml"), "--encoder", "minilm"]
    command += [part for name, value in names.items() for part in (f"--{name}", value)]
    for path, complaint in ((prompts, "cannot be read"), (ready, "is no JSON")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        capsys.readouterr()
        assert main(command) == 2
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"DataError: {path} {complaint}")
        assert not ENCODE.exists()
        path.write_bytes(whole)
    assert main(command) == 0


def test_the_default_image_is_encoded_once_an_encoder(settings):
    toy.run("weights", settings, encoder="lite0")
    toy.run("encode-default-image", settings, encoder="lite0")
    table = files.read_table(toy.path(settings, "default_image", encoder="lite0"), "default_image")
    assert table["item"].to_list() == [-1]
    assert table["embedding"].to_numpy().shape == (1, 1280)


def test_texts_are_encoded_with_a_note_of_what_made_them(settings, caplog):
    caplog.set_level("INFO")
    names = {"dataset": "baby", "prompts": "as_described", "view": "title"}
    texts = ["red lamp", "lamp " * 300, "red lamp"]
    prompts = {"item": [0, 1, 2], "view": ["title"] * 3, "text": texts, "is_missing": [False, False, True]}
    files.write_table(toy.path(settings, "prompts", **names), "prompts", pl.DataFrame(prompts))
    toy.run("weights", settings, encoder="minilm")

    toy.run("encode-text", settings, encoder="minilm", **names)

    path = toy.path(settings, "text_embeddings", encoder="minilm", **WHOLE, **names)
    table = files.read_table(path, "text_embeddings")
    assert table["text_sha256"].to_list() == [sha256(text.encode()).hexdigest() for text in texts]
    embedding = table["embedding"].to_numpy()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-6)
    assert np.array_equal(embedding[0], embedding[2])
    assert table["n_tokens"].to_list() == [4, 302, 4]
    assert table["truncated"].to_list() == [False, True, False]
    assert table["is_missing"].to_list() == [False, False, True]
    note = files.read_metadata(path, "text_embeddings")
    ready = files.read_json(toy.path(settings, "weights", encoder="minilm"), made_by="weights")
    assert (note["encoder"], note["weights"], note["context"]) == ("minilm", ready["id"], 256)
    assert {"torch", "transformers"} <= set(note["versions"])
    assert note["files"] == ready["files"]
    account = "3 items, 2 distinct texts, tokens 4 to 302 (median 4), 1 truncated, 0 in slices; 2 encoded, 0 found"
    assert account in caplog.text


def write_prompts(settings, view, texts):
    names = {"dataset": "baby", "prompts": "as_described", "view": view}
    table = {"item": range(len(texts)), "view": [view] * len(texts), "text": texts, "is_missing": [False] * len(texts)}
    schema = {"item": pl.Int32, "view": pl.String, "text": pl.String, "is_missing": pl.Boolean}
    files.write_table(toy.path(settings, "prompts", **names), "prompts", pl.DataFrame(table, schema))
    return names


def encode_text(settings, names):
    """Encode a view; the bytes of its table."""
    toy.run("encode-text", settings, encoder="minilm", **names)
    return toy.path(settings, "text_embeddings", encoder="minilm", **WHOLE, **names).read_bytes()


def test_only_new_texts_are_encoded_and_the_bytes_are_those_of_a_clean_run(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    texts = [f"lamp number {i} {'red ' * (i % 7)}" for i in range(12)]
    edited = [f"new {text}" if i % 3 == 0 else text for i, text in enumerate(texts)]  # 4 of 12

    first = encode_text(settings, write_prompts(settings, "title", texts))
    assert "12 encoded, 0 found in the store" in caplog.text
    assert encode_text(settings, write_prompts(settings, "title", texts)) == first
    assert "0 encoded, 12 found in the store" in caplog.text
    other_view = write_prompts(settings, "brand", edited)  # another view, and it might be another dataset
    incremental = encode_text(settings, other_view)
    assert "4 encoded, 8 found in the store" in caplog.text

    shutil.rmtree(settings.encode.store)  # safe to delete
    assert encode_text(settings, other_view) == incremental
    without = toy.changed(settings, "encode", store=None)
    assert encode_text(without, other_view) == incremental
    assert caplog.text.count("12 encoded, 0 found in the store") == 3


def test_a_broken_store_is_warned_of_and_not_used(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    names = write_prompts(settings, "title", ["red lamp", "lamp"])
    first = encode_text(settings, names)
    (kept,) = Path(settings.encode.store).rglob("*.parquet")
    kept.write_bytes(kept.read_bytes()[:100])
    assert encode_text(settings, names) == first
    assert "it is ignored" in caplog.text
    assert caplog.text.count("2 encoded, 0 found") == 2


def test_a_long_text_is_encoded_in_slices_led_by_the_views_words(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    summed = toy.changed(settings, "encode", overflow="chunk_sum_as_released")
    long = "The product title is " + "ok " * 300
    names = write_prompts(summed, "title", [long, "lamp"])
    encode_text(summed, names)
    path = toy.path(summed, "text_embeddings", encoder="minilm", **WHOLE, **names)
    table = files.read_table(path, "text_embeddings")
    assert table["n_chunks"].to_list() == [5, 1]  # 921 characters
    assert table["truncated"].to_list() == [False, False]
    assert files.read_metadata(path, "text_embeddings")["overflow"] == "chunk_sum_as_released"
    assert "0 truncated, 1 in slices; 6 encoded" in caplog.text
    slices = [long[i : i + 230] for i in range(0, len(long), 230)]
    alone = write_prompts(summed, "brand", [slices[0], *(f"The product title is {part}" for part in slices[1:])])
    encode_text(summed, alone)
    path = toy.path(summed, "text_embeddings", encoder="minilm", **WHOLE, **alone)
    parts = files.read_table(path, "text_embeddings")["embedding"].to_numpy()
    np.testing.assert_allclose(table["embedding"].to_numpy()[0], parts.sum(axis=0), atol=1e-5)


def test_precision_is_recorded_and_its_vectors_are_kept_apart(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    names = write_prompts(settings, "title", ["lamp", ""])  # a text without a word is one, too
    encode_text(settings, names)
    halved = toy.changed(settings, "encode", precision="bf16")
    encode_text(halved, names)
    assert caplog.text.count("2 encoded, 0 found in the store") == 2
    path = toy.path(halved, "text_embeddings", encoder="minilm", **WHOLE, **names)
    assert files.read_metadata(path, "text_embeddings")["precision"] == "bf16"
    assert np.isfinite(files.read_table(path, "text_embeddings")["embedding"].to_numpy()).all()


@pytest.mark.parametrize("store", ["results/_vectors", None])
def test_ranges_and_chunks_change_no_byte_and_encode_no_text_twice(settings, caplog, monkeypatch, store):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    texts = [f"lamp {i % 3} {'red ' * (i % 5)}" for i in range(45)]  # 15 distinct, each three times
    names = write_prompts(settings, "title", texts)
    where = {"encoder": "minilm", **names}

    def encode_in(ranges):
        cut = toy.changed(settings, "encode", store=store, ranges=ranges)
        toy.run("encode-text", cut, **where)
        return read_ranges(at(cut, **where).ranges("text_embeddings", ranges), "text_embeddings")

    whole = encode_in(1)
    shutil.rmtree("results/_vectors", ignore_errors=True)
    caplog.clear()
    monkeypatch.setattr(encode, "CHUNK", 4)
    assert encode_in(1).equals(whole)
    assert "45 items, 15 distinct texts" in caplog.text
    assert "15 encoded, 0 found in the store" in caplog.text
    assert encode_in(2).equals(whole)
    expected = "15 encoded, 0 found" if store is None else "0 encoded, 15 found"
    assert f"{expected} in the store" in caplog.messages[-1]
    assert re.search(r" \(range 1 of 2\); \d+\.\d s$", caplog.messages[-1])


def test_a_killed_job_loses_one_chunk_and_no_more(settings, caplog, monkeypatch):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="minilm")
    names = write_prompts(settings, "title", [f"lamp {i}" for i in range(10)])
    monkeypatch.setattr(encode, "CHUNK", 4)
    whole, n_calls = encode.text_table, []

    def killed(*rows):
        n_calls.append(1)
        if len(n_calls) == 3:
            raise KeyboardInterrupt
        return whole(*rows)

    monkeypatch.setattr(encode, "text_table", killed)
    monkeypatch.setattr(VectorStore, "__exit__", lambda *_: None)  # kill -9 runs no clean-up
    with pytest.raises(KeyboardInterrupt):
        toy.run("encode-text", settings, encoder="minilm", **names)
    assert not [path for path in ENCODE.rglob("*") if path.is_file()]
    monkeypatch.setattr(encode, "text_table", whole)
    toy.run("encode-text", settings, encoder="minilm", **names)
    assert "2 encoded, 8 found in the store" in caplog.text


def test_one_range_is_made_alone_and_one_that_is_not_there_is_refused(settings):
    toy.run("weights", settings, encoder="minilm")
    names = write_prompts(settings, "title", ["a", "b", "c"])
    cut = toy.changed(settings, "encode", ranges=2)
    toy.run("encode-text", cut, encoder="minilm", **names, range=1)
    (made,) = ENCODE.rglob("*.parquet")
    assert made.name == "1-of-2.parquet"
    assert made == toy.path(cut, "text_embeddings", encoder="minilm", range=1, ranges=2, **names)
    assert files.read_table(made, "text_embeddings")["item"].to_list() == [1, 2]
    with pytest.raises(ConfigError, match="--range 2: encode.ranges is 2, so ranges are numbered from 0 to 1"):
        toy.run("encode-text", cut, encoder="minilm", **names, range=2)
    many = toy.changed(settings, "encode", ranges=4)
    with pytest.raises(DataError, match=r"3 items cannot be cut into 4 ranges; lower encode.ranges"):
        toy.run("encode-text", many, encoder="minilm", **names)


def test_equal_images_are_encoded_once_and_known_ones_not_at_all(settings, caplog):
    caplog.set_level("INFO")
    toy.run("weights", settings, encoder="lite0")
    path = toy.path(settings, "image_embeddings", **IMAGES)
    write_images(settings, {0: png("red"), 1: png("blue"), 2: png("red")})
    toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    assert "3 items, 0 no_image, 0 undecodable; distinct images: 2 encoded, 0 found in the store" in caplog.text
    red = files.read_table(path, "image_embeddings")["embedding"].to_numpy()
    assert np.array_equal(red[0], red[2])
    write_images(settings, {0: png("teal"), 1: None, 2: png("red"), 3: png("teal")[:60]})
    toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    assert "4 items, 1 no_image, 1 undecodable; distinct images: 1 encoded, 1 found in the store" in caplog.text
    incremental = path.read_bytes()
    assert np.array_equal(files.read_table(path, "image_embeddings")["embedding"].to_numpy()[2], red[0])
    shutil.rmtree(settings.encode.store)
    toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    assert path.read_bytes() == incremental


def test_encoding_twice_gives_equal_bytes(settings):
    toy.run("weights", settings, encoder="lite0")
    write_images(settings, {0: png("red"), 1: None})
    path = toy.path(settings, "image_embeddings", **IMAGES)
    toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    first = path.read_bytes()
    toy.run("encode-image", settings, dataset="baby", encoder="lite0")
    assert path.read_bytes() == first


def test_weights_that_are_not_ready_name_the_command(settings):
    write_images(settings, {0: png("red"), 1: None})
    with pytest.raises(DataError, match="python -m cliper weights --encoder lite0"):
        toy.run("encode-image", settings, dataset="baby", encoder="lite0")
