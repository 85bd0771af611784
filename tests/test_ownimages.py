"""A folder of a user's own images instead of URLs."""

from __future__ import annotations

import io
import os
from pathlib import Path

import polars as pl
import pytest
import toy
import yaml
from line import SNAKEMAKE, call
from PIL import Image

from cliper import files
from cliper.collect import crawl
from cliper.collect.images.shards import read_images, shard_folder
from cliper.config import Config
from cliper.errors import DataError
from cliper.schemas import TABLES


def picture(colour: str, kind: str = "JPEG", size: int = 40) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(out, kind)
    return out.getvalue()


def crawled(asins: list[str | None], *, folder: str = "pictures", **limits: float) -> dict[str | None, str]:
    """Crawl a dataset of these items; the status of each."""
    config = configured(folder, **limits)
    blank = {name: pl.lit(None) for name in TABLES["items"].columns if name not in ("item", "asin", "image_url")}
    items = pl.DataFrame({"item": range(len(asins)), "asin": asins, "image_url": ["http://h.invalid/x"] * len(asins)})
    files.write_table(toy.path(config, "items", dataset="toy"), "items", items.with_columns(**blank))
    toy.run("crawl", config, dataset="toy")
    return dict(zip(asins, manifest(config)["status"], strict=True))


def configured(folder: str, **limits: float) -> Config:
    return toy.settings(**toy.dataset(Path("unused"), image_folder=folder), crawl={"min_ok": 0, **limits})


def manifest(config: Config) -> pl.DataFrame:
    return files.read_table(toy.path(config, "images", dataset="toy"), "images")


@pytest.fixture
def pictures(workdir: Path) -> Path:
    (workdir / "pictures").mkdir()
    return workdir / "pictures"


def test_files_are_found_by_the_items_ids_and_each_item_has_a_status(pictures: Path) -> None:
    bodies = {
        "A.jpg": picture("red"),
        "B.PNG": picture("blue", "PNG"),
        "cut.jpg": picture("red")[:-60],
        "page.jpg": b"<html>",
        "dot.png": picture("red", "PNG", size=1),
        "heavy.jpg": picture("red") + b"x" * 5000,
        "notes.txt": b"no image",
        "C.txt": picture("red"),
    }
    for name, body in bodies.items():
        (pictures / name).write_bytes(body)
    (pictures / "D.jpg").mkdir()
    wanted = ["A", "B", "C", "D", "cut", "page", "dot", "heavy", "gone", None, "../pictures/A"]
    assert crawled(wanted, max_bytes=4000) == {
        "A": "ok",
        "B": "ok",
        "C": "no_file",
        "D": "no_file",
        "cut": "truncated",
        "page": "not_an_image",
        "dot": "too_small",
        "heavy": "too_large",
        "gone": "no_file",
        None: "no_file",
        "../pictures/A": "no_file",  # an id is looked up, never a path
    }
    images = dict(read_images(toy.path(configured("pictures", max_bytes=4000), "images", dataset="toy")))
    assert images == {0: bodies["A.jpg"], 1: bodies["B.PNG"]}


def test_subfolders_are_searched_and_the_first_file_by_path_is_used(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = {"b/A.jpg": picture("red"), "a/deep/A.jpg": picture("blue"), "a/B?1.jpg": picture("green")}
    for name, body in bodies.items():
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(body)
    (pictures / "a" / "up").symlink_to(pictures)  # a circle
    assert crawled(["A", "B?1", "a/B?1", "C"]) == {"A": "ok", "B?1": "ok", "a/B?1": "no_file", "C": "no_file"}
    assert "1 more files of items that have one; the first by path is used" in caplog.text
    path = toy.path(configured("pictures"), "images", dataset="toy")
    assert dict(read_images(path)) == {0: bodies["a/deep/A.jpg"], 1: bodies["a/B?1.jpg"]}


def test_a_crawl_depends_on_all_subfolders(pictures: Path, workdir: Path) -> None:
    (pictures / "deeper" / "still").mkdir(parents=True)
    overlay = toy.dataset(workdir / "raw", image_folder=str(pictures))
    overlay |= {"encoders": {"bridge": {"kind": "bridge"}}, "arms": {"cliper": {"image": "bridge", "text": "bridge"}}}
    (workdir / "mine.yaml").write_text(yaml.safe_dump(overlay))
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    files = ["--configfile", str(toy.REPOSITORY / "config.yaml"), str(workdir / "mine.yaml")]
    asked = [*SNAKEMAKE, "--until", "crawl", "-n", "--directory", str(workdir), *files]
    planned = call(toy.REPOSITORY, *asked).stdout
    assert f"items.parquet, {pictures}, {pictures}/deeper, {pictures}/deeper/still\n" in planned


def test_a_folder_whose_name_is_no_text_is_refused(pictures: Path) -> None:
    odd = pictures / os.fsdecode(b"\xff")
    odd.mkdir()
    (odd / "A.jpg").write_bytes(picture("red"))
    with pytest.raises(DataError, match=r"has a file whose path is no UTF-8: '\\udcff/A.jpg'; rename it"):
        crawled(["A"])


def test_a_file_that_changed_is_read_again_and_others_stay(pictures: Path) -> None:
    (pictures / "A.jpg").write_bytes(picture("red"))
    crawled(["A", "B"])
    (pictures / "A.jpg").write_bytes(picture("blue"))
    (pictures / "B.png").write_bytes(picture("green", "PNG"))
    assert crawled(["A", "B"]) == {"A": "ok", "B": "ok"}
    path = toy.path(configured("pictures"), "images", dataset="toy")
    assert dict(read_images(path)) == {0: picture("blue"), 1: picture("green", "PNG")}


def test_a_damaged_shard_is_read_again_from_the_folder(pictures: Path) -> None:
    (pictures / "A.jpg").write_bytes(picture("red"))
    crawled(["A", "B"])
    path = toy.path(configured("pictures"), "images", dataset="toy")
    (shard,) = shard_folder(path).iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole.replace(b"JFIF", b"JFIG"))
    with pytest.raises(DataError, match=f"{shard.name}"):
        dict(read_images(path))
    crawled(["A", "B"])
    assert shard.read_bytes() == whole


def test_two_files_of_an_item_are_warned_of_and_the_first_by_name_is_used(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "A.png").write_bytes(picture("green", "PNG"))
    (pictures / "A.jpg").write_bytes(picture("red"))
    assert crawled(["A"]) == {"A": "ok"}
    assert "1 more files of items that have one" in caplog.text
    path = toy.path(configured("pictures"), "images", dataset="toy")
    assert dict(read_images(path)) == {0: picture("red")}


def test_a_file_that_disappears_meanwhile_is_a_status(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pictures / "A.jpg").write_bytes(picture("red"))
    (pictures / "B.jpg").write_bytes(picture("blue"))
    find = crawl.find_images

    def find_and_lose(items: pl.DataFrame, folder: Path) -> pl.DataFrame:
        found = find(items, folder)
        (folder / "B.jpg").unlink()
        return found

    monkeypatch.setattr(crawl, "find_images", find_and_lose)
    assert crawled(["A", "B"]) == {"A": "ok", "B": "no_file"}


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [("nowhere", "nowhere is no folder"), ("pictures", r"pictures has no file named by an item, such as A\.jpg")],
)
def test_a_folder_that_cannot_be_meant_is_refused(pictures: Path, folder: str, complaint: str) -> None:
    (pictures / "other.jpg").write_bytes(picture("red"))
    with pytest.raises(DataError, match=complaint):
        crawled(["A"], folder=folder)
