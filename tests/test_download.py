from __future__ import annotations

import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import toy
from servers import serve

from cliper import web
from cliper.collect import download
from cliper.collect.sources.mirrors import Place, check_lock, find_places, known_places
from cliper.config import Config
from cliper.errors import ConfigError, DataError, SourceError

sys.path.append(str(toy.REPOSITORY))  # benchmarks are not installed

from benchmarks.badserver import drip

BODY = bytes(range(256)) * 10_000  # 2.56 MB, more than two chunks


class Host:
    """A file server that knows Range, and can hang up halfway."""

    def __init__(self) -> None:
        self.cut_after: int | None = None
        self.etag = '"one"'
        self.shift = 0  # bytes that Content-Range is wrong by
        self.ranges: list[str | None] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        if "none" in request.path:
            request.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and request.headers["If-Range"] == self.etag else 0
        if start >= len(BODY):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start + self.shift}-{len(BODY) - 1}/{len(BODY)}")
        request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(BODY) - start))
        request.end_headers()
        request.wfile.write(BODY[start : self.cut_after])


def configured(mirrors: list[str], *, timeout_s: float = 5) -> Config:
    overlay: dict[str, Any] = toy.dataset(Path())
    overlay["datasets"]["toy"]["source"]["mirrors"] = mirrors
    return toy.settings(**overlay, download={"timeout_s": timeout_s, "attempts": 1})


JOB = {"dataset": "toy", "file": "ratings_Toy.csv"}


def target(*mirrors: str) -> Path:
    """Where the file of these mirrors lies."""
    return toy.path(configured(list(mirrors)), "raw", **JOB)


def fetch(*mirrors: str, timeout_s: float = 5) -> Path:
    """Fetch the file; returns where it lies."""
    toy.run("download", configured(list(mirrors), timeout_s=timeout_s), **JOB)
    return target(*mirrors)


def test_a_file_comes_whole_over_http(workdir: Path) -> None:
    with serve(Host()) as url:
        fetched = fetch(url)
    assert fetched.read_bytes() == BODY
    assert [path.name for path in fetched.parent.iterdir()] == ["ratings_Toy.csv"]


def test_a_file_comes_from_a_local_folder(workdir: Path) -> None:
    (workdir / "raw").mkdir()
    (workdir / "raw" / "ratings_Toy.csv").write_bytes(BODY)
    assert fetch("raw").read_bytes() == BODY


def test_a_file_in_a_folder_of_the_mirror_keeps_its_folder(workdir: Path) -> None:
    given = {"cliper": {"image": "own/image.npy", "text": "text.npy"}}
    (workdir / "raw" / "own").mkdir(parents=True)
    (workdir / "raw" / "own" / "image.npy").write_bytes(BODY)
    for mirror in ("raw", None):
        with serve(Host()) as url:
            source = {"kind": "mmrec", "inter": "x.inter", "mirrors": [mirror or url], "features": given}
            config = toy.settings(datasets={"toy": {"title": "Toy", "source": source}})
            toy.run("download", config, dataset="toy", file="own/image.npy")
        fetched = toy.path(config, "raw", dataset="toy", file="own/image.npy")
        assert fetched.parts[-2:] == ("own", "image.npy")
        assert fetched.read_bytes() == BODY


def test_a_half_file_is_continued_by_the_next_run(workdir: Path) -> None:
    host = Host()
    with serve(host) as url:
        host.cut_after = 1_500_000
        with pytest.raises(SourceError, match="fetch it by hand"):
            fetch(url)
        assert not target(url).exists()
        host.cut_after = None
        fetched = fetch(url)
    assert host.ranges[0] is None
    assert host.ranges[1] is not None
    assert fetched.read_bytes() == BODY


def test_a_half_file_is_not_continued_with_another_file(workdir: Path) -> None:
    host = Host()
    with serve(host) as url:
        host.cut_after = 1_500_000
        with pytest.raises(SourceError):
            fetch(url)
        host.cut_after, host.etag = None, '"two"'
        fetched = fetch(url)
    assert fetched.read_bytes() == BODY


