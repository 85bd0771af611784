from __future__ import annotations

import asyncio
import resource
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import toy
from PIL import ExifTags, Image

from cliper import files
from cliper.collect import crawl
from cliper.collect.images import fetch, pictures
from cliper.collect.images.ahead import fetch_ahead
from cliper.collect.images.examiners import Bodies, Examiners
from cliper.collect.images.hosts import Hosts
from cliper.collect.images.shards import read_images, shard_folder
from cliper.config import Config
from cliper.errors import ConfigError, DataError

sys.path.append(str(toy.REPOSITORY))  # benchmarks are not installed

from benchmarks.badserver import (
    JPEG,
    Behaviour,
    Shop,
    answer,
    answer_once,
    bomb,
    drip,
    flood,
    hang,
    hang_up,
    in_turn,
    picture,
    reset,
    serve,
)

POLITE = {"allow_hosts": ["127.0.0.1"], "requests_per_s": 1000, "threads": 4, "shard_size": 3, "min_ok": 0}
CONFIG = toy.settings(**toy.dataset(Path()), crawl=POLITE)


@pytest.fixture
def shop(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.01)
    with serve("127.0.0.1") as running:
        yield running


def configured(**settings: Any) -> Config:
    return toy.changed(CONFIG, "crawl", **settings)


def manifest(**settings: Any) -> Path:
    """Where the manifest of a crawl with these settings lies."""
    return toy.path(configured(**settings), "images", dataset="toy")


def shards(**settings: Any) -> Path:
    return shard_folder(manifest(**settings))


def run(urls: list[str | None], *, retry: str | None = None, **settings: Any) -> pl.DataFrame:
    """Crawl items 0, 1, … with these URLs; returns the manifest."""
    count, chosen = len(urls), configured(**settings)
    items: dict[str, Any] = {"item": range(count), "asin": [f"B{i}" for i in range(count)], "image_url": urls}
    unused = dict.fromkeys(("title", "brand", "categories", "description"))
    files.write_table(toy.path(chosen, "items", dataset="toy"), "items", pl.DataFrame(items | unused))
    toy.run("crawl", chosen, dataset="toy", retry=retry)
    return files.read_table(manifest(**settings), "images")


