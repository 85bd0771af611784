from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import toy
from servers import serve

from cliper import download
from cliper.config import Config
from cliper.errors import ConfigError, SourceError

BODY = bytes(range(256)) * 10_000  # 2.56 MB, more than two chunks


class Host:
    """A file server that knows Range, and can be told to hang up halfway."""

    def __init__(self) -> None:
        self.cut_after: int | None = None
        self.etag = '"one"'
        self.ranges: list[str | None] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        if "none" in request.path:
            request.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and request.headers["If-Range"] == self.etag else 0
        request.send_response(206 if start else 200)
        request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(BODY) - start))
        request.end_headers()
        request.wfile.write(BODY[start : self.cut_after])


def configured(mirrors: list[str]) -> Config:
    overlay: dict[str, Any] = toy.dataset(Path())
    overlay["datasets"]["toy"]["source"]["mirrors"] = mirrors
    return toy.settings(**overlay, download={"timeout_s": 5, "attempts": 1})


TARGET = Path("results/toy/download/toy/ratings_Toy.csv")


def fetch(*mirrors: str) -> None:
    download.run(configured(list(mirrors)), dataset="toy", file="ratings_Toy.csv")


def test_a_file_comes_whole_over_http(workdir: Path) -> None:
    with serve(Host()) as url:
        fetch(url)
    assert TARGET.read_bytes() == BODY
    assert [path.name for path in TARGET.parent.iterdir()] == [TARGET.name]


def test_a_file_comes_from_a_local_folder(workdir: Path) -> None:
    (workdir / "raw").mkdir()
    (workdir / "raw" / "ratings_Toy.csv").write_bytes(BODY)
    fetch("raw")
    assert TARGET.read_bytes() == BODY


def test_a_file_in_a_folder_of_the_mirror_keeps_its_folder(workdir: Path) -> None:
    given = {"cliper": {"image": "own/image.npy", "text": "text.npy"}}
    (workdir / "raw" / "own").mkdir(parents=True)
    (workdir / "raw" / "own" / "image.npy").write_bytes(BODY)
    for number, mirror in enumerate(("raw", None)):
        with serve(Host()) as url:
            source = {"kind": "mmrec", "inter": "x.inter", "mirrors": [mirror or url], "features": given}
            config = toy.settings(name=f"run{number}", datasets={"toy": {"title": "Toy", "source": source}})
            download.run(config, dataset="toy", file="own/image.npy")
        assert Path(f"results/run{number}/download/toy/own/image.npy").read_bytes() == BODY


def test_a_half_file_is_continued_by_the_next_run(workdir: Path) -> None:
    host = Host()
    with serve(host) as url:
        host.cut_after = 1_500_000
        with pytest.raises(SourceError, match="fetch it by hand"):
            fetch(url)
        assert not TARGET.exists()
        host.cut_after = None
        fetch(url)
    assert host.ranges[0] is None
    assert host.ranges[1] is not None
    assert TARGET.read_bytes() == BODY


def test_a_half_file_is_not_continued_with_another_file(workdir: Path) -> None:
    host = Host()
    with serve(host) as url:
        host.cut_after = 1_500_000
        with pytest.raises(SourceError):
            fetch(url)
        host.cut_after, host.etag = None, '"two"'
        fetch(url)
    assert TARGET.read_bytes() == BODY


def test_the_next_mirror_is_tried(workdir: Path) -> None:
    with serve(Host()) as url:
        fetch("http://127.0.0.1:9", f"{url}/none", str(workdir / "nowhere"), url)
    assert TARGET.read_bytes() == BODY


def test_no_mirror_left_is_one_sentence_with_a_way_out(workdir: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fetch("http://127.0.0.1:9")
    told = str(caught.value)
    assert "http://127.0.0.1:9/ratings_Toy.csv: no connection" in told
    assert "name its folder in datasets.toy.source.mirrors" in told


@pytest.mark.parametrize(("size", "digest"), [(7, None), (None, "0" * 64)])
def test_a_file_of_another_size_or_checksum_is_refused(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, digest: str | None
) -> None:
    monkeypatch.setattr(download, "known_sources", lambda *_: [download.Known("", size, digest)])
    with serve(Host()) as url, pytest.raises(SourceError, match="expected"):
        fetch(url)
    assert list(TARGET.parent.iterdir()) == []


def test_a_file_of_the_known_checksum_is_kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = download.Known("", len(BODY), hashlib.sha256(BODY).hexdigest())
    monkeypatch.setattr(download, "known_sources", lambda *_: [known])
    with serve(Host()) as url:
        fetch(url)
    assert TARGET.read_bytes() == BODY


def test_only_files_of_the_dataset_are_fetched(workdir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown file of toy 'passwd'; known: meta_Toy"):
        download.run(configured(["."]), dataset="toy", file="passwd")


def test_every_shipped_dataset_has_a_known_mirror() -> None:
    shipped = toy.settings()
    for name in shipped.run.datasets:
        for file in shipped.datasets[name].source.files.values():
            assert download.places(shipped.datasets[name], file)