@pytest.mark.parametrize(("have", "shift"), [(len(BODY), 0), (5, 1)], ids=["whole already", "another part comes"])
def test_a_half_file_that_cannot_be_continued_is_fetched_whole(workdir: Path, have: int, shift: int) -> None:
    host = Host()
    host.shift = shift
    with serve(host) as url:
        whole = target(url)
        whole.parent.mkdir(parents=True)
        whole.with_name(f".{whole.name}.part").write_bytes(BODY[:have])
        whole.with_name(f".{whole.name}.part.txt").write_text(f"{url}/{whole.name}\n{host.etag}")
        with pytest.raises(SourceError, match="does not continue the partial file"):
            fetch(url)
        fetch(url)
    assert host.ranges == [f"bytes={have}-", None]
    assert whole.read_bytes() == BODY


def test_a_length_that_is_no_number_is_refused_in_one_line(workdir: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "many")
        request.end_headers()

    with serve(answer) as url, pytest.raises(SourceError, match=r"^[^\n]*Content-Length: many[^\n]*$"):
        fetch(url)


BEGIN = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "before",
    [BEGIN + b"X-Long: ", BEGIN + b"Content-Length: 1000000\r\n\r\n", BEGIN + b"Transfer-Encoding: chunked\r\n\r\n00"],
    ids=["in a header", "in the body", "in the length of a chunk"],
)
def test_a_mirror_that_trickles_is_left_at_the_timeout(workdir: Path, before: bytes) -> None:
    with serve(drip(before)) as slow, serve(Host()) as url:
        began = time.monotonic()
        assert fetch(slow, url, timeout_s=0.5).read_bytes() == BODY
    assert time.monotonic() - began < 20  # the drip lasts a minute


def test_a_slow_line_ends_nothing(workdir: Path) -> None:
    """Twice as long as the timeout, at more than the lowest rate."""
    body = BODY[: 3 * web.SLOWEST]

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        for start in range(0, len(body), 100):
            request.wfile.write(body[start : start + 100])
            time.sleep(0.04)

    with serve(answer) as url:
        assert fetch(url, timeout_s=0.6).read_bytes() == body


def test_an_empty_file_is_left_for_the_next_mirror(workdir: Path) -> None:
    (workdir / "empty").mkdir()
    (workdir / "empty" / JOB["file"]).touch()
    with pytest.raises(SourceError, match=r"empty/ratings_Toy\.csv is empty"):
        fetch("empty")
    assert list(target("empty").parent.iterdir()) == []
    with serve(Host()) as url:
        assert fetch("empty", url).read_bytes() == BODY


def test_the_next_mirror_is_tried(workdir: Path) -> None:
    with serve(Host()) as url:
        fetched = fetch("http://127.0.0.1:9", f"{url}/none", str(workdir / "nowhere"), url)
    assert fetched.read_bytes() == BODY


def test_no_mirror_left_is_one_sentence_with_a_way_out(workdir: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fetch("http://127.0.0.1:9")
    said = str(caught.value)
    assert "http://127.0.0.1:9/ratings_Toy.csv: no connection" in said
    assert "name its folder in datasets.toy.source.mirrors" in said


def publish(monkeypatch: pytest.MonkeyPatch, url: str, size: int | None = None, digest: str | None = None) -> None:
    """Let the file be a public one of this mirror, with this size and checksum published."""
    place = Place(url, size, digest, "free", "amazon2014/ratings_Toy.csv")
    monkeypatch.setattr(download, "find_places", lambda *_: [place])


@pytest.mark.parametrize(("size", "digest"), [(7, None), (None, "0" * 64)])
def test_a_file_of_another_size_or_checksum_is_refused(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, digest: str | None
) -> None:
    with serve(Host()) as url, pytest.raises(SourceError, match="expected"):
        publish(monkeypatch, url, size, digest)
        fetch("unused")
    assert list(target("unused").parent.iterdir()) == []
    assert not LOCK.exists()


def test_a_file_of_the_published_checksum_is_kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Host()) as url:
        publish(monkeypatch, url, len(BODY), hashlib.sha256(BODY).hexdigest())
        assert fetch("unused").read_bytes() == BODY