def test_every_kind_of_answer_gets_its_status(shop: Shop) -> None:
    shop.pages = {
        "/ok.jpg": answer(),
        "/ok.png": answer(picture("PNG", mode="P")),
        "/ok.gif": answer(picture("GIF", mode="L")),
        "/ok.webp": answer(picture("WEBP")),
        "/ok.bmp": answer(picture("BMP", mode="1")),
        "/cmyk.jpg": answer(picture(mode="CMYK")),
        "/tiff": answer(picture("TIFF")),
        "/page.jpg": answer(b"<html>Sorry</html>"),
        "/empty.jpg": answer(b""),
        "/204": answer(b"", code=204),
        "/cut.jpg": answer(JPEG[: len(JPEG) * 97 // 100]),
        "/header.jpg": answer(JPEG[:50]),
        "/cut.png": answer(picture("PNG")[:-400]),
        "/dot.gif": answer(picture("GIF", size=(1, 1), mode="L")),
        "/wide.png": answer(picture("PNG", size=(300, 200))),
        "/bomb.png": answer(bomb(20_000)),
        "/hangs-up": hang_up,
        "/short": answer(JPEG[:100], Content_Length=str(len(JPEG)), Connection="close"),
    }
    expected = {
        "/ok.jpg": "ok",
        "/ok.png": "ok",
        "/ok.gif": "ok",
        "/ok.webp": "ok",
        "/ok.bmp": "ok",
        "/cmyk.jpg": "ok",
        "/tiff": "not_an_image",
        "/page.jpg": "not_an_image",
        "/empty.jpg": "not_an_image",
        "/204": "http_error",
        "/cut.jpg": "truncated",
        "/header.jpg": "truncated",
        "/cut.png": "truncated",
        "/dot.gif": "too_small",
        "/wide.png": "too_large",
        "/bomb.png": "too_large",
        "/hangs-up": "connection_error",
        "/short": "connection_error",
        "/404.jpg": "http_error",
    }
    images = run([shop.url + path for path in expected], attempts=1, max_pixels=50_000)
    assert dict(zip(expected, images["status"], strict=True)) == expected
    assert images["detail"].is_null().to_list() == [status == "ok" for status in expected.values()]
    assert images["row"].is_null().to_list() == [status != "ok" for status in expected.values()]


def test_what_a_server_sends_is_reported_without_control_characters(shop: Shop) -> None:
    shop.pages = {"/a": lambda handler: handler.wfile.write(b"FTP \x1b[2J\x9b\r\n")}
    (detail,) = run([f"{shop.url}/a"], attempts=1)["detail"]
    assert "FTP" in detail and detail.isprintable()


def test_a_silent_server_is_a_timeout_long_before_the_deadline(shop: Shop) -> None:
    shop.pages = {"/hang": hang}
    assert run([f"{shop.url}/hang"], timeout_s=0.2, attempts=1)["status"].to_list() == ["timeout"]


def test_items_without_a_url_of_an_image_cause_no_request(shop: Shop) -> None:
    icon = f"{shop.url}/images/G/01/x-site/icons/no-img-sm._V192198896_.gif"
    images = run([None, "", " ", icon])
    assert images["status"].to_list() == ["no_url", "no_url", "no_url", "placeholder"]
    assert shop.asked == []
    assert list(read_images(manifest())) == []


@pytest.mark.parametrize("url", ["ftp://shop.test/a.jpg", "file:///etc/passwd", "a.jpg", "http://", "http://[bad/a"])
def test_what_is_no_http_url_is_refused(shop: Shop, url: str) -> None:
    assert run([url])["status"].to_list() == ["refused"]


def test_a_url_is_asked_once_and_serves_all_its_items(shop: Shop) -> None:
    other = picture()
    shop.pages = {"/a": answer(), "/b": answer(other)}
    a, b = f"{shop.url}/a", f"{shop.url}/b"
    images = run([a, None, b, a, a])
    assert sorted(shop.asked) == ["/a", "/b"]
    assert images["row"].to_list() == [0, None, 1, 0, 0]
    assert list(read_images(manifest())) == [(0, JPEG), (2, other), (3, JPEG), (4, JPEG)]


def test_the_original_bytes_come_back_in_item_order_across_shards(shop: Shop) -> None:
    pictures = {f"/{i}": picture("PNG", size=(10 + i, 10)) for i in range(8)}
    shop.pages = {path: answer(body) for path, body in pictures.items()}
    images = run([shop.url + path for path in pictures], shard_size=3)
    assert list(read_images(manifest())) == list(enumerate(pictures.values()))
    assert images["width"].to_list() == [10 + i for i in range(8)]
    assert images["shard"].n_unique() == len(list(shards().iterdir())) == 3


def test_a_lost_shard_is_reported_with_the_command_that_makes_it_again(shop: Shop) -> None:
    shop.pages = {"/a": answer()}
    run([f"{shop.url}/a"])
    next(shards().iterdir()).unlink()
    with pytest.raises(DataError, match=r"images-00000-.* is missing. Run: python -m cliper crawl"):
        list(read_images(manifest()))


@pytest.mark.parametrize("path", ["/I/51%2BZ._SX300_.jpg", "/%7Eme/a%20b.jpg?x=%2F&y=1", "/a+b/../c.jpg"])
def test_urls_are_asked_as_they_stand(shop: Shop, path: str) -> None:
    run([shop.url + path])
    assert shop.asked == [path]


def test_the_crawler_says_who_it_is_and_asks_for_plain_bytes(shop: Shop) -> None:
    run([f"{shop.url}/a"], user_agent="cliper-test/1 (me@shop.test)")
    assert shop.headers["User-Agent"] == "cliper-test/1 (me@shop.test)"
    assert shop.headers["Accept-Encoding"] == "identity"


def test_a_second_run_asks_for_nothing_and_a_lost_shard_for_its_urls_only(shop: Shop) -> None:
    urls = [f"{shop.url}/{i}" for i in range(5)]
    shop.pages = {f"/{i}": answer() for i in range(4)}
    run(urls, shard_size=2)
    first = manifest(shard_size=2).read_bytes()
    shop.asked.clear()
    run(urls, shard_size=2)
    assert shop.asked == []
    sorted(shards(shard_size=2).iterdir())[1].unlink()
    run(urls, shard_size=2)
    assert sorted(shop.asked) == ["/2", "/3"]
    assert manifest(shard_size=2).read_bytes() == first


def test_a_finished_run_retries_transient_failures_where_asked_and_nothing_else(shop: Shop) -> None:
    cut = answer(JPEG[:100], Content_Length=str(len(JPEG)), Connection="close")
    shop.pages = {"/ok": answer(), "/503": in_turn(answer(code=503), answer()), "/cut": in_turn(cut, answer())}
    urls = [f"{shop.url}/{path}" for path in ("ok", "503", "404", "cut")]
    assert run(urls, attempts=1)["status"].to_list() == ["ok", "http_error", "http_error", "connection_error"]
    first = manifest().read_bytes()
    shop.asked.clear()
    run(urls, attempts=1)
    assert (shop.asked, manifest().read_bytes()) == ([], first)
    assert run(urls, attempts=1, retry="transient")["status"].to_list() == ["ok", "ok", "http_error", "ok"]
    assert sorted(shop.asked) == ["/503", "/cut"]


def test_a_finished_run_retries_the_statuses_that_are_named(shop: Shop) -> None:
    pages = {"/ok": answer(), "/404": answer(code=404), "/page": answer(b"<html>"), "/cut": answer(JPEG[:100])}
    shop.pages, urls = pages, [shop.url + path for path in pages]
    run(urls)
    for retry, expected in (
        ("not_an_image", ["/page"]),
        ("truncated,http_error", ["/404", "/cut"]),
        ("transient", []),
    ):
        shop.asked.clear()
        run(urls, retry=retry)
        assert sorted(shop.asked) == expected
    shop.pages = dict.fromkeys(pages, answer())
    assert run(urls, retry="not_an_image,truncated")["status"].to_list() == ["ok", "http_error", "ok", "ok"]


@pytest.mark.parametrize("retry", ["ok", "no_url", "failed", "transient,", "transient, timeout"])
def test_only_statuses_that_a_url_may_have_without_an_image_are_retried(shop: Shop, retry: str) -> None:
    with pytest.raises(ConfigError, match="unknown status to retry '.*'; known: connection_error, given_up"):
        run([f"{shop.url}/a"], retry=retry)
    assert shop.asked == []


def test_an_unfinished_run_retries_transient_failures(shop: Shop) -> None:
    shop.pages = {"/a": in_turn(answer(code=503), answer()), "/b": answer()}
    urls = [f"{shop.url}/{path}" for path in ("a", "b")]
    with pytest.raises(DataError, match="1 of 2 image URLs"):
        run(urls, attempts=1, min_ok=1)
    assert run(urls, attempts=1, min_ok=1)["status"].to_list() == ["ok", "ok"]
    assert sorted(shop.asked) == ["/a", "/a", "/b"]


def test_other_settings_of_what_is_kept_have_a_folder_of_their_own(shop: Shop) -> None:
    shop.pages = {"/a": answer()}
    assert run([f"{shop.url}/a"], min_side_px=31)["status"].to_list() == ["too_small"]
    assert run([f"{shop.url}/a"], min_side_px=30)["status"].to_list() == ["ok"]
    assert files.read_table(manifest(min_side_px=31), "images")["status"].to_list() == ["too_small"]


def test_shards_of_other_urls_and_of_killed_runs_are_removed(shop: Shop) -> None:
    shop.pages = {"/a": answer(), "/b": answer()}
    run([f"{shop.url}/a"])
    (shards() / ".images-00000-0.parquet.tmp-1").touch()
    run([f"{shop.url}/b"])
    assert len(list(shards().iterdir())) == 1


def test_an_interrupted_run_keeps_its_shards_and_ends_in_the_same_manifest(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"{shop.url}/{path}" for path in ("a", "b", "gone", "c", "d", "a")]
    shop.pages = {path: answer(picture(size=(50, 50))) for path in ("/a", "/b", "/c", "/d")}
    run(urls, shard_size=2)
    whole = manifest(shard_size=2).read_bytes()
    for file in (manifest(shard_size=2), *shards(shard_size=2).iterdir()):
        file.unlink()
    submit, submitted = crawl.Examiners.submit, list[Bodies]()

    def break_off(self: Examiners, bodies: Bodies) -> Future[list[pictures.Verdict | None]]:
        submitted.append(bodies)
        if len(submitted) == 5:
            raise MemoryError
        return submit(self, bodies)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(crawl.Examiners, "submit", break_off)
        patch.setattr(crawl, "AT_ONCE", 1)
        patch.setattr(crawl, "AHEAD", 0)
        run(urls, shard_size=2, threads=1)
    assert [path.name[:12] for path in sorted(shards(shard_size=2).iterdir())] == ["images-00000", "images-00001"]
    assert not manifest(shard_size=2).exists()
    shop.asked.clear()
    run(urls, shard_size=2)
    assert shop.asked == ["/d"]
    assert manifest(shard_size=2).read_bytes() == whole


def test_a_shard_is_written_and_read_in_parts_when_its_images_are_large(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "GROUP", 2 * len(JPEG))
    shop.pages = {f"/{i}": answer(JPEG + bytes(i)) for i in range(5)} | {"/gone": answer(code=503)}
    urls = [shop.url + path for path in shop.pages]
    run([*urls, urls[0]], shard_size=6, attempts=1)
    (shard,) = shards(shard_size=6).iterdir()
    assert [pq.ParquetFile(shard).metadata.row_group(group).num_rows for group in range(3)] == [2, 2, 2]
    shop.pages["/gone"] = answer(JPEG + bytes(9))
    images = run([*urls, urls[0]], shard_size=6, retry="transient")
    assert images["row"].to_list() == [0, 1, 2, 3, 4, 5, 0]
    assert [len(body) - len(JPEG) for _, body in read_images(manifest(shard_size=6))] == [0, 1, 2, 3, 4, 9, 0]


def test_large_images_wait_for_those_before_them_to_be_examined(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl, "HELD", 3 * len(JPEG))
    monkeypatch.setattr(crawl, "AT_ONCE", 1)
    asked_when_first_examined, submit = list[int](), crawl.Examiners.submit

    def wait_and_submit(self: Examiners, bodies: Bodies) -> Future[list[pictures.Verdict | None]]:
        if not asked_when_first_examined:
            time.sleep(0.1)  # for threads that would go on
            asked_when_first_examined.append(len(shop.asked))
        return submit(self, bodies)

    monkeypatch.setattr(crawl.Examiners, "submit", wait_and_submit)
    shop.pages = {f"/{i}": answer() for i in range(60)}
    assert run([shop.url + path for path in shop.pages], shard_size=60)["status"].to_list() == ["ok"] * 60
    most = 1 + 3 + 2 * CONFIG.crawl.threads  # about to be examined, held, begun
    assert asked_when_first_examined[0] <= most + 1


def test_rows_that_are_examined_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Row(dict[str, Any]):
        pass  # a dict itself takes no weak references

    def give() -> Iterator[Row]:
        for _ in range(30):
            row = Row(bytes=JPEG)
            given.append(weakref.ref(row))
            yield row

    given, most = list[weakref.ref[Row]](), 0
    monkeypatch.setattr(crawl, "AT_ONCE", 1)
    with Examiners(max_pixels=10_000, min_side_px=1) as examiners:
        for _ in crawl.examine_rows(give(), examiners):
            most = max(most, sum(row() is not None for row in given))
    assert most <= crawl.AHEAD + 3


def test_a_private_address_is_refused_unless_allowed(shop: Shop) -> None:
    shop.pages = {"/a": answer()}
    port = shop.server.server_port
    for allowed, status in (([], "refused"), (["127.0.0.1:1"], "refused"), ([f"127.0.0.1:{port}"], "ok")):
        images = run([f"{shop.url}/a"], allow_hosts=allowed)
        assert images["status"].to_list() == [status]
    assert shop.asked == ["/a"]


def test_a_private_address_is_not_even_connected_to(workdir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        images = run([f"http://127.0.0.1:{server.getsockname()[1]}/a", "http://localhost:1/a"], allow_hosts=[])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert images["status"].to_list() == ["refused"] * 2


def test_redirects_are_followed_but_not_to_a_private_address(shop: Shop) -> None:
    with serve("127.0.0.2") as inside:
        inside.pages = {"/secret": answer()}
        shop.pages = {
            "/moved": answer(b"", code=302, Location="/a"),
            "/a": answer(),
            "/inside": answer(b"", code=301, Location=f"{inside.url}/secret"),
            "/file": answer(b"", code=307, Location="file:///etc/passwd"),
            "/loop": answer(b"", code=302, Location="/loop"),
        }
        images = run([f"{shop.url}/{path}" for path in ("moved", "inside", "file", "loop")])
        assert inside.asked == []
    assert images["status"].to_list() == ["ok", "refused", "refused", "http_error"]
    assert shop.asked.count("/loop") == 6


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("noai", "refused"),
        ("nofollow, noimageindex", "refused"),
        ("cliper: noindex", "refused"),
        ("otherbot: noai, noindex", "ok"),
        ("nofollow", "ok"),
    ],
)
def test_opt_outs_for_all_or_for_us_are_honoured(shop: Shop, header: str, status: str) -> None:
    shop.pages = {"/a": answer(X_Robots_Tag=header)}
    assert run([f"{shop.url}/a"])["status"].to_list() == [status]


def test_a_body_beyond_the_limit_is_not_read(shop: Shop) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n"  # without a length
    sent = []

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(endless)
        for _ in range(1000):
            handler.wfile.write(bytes(65_536))
            sent.append(65_536)

    shop.pages = {"/flood": flood, "/announced": answer(b"", Content_Length="100001")}
    images = run([f"{shop.url}/flood", f"{shop.url}/announced"], max_bytes=100_000)
    assert images["status"].to_list() == ["too_large", "too_large"]
    assert sum(sent) < 20_000_000  # what fits into the socket's buffers


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_of_negative_size_is_not_taken_for_one_without_end(shop: Shop, size: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"
    shop.pages = {"/flood": flood(head, bytes(1_000_000))}
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run([f"{shop.url}/flood"], max_bytes=100_000, deadline_s=1)["status"].to_list() == ["connection_error"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000


@pytest.mark.parametrize("then", [hang_up, reset, lambda handler: handler.wfile.write(b"junk\r\n\r\n")])
def test_a_kept_connection_that_ends_as_it_is_used_costs_no_attempt(shop: Shop, then: Behaviour) -> None:
    shop.pages = dict.fromkeys((f"/{i}" for i in range(4)), answer_once(then))
    assert run([shop.url + path for path in shop.pages], attempts=1, threads=1)["status"].to_list() == ["ok"] * 4


def test_a_dripping_server_is_ended_by_the_deadline(shop: Shop) -> None:
    shop.pages = {
        "/body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        "/chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n"),
        "/header": drip(b"HTTP/1.1 200 OK\r\nX-Long: "),
        "/redirect": drip(b"HTTP/1.1 302 Found\r\nLocation: /body\r\nContent-Length: 1000\r\n\r\n"),
    }
    started = time.monotonic()
    images = run([shop.url + path for path in shop.pages], timeout_s=0.2, deadline_s=0.3)
    assert images["status"].to_list() == ["timeout"] * 4
    assert time.monotonic() - started < 20  # the drips last a minute


def test_a_body_without_a_length_that_is_cut_is_not_taken_for_a_whole_one(shop: Shop) -> None:
    def break_off(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + JPEG)
        time.sleep(0.1)  # what is sent before would be lost too
        reset(handler)

    shop.pages = {"/a": break_off}
    assert run([f"{shop.url}/a"], attempts=1)["status"].to_list() == ["connection_error"]


def test_transient_failures_are_tried_again_and_final_ones_are_not(shop: Shop) -> None:
    shop.pages = {
        "/late": in_turn(answer(code=500), hang_up, answer()),
        "/busy": answer(code=429),
    }
    images = run([f"{shop.url}/{path}" for path in ("late", "busy", "404")], attempts=3)
    assert images["status"].to_list() == ["ok", "http_error", "http_error"]
    assert images["http_code"].to_list() == [200, 429, 404]
    assert {path: shop.asked.count(path) for path in shop.asked} == {"/late": 3, "/busy": 3, "/404": 1}


def test_retry_after_is_waited_for_up_to_the_deadline(shop: Shop) -> None:
    times = []

    def note(behaviour: Behaviour) -> Behaviour:
        return lambda handler: (times.append(time.monotonic()), behaviour(handler))[1]

    shop.pages = {
        "/wait": in_turn(note(answer(code=429, Retry_After="1")), note(answer())),
        "/hour": answer(code=503, Retry_After="3600"),
    }
    images = run([f"{shop.url}/wait", f"{shop.url}/hour"], deadline_s=5)
    assert images["status"].to_list() == ["ok", "http_error"]
    assert times[1] - times[0] >= 1
    assert shop.asked.count("/hour") == 1


def test_requests_to_a_host_are_limited_at_once_and_per_second(shop: Shop) -> None:
    shop.pages = {f"/{i}": answer() for i in range(7)}
    started = time.monotonic()
    images = run([shop.url + path for path in shop.pages], connections_per_host=2, requests_per_s=20, shard_size=9)
    assert time.monotonic() - started >= 6 / 20
    assert shop.most_at_once <= 2
    assert images["status"].to_list() == ["ok"] * 7


def test_waiting_for_a_turn_does_not_count_towards_the_deadline(shop: Shop) -> None:
    shop.pages = {f"/{i}": answer() for i in range(6)}
    images = run([shop.url + path for path in shop.pages], requests_per_s=8, deadline_s=0.5, shard_size=6)
    assert images["status"].to_list() == ["ok"] * 6


def test_too_few_images_fail_with_the_commonest_reason(shop: Shop) -> None:
    shop.pages = {"/a": answer(), "/page": answer(b"<html>")}
    urls = [None, *(f"{shop.url}/{path}" for path in ("a", "x", "y", "page"))]
    with pytest.raises(DataError, match=r"^1 of 4 image URLs .* http_error \(Not Found\), 2 times, .*/x\. "):
        run(urls, min_ok=0.5)
    assert not manifest().exists()
    assert run(urls, min_ok=0.25)["status"].to_list() == ["no_url", "ok", "http_error", "http_error", "not_an_image"]


@pytest.mark.parametrize(
    "sick",
    [
        answer(b"<html>Are you a robot?</html>"),
        answer(code=403),
        answer(code=404),
        answer(code=503),
        answer(X_Robots_Tag="noai"),
        answer(picture(size=(1, 1))),
        answer(JPEG[:100]),
        answer(bytes(100_000)),
        hang_up,
    ],
    ids=["robot check", "403", "404", "503", "opt-out", "dot", "cut", "too large", "hang-up"],
)
def test_a_run_with_too_few_images_keeps_them_and_the_next_one_fetches_all_others(shop: Shop, sick: Behaviour) -> None:
    settings: dict[str, Any] = {"shard_size": 2, "min_ok": 0.5, "attempts": 1, "max_bytes": 50_000}
    sound = {f"/{i}": answer(picture(size=(20 + i, 20))) for i in range(5)}
    urls = [shop.url + path for path in sound]
    shop.pages = sound
    run(urls, **settings)
    whole = results(**settings)
    for path in whole:
        path.unlink()
    for n_sound in (1, 2):  # failed twice
        shop.pages = sound | dict.fromkeys(list(sound)[n_sound:], sick)
        with pytest.raises(DataError, match=f"^{n_sound} of 5 image URLs .* all other URLs are fetched again"):
            run(urls, **settings)
    shop.pages = sound
    shop.asked.clear()
    run(urls, **settings)
    assert sorted(shop.asked) == ["/2", "/3", "/4"]
    assert results(**settings) == whole
    shop.asked.clear()
    run(urls, **settings)
    assert shop.asked == []


def results(**settings: Any) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in manifest(**settings).parent.rglob("*.parquet")}


def swap_images(shard: Path) -> None:
    table = files.read_table(shard, "image_shard")
    files.write_table(shard, "image_shard", table.with_columns(bytes=table["bytes"].reverse()))


def lose_images(shard: Path) -> None:
    table = files.read_table(shard, "image_shard")
    files.write_table(shard, "image_shard", table.with_columns(bytes=pl.lit(None, pl.Binary)))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda shard: shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDAU")),
    "swapped images": swap_images,
    "lost images": lose_images,
    "cut": lambda shard: shard.write_bytes(shard.read_bytes()[:-50]),
    "empty": lambda shard: shard.write_bytes(b""),
    "no table": lambda shard: shard.write_text("<html>"),
    "another shard": lambda shard: shard.write_bytes(sorted(shard.parent.iterdir())[0].read_bytes()),
    "one row too few": lambda shard: files.write_table(
        shard, "image_shard", files.read_table(shard, "image_shard").head(1)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_stops_its_readers_and_crawl_makes_it_again(
    shop: Shop, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.pages = {f"/{i}": answer(picture("PNG", size=(20 + i, 20))) for i in range(5)}
    urls = [shop.url + path for path in shop.pages]
    run(urls, shard_size=2)
    whole, shard = results(shard_size=2), sorted(shards(shard_size=2).iterdir())[1]
    DAMAGES[damage](shard)
    with pytest.raises(DataError, match=shard.name):
        list(read_images(manifest(shard_size=2)))
    shop.asked.clear()
    run(urls, shard_size=2)
    assert sorted(shop.asked) == ["/2", "/3"]
    assert results(shard_size=2) == whole
    assert f"{shard} is damaged, its URLs are fetched again" in caplog.text


def test_a_folder_among_the_shards_stays_and_in_the_place_of_one_is_refused(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.pages = {"/a": answer()}
    (shards() / "mine").mkdir(parents=True)
    assert run([f"{shop.url}/a"])["status"].to_list() == ["ok"]
    assert "mine is a folder, which crawl does not make; it stays" in caplog.text
    (shard,) = (path for path in shards().iterdir() if path.is_file())
    shard.unlink()
    shard.mkdir()
    shop.asked.clear()
    with pytest.raises(DataError, match=f"{shard} is a folder where a file of images belongs; move it away"):
        run([f"{shop.url}/a"])
    assert shop.asked == []


def test_a_dead_host_is_given_up_with_a_reason_and_asked_by_the_next_run(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.pages = {f"/{i}": in_turn(hang_up, answer()) for i in range(20)}
    urls = [shop.url + path for path in shop.pages]
    with pytest.raises(DataError, match=r"^0 of 20 .* given_up \(127.0.0.1 failed 5 times in a row, at last with conn"):
        run(urls, min_ok=0.5, attempts=1, give_up_after=5, threads=1)
    assert len(shop.asked) == 5
    assert "127.0.0.1 failed 5 times in a row" in caplog.text
    shop.pages = {path: answer() for path in shop.pages}
    assert run(urls, min_ok=0.5, give_up_after=5)["status"].to_list() == ["ok"] * 20


def test_a_host_that_answers_now_and_then_is_not_given_up(shop: Shop) -> None:
    shop.pages = {f"/{i}": answer(code=503 if i % 3 else 404) for i in range(12)}
    images = run([shop.url + path for path in shop.pages], attempts=1, give_up_after=3, threads=1)
    assert images["status"].to_list() == ["http_error"] * 12


def test_retry_after_holds_back_all_requests_to_the_host(shop: Shop) -> None:
    asked = []

    def note(behaviour: Behaviour) -> Behaviour:
        return lambda handler: (asked.append(time.monotonic()), behaviour(handler))[1]

    shop.pages = {"/a": in_turn(note(answer(code=429, Retry_After="1")), note(answer())), "/b": note(answer())}
    paths = ("a", *["x"] * 9, "b")
    images = run([f"{shop.url}/{path}" for path in paths], threads=2, requests_per_s=20, deadline_s=5)
    assert images["status"].to_list() == ["ok", *["http_error"] * 9, "ok"]
    assert asked[1] - asked[0] >= 1
    assert asked[2] - asked[0] >= 1


def test_a_pause_holds_back_those_too_who_have_their_turn_already(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts, sleep, paused = Hosts(configured(requests_per_s=20).crawl), asyncio.sleep, list[float]()

    async def pause_meanwhile(seconds: float) -> None:
        if not paused:
            paused.append(time.monotonic())
            hosts.pause("shop.test", 0.2)
        await sleep(seconds)

    async def ask_twice() -> None:
        async with hosts.turn("shop.test"):
            pass
        async with hosts.turn("shop.test"):
            assert time.monotonic() - paused[0] >= 0.2

    monkeypatch.setattr(asyncio, "sleep", pause_meanwhile)
    asyncio.run(ask_twice())


def test_images_of_unusual_kinds_are_counted(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    turned, wrong = Image.Exif(), b"Exif\0\0II*\0\xff\xff\xff\x7f"
    turned[ExifTags.Base.Orientation] = 6
    frames = [Image.new("L", (20, 20), level) for level in (0, 255)]
    shop.pages = {
        "/turned": answer(picture(exif=turned)),
        "/wrong": answer(picture(exif=wrong)),
        "/cmyk": answer(picture(mode="CMYK")),
        "/palette": answer(picture("PNG", mode="P")),
        "/animated": answer(picture("GIF", mode="L", save_all=True, append_images=frames)),
    }
    caplog.set_level("INFO")
    images = run([shop.url + path for path in shop.pages])
    assert images.select("status", "format", "mode", "is_animated", "orientation").rows() == [
        ("ok", "JPEG", "RGB", False, 6),
        ("ok", "JPEG", "RGB", False, None),
        ("ok", "JPEG", "CMYK", False, None),
        ("ok", "PNG", "P", False, None),
        ("ok", "GIF", "P", True, None),
    ]
    account = "5 ok (among them 1 animated (first frame), 1 CMYK, 2 palette, 1 turned by EXIF (used as stored))"
    assert account in caplog.text


ROBOTS = b"User-agent: *\nDisallow: /\n\nUser-agent: cliper\nDisallow: /private/\nAllow: /private/*.png$\n"


def test_robots_txt_is_obeyed_where_the_config_says_so(shop: Shop) -> None:
    paths = ("a", "private/a", "private/a.png", "moved")
    shop.pages = {f"/{path}": answer() for path in paths}
    shop.pages |= {"/robots.txt": answer(ROBOTS), "/moved": answer(code=302, Location="/private/b")}
    urls = [f"{shop.url}/{path}" for path in paths]
    assert run(urls, robots_txt=True)["status"].to_list() == ["ok", "refused", "ok", "refused"]
    assert shop.asked.count("/robots.txt") == 1
    assert "/private/a" not in shop.asked and "/private/b" not in shop.asked
    assert run(urls, robots_txt=False)["status"].to_list() == ["ok", "ok", "ok", "http_error"]


@pytest.mark.parametrize(
    "rules",
    [
        answer(b"User-agent: *\nDisallow: /", X_Robots_Tag="noindex"),
        answer(b"\xef\xbb\xbfUser-agent: *\nDisallow: /"),
        answer("User-agent: *\nDisallow: /ü[".encode()),
        answer(b"User-agent: *\nDisallow: /\n" + b"#" * 200_000),
        answer(bytes(1_000_000)),
    ],
    ids=["tagged noindex", "byte order mark", "no ASCII", "beyond max_bytes", "beyond any limit"],
)
def test_a_robots_txt_binds_however_it_is_served(shop: Shop, rules: Behaviour) -> None:
    shop.pages = {"/robots.txt": rules, "/%C3%BC%5B": answer()}
    images = run([f"{shop.url}/ü["], robots_txt=True, max_bytes=100_000)
    assert images.select("status", "detail").row(0) == ("refused", "robots.txt")


def test_rules_by_the_thousand_and_endless_patterns_cost_little_time(shop: Shop) -> None:
    many = "".join(f"Disallow: /*/section{i}/*.html$\n" for i in range(5000)) + "Disallow: /" + "*a" * 100_000 + "b\n"
    path = "/images/" + "a" * 10_000
    shop.pages = {"/robots.txt": answer(f"User-agent: *\n{many}".encode()), path: answer()}
    began = time.process_time()
    assert run([shop.url + path], robots_txt=True)["status"].to_list() == ["ok"]
    assert time.process_time() - began < 2  # by regular expressions 11 s


def test_without_robots_txt_all_is_allowed_and_when_it_fails_nothing_is(shop: Shop) -> None:
    shop.pages = {"/a": answer()}
    assert run([f"{shop.url}/a"], robots_txt=True)["status"].to_list() == ["ok"]
    shop.pages["/robots.txt"] = answer(code=503)
    images = run([f"{shop.url}/a?x"], robots_txt=True, attempts=1)
    assert images.select("status", "http_code", "detail").row(0) == (
        "http_error",
        503,
        "robots.txt: Service Unavailable",
    )


def test_two_crawls_do_not_work_on_one_folder(shop: Shop) -> None:
    shop.pages = {"/a": answer()}
    with files.sole_writer(manifest().parent), pytest.raises(DataError, match="another process is writing to .*toy-"):
        run([f"{shop.url}/a"])
    assert shop.asked == []
    assert run([f"{shop.url}/a"])["status"].to_list() == ["ok"]


def test_a_slow_image_does_not_hold_up_those_behind_it(shop: Shop) -> None:
    is_free = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        assert is_free.wait(5)
        answer()(handler)

    def free(handler: BaseHTTPRequestHandler) -> None:
        is_free.set()
        answer()(handler)

    shop.pages = {"/slow": wait, "/a": answer(), "/b": free}
    images = run([shop.url + path for path in shop.pages], shard_size=2)  # /b is of the next shard
    assert images["status"].to_list() == ["ok"] * 3


@pytest.mark.parametrize(("max_bytes", "most"), [(10**9, 6), (25, 4)])
def test_while_the_reader_waits_no_more_is_fetched_than_memory_may_hold(max_bytes: int, most: int) -> None:
    class Shelf:
        """Has bodies of ten bytes; the first one comes only once nothing else moves."""

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

        async def fetch(self, url: str) -> fetch.Answer:
            begun.append(url)
            if url == "0":
                await asyncio.sleep(0.1)
                begun_meanwhile.extend(begun)
            return fetch.Answer("ok", body=bytes(10), final_url=url)

    begun, begun_meanwhile, urls = list[str](), list[str](), [str(i) for i in range(20)]
    answers = list(fetch_ahead(Shelf(), urls, n_at_once=2, n_ahead=5, max_bytes=max_bytes))
    assert [answer.final_url for answer in answers] == begun == urls
    assert begun_meanwhile == urls[:most]


def test_what_a_source_raises_reaches_the_reader() -> None:
    class Broken:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

        async def fetch(self, url: str) -> fetch.Answer:
            raise MemoryError

    with pytest.raises(ExceptionGroup) as raised:
        list(fetch_ahead(Broken(), ["a", "b"], n_at_once=2, n_ahead=5, max_bytes=100))
    assert raised.group_contains(MemoryError)


def test_the_last_address_of_redirects_is_kept(shop: Shop) -> None:
    shop.pages = {"/old": answer(b"", code=301, Location="/new?x=1"), "/new?x=1": answer()}
    run([f"{shop.url}/old", f"{shop.url}/new?x=1"])
    kept = files.read_table(next(shards().iterdir()), "image_shard")["final_url"]
    assert kept.to_list() == [f"{shop.url}/new?x=1", None]


def test_a_redirect_to_a_path_with_umlauts_arrives_there(shop: Shop) -> None:
    shop.pages = {"/old": answer(b"", code=302, Location="/ü".encode().decode("latin-1")), "/%C3%BC": answer()}
    assert run([f"{shop.url}/old"])["status"].to_list() == ["ok"]