LOCK = Path("sources.lock.json")


def test_a_checksum_is_recorded_at_first_sight_and_checked_ever_after(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Host()) as url:
        publish(monkeypatch, url)
        fetched = fetch("unused")
        recorded = json.loads(LOCK.read_text())
        digest = hashlib.sha256(BODY).hexdigest()
        assert recorded == {"amazon2014/ratings_Toy.csv": {"sha256": digest, "mirror": url}}
        fetched.unlink()
        fetch("unused")
        LOCK.write_text(LOCK.read_text().replace(digest, "0" * 64))
        before = LOCK.read_text()
        fetched.unlink()
        with pytest.raises(SourceError, match=r"sources\.lock\.json recorded 0{64} .* remove its entry there"):
            fetch("unused")
    assert not fetched.exists()
    assert LOCK.read_text() == before


def test_files_of_a_folder_of_ones_own_may_change(workdir: Path) -> None:
    (workdir / "raw").mkdir()
    for body in (b"one", b"two"):
        (workdir / "raw" / "ratings_Toy.csv").write_bytes(body)
        assert fetch("raw").read_bytes() == body
    assert not LOCK.exists()


def test_downloads_side_by_side_all_record_their_files(workdir: Path) -> None:
    places = [Place("http://h", None, None, "", f"http://h/{n}") for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: check_lock(LOCK, place, "d" * 64), places))
    assert len(json.loads(LOCK.read_text())) == 40


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}'])
def test_a_broken_lock_file_is_refused(workdir: Path, text: str) -> None:
    LOCK.write_text(text)
    with serve(Host()) as url, pytest.raises(DataError, match=r"sources\.lock\.json is no"):
        fetch(url)


def test_what_is_published_of_a_file_goes_before_its_pattern() -> None:
    exact, other = (known_places("amazon2014", f"ratings_{name}.csv") for name in ("Baby", "Other"))
    assert [place.mirror for place in exact] == [place.mirror for place in other]
    assert all(place.sha256 and place.terms for place in exact)
    assert not any(place.sha256 for place in other)


@pytest.mark.parametrize(
    ("kind", "category", "ending"),
    [
        ("amazon2014", "Baby", "/categoryFiles"),
        ("amazon2018", "Luxury_Beauty", "/categoryFilesSmall"),
        ("amazon2023", "Baby_Products", "/benchmark/0core/rating_only"),
    ],
)
@pytest.mark.parametrize("interactions", ["ratings", "reviews"])
def test_every_file_of_every_public_source_has_a_mirror(
    kind: str, category: str, ending: str, interactions: str
) -> None:
    source = {"kind": kind, "category": category, "interactions": interactions}
    overlay = {"x": {"title": "X", "source": source, "k_core": 5, "split": "random", "split_seed": 1}}
    dataset = toy.settings(datasets=overlay).datasets["x"]
    assert len(dataset.source.settings.files) == 2
    for role, file in dataset.source.settings.files.items():
        places = find_places(kind, None, file)
        assert len(places) >= 2
        if (role, interactions) == ("interactions", "ratings"):
            assert places[0].mirror.endswith(ending)


def test_only_files_of_the_dataset_are_fetched(workdir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown file of toy 'passwd'; known: meta_Toy"):
        toy.run("download", configured(["."]), dataset="toy", file="passwd")


def test_every_shipped_dataset_has_a_known_mirror() -> None:
    shipped = toy.settings()
    for name in shipped.run.datasets:
        source = shipped.datasets[name].source
        assert source.settings.mirrors is None
        for file in source.settings.files.values():
            assert find_places(source.kind, None, file)
