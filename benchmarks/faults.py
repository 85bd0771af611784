"""What a crawl does at each fault of the web or the disk, or when it is killed: expected and seen, one line per fault.

python -m benchmarks.faults [--json OUT]

Each fault is between sound images, on loopback (127.0.0.1; a forbidden redirect leads to 127.0.0.2). Seen is the status
of the faulty URL, or the command's message; the line also says whether the other images are unharmed, whether every
item has one row, and how long it took. The command fails if a line is not as expected. `tests/test_faults.py` runs the
same lines.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import runpy
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl

from benchmarks import configs
from benchmarks.badserver import (
    JPEG,
    Behaviour,
    Shop,
    answer,
    bomb,
    drip,
    flood,
    hang,
    in_turn,
    picture,
    reset,
    scans,
    serve,
)
from cliper import files
from cliper.__main__ import perform
from cliper.collect import crawl
from cliper.collect.images import examiners
from cliper.errors import DataError

NAME = "faults"
SETTINGS = {
    "allow_hosts": ["127.0.0.1"],
    "requests_per_s": 1000,
    "threads": 4,
    "shard_size": 3,
    "timeout_s": 0.3,
    "deadline_s": 0.8,
    "attempts": 2,
    "max_pixels": 50_000,
    "min_ok": 0,
}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = JPEG + bytes(10_000_000)  # what follows the end of a JPEG belongs to the file
PATIENT = 900.0  # seconds, for the lines that start processes of their own on a busy machine
SOUND = 4  # other images in the faults that need several shards


class Seen(NamedTuple):
    """What came of a fault."""

    status: str
    others_are_ok: bool = True
    rows_are_single: bool = True


class Fault(NamedTuple):
    """One line of the table: `see` runs the fault in an empty folder that is the current one."""

    name: str
    expected: str
    see: Callable[[], Seen]
    limit_s: float = 40.0  # no hang beyond the deadline; what trickles does so for a minute


def prepare(urls: list[str], **settings: Any) -> None:
    """Write the items 0, 1, … with these URLs and a config overlay into the current folder."""
    count = len(urls)
    items: dict[str, Any] = {"item": range(count), "asin": [f"B{i}" for i in range(count)], "image_url": urls}
    unused = dict.fromkeys(("title", "brand", "categories", "description"))
    layout = configs.write(configs.one_dataset(NAME, crawl=SETTINGS | settings), Path())
    files.write_table(layout.path("items", dataset=NAME), "items", pl.DataFrame(items | unused))


def manifest() -> Path:
    """Where the manifest of what was prepared in the current folder lies."""
    return configs.read(Path()).path("images", dataset=NAME)


def crawl_here() -> pl.DataFrame:
    """Crawl what was prepared in the current folder; returns the manifest."""
    perform(configs.read(Path()).config, "crawl", dataset=NAME)
    return files.read_table(manifest(), "images")


def look(images: pl.DataFrame, place: int) -> Seen:
    """Read a manifest whose item at `place` has the fault."""
    status = images["status"].to_list()
    rows_are_single = images["item"].to_list() == list(range(len(status)))
    return Seen(status.pop(place), set(status) == {"ok"}, rows_are_single)


def see_page(*behaviours: Behaviour, **settings: Any) -> Seen:
    """A page that misbehaves, between two sound ones of the same server."""
    with serve("127.0.0.1") as shop:
        shop.pages = {"/before": answer(), "/fault": in_turn(*behaviours), "/after": answer(), "/last": answer()}
        prepare([shop.url + path for path in shop.pages], **settings)
        return look(crawl_here(), 1)


def early_hints(handler: Any) -> None:
    """An answer before the answer."""
    handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
    answer()(handler)


def see_forbidden_redirect() -> Seen:
    """A redirect to an address that the config does not allow: the other server must not be asked."""
    with serve("127.0.0.2") as inside:
        inside.pages = {"/secret": answer()}
        seen = see_page(answer(b"", code=302, Location=f"{inside.url}/secret"))
        return seen if not inside.asked else seen._replace(status="asked where it must not")


def see_cookies() -> Seen:
    """Cookies are never sent back."""
    sent = []

    def note(handler: Any) -> None:
        sent.append(handler.headers["Cookie"])
        answer(Set_Cookie="track=1; Path=/")(handler)

    seen = see_page(answer(code=500, Set_Cookie="track=1; Path=/"), note)
    return seen if sent == [None] else seen._replace(status=f"cookies sent: {sent}")


def see_bad_certificate() -> Seen:
    """TLS with a certificate that nobody trusts."""
    with serve("127.0.0.1") as sound, serve("127.0.0.1") as shop:
        sound.pages = shop.pages = {"/": answer()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make_certificate(Path.cwd()))
        shop.server.socket = context.wrap_socket(shop.server.socket, server_side=True)
        prepare([f"{sound.url}/?1", shop.url.replace("http:", "https:") + "/", f"{sound.url}/"])
        sound.pages |= {"/?1": answer()}
        return look(crawl_here(), 1)


def see_slow_handshake() -> Seen:
    """A TLS handshake that trickles: a byte every 20 ms of a record that never ends."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(b"\x16\x03\x03\x40\x00")
                for _ in range(3000):
                    self.request.sendall(b"\x02")
                    time.sleep(0.02)

    with serve("127.0.0.1") as sound, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        sound.pages = {"/": answer()}
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        prepare([f"{sound.url}/", f"https://127.0.0.1:{server.server_address[1]}/"])
        images = crawl_here()
        server.shutdown()
        return look(images, 1)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself, by the command openssl; returns it and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *kind, *name, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def see_outage(outage_s: float) -> Seen:
    """The server dies midway, listens to nobody for a while, and comes back."""
    with ExitStack() as stack:
        first = stack.enter_context(serve("127.0.0.1"))
        port, pages = first.server.server_port, {f"/{i}": answer() for i in range(12)}
        first.pages = pages
        prepare([first.url + path for path in pages], requests_per_s=40, attempts=4, deadline_s=3)

        def restart() -> None:
            while len(first.asked) < 3:
                time.sleep(0.01)
            first.is_dead = True  # for the connections that are open
            first.server.shutdown()
            first.server.server_close()
            time.sleep(outage_s)
            stack.enter_context(serve("127.0.0.1", port=port)).pages = pages

        thread = threading.Thread(target=restart)
        thread.start()
        images = crawl_here()
        thread.join()
        return look(images, 6)


@contextmanager
def sound_shop(*, host: str = "127.0.0.1", **settings: Any) -> Iterator[Shop]:
    """A server with one sound image more than fit into a shard, ready to be crawled."""
    with serve("127.0.0.1") as shop:
        shop.pages = {f"/{i}": answer(picture(size=(40 + i, 30))) for i in range(SOUND)}
        prepare([shop.url.replace("127.0.0.1", host) + path for path in shop.pages], **settings)
        yield shop


def start(hinder: str, *names: str) -> subprocess.Popen[bytes]:
    """Run the command in a process of its own, hindered as named; what it says goes to stderr.txt."""
    command = [sys.executable, "-c", "from benchmarks.faults import run_hindered; run_hindered()", hinder, *names]
    environment = os.environ | {"PYTHONPATH": str(configs.REPOSITORY)}
    with Path("stderr.txt").open("wb") as stderr:
        return subprocess.Popen(command, env=environment, stderr=stderr)


def run_hindered() -> None:
    """Entry of that process: its exit code is the command's."""
    hinder, *names = sys.argv[1:]
    hinders: dict[str, Callable[..., None]] = {
        each.__name__: each for each in (leave_alone, fill_disk, die_in, let_examiners_stall, let_lookups_stall)
    }
    hinders[hinder](*names)
    sys.argv[1:] = ["crawl", "--config", str(configs.SHIPPED), configs.OVERLAY, "--dataset", NAME]
    del sys.modules["cliper.__main__"]  # else runpy warns
    runpy.run_module("cliper", run_name="__main__")


def leave_alone() -> None:
    """Hinder nothing."""


def fill_disk() -> None:
    """Let no file grow beyond 2,000 bytes: the system then refuses as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))


def die_in(phase: str) -> None:
    """Be killed with -9 in the given phase of the crawl."""
    if phase == "while fetching":
        crawl.Examiners.submit = die  # type: ignore[method-assign]
    elif phase == "while writing a shard":
        files.os.fsync = die  # type: ignore[attr-defined]
    elif phase == "after a shard":
        crawl.read_outcomes = die  # type: ignore[attr-defined]
    elif phase == "while writing the manifest":
        crawl.build_manifest = die


def die(*_: Any, **__: Any) -> Any:
    """Be killed with -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def let_examiners_stall() -> None:
    """Let the processes that examine images do so for ever."""
    examiners.serve = stall  # type: ignore[assignment]


def let_lookups_stall() -> None:
    """Let the system look up each host's name for ever."""
    socket.getaddrinfo = stall


def stall(*_: Any, **__: Any) -> None:
    """Say so, and do not come back."""
    Path("stalled").touch()
    time.sleep(600)


def see_full_disk() -> Seen:
    """The disk is full: exit code 2, nothing half-written, and the next run ends well."""
    with sound_shop():
        process = start("fill_disk")
        process.wait()
        said = Path("stderr.txt").read_text().splitlines()[-1]
        left = [path.name for path in manifest().parent.rglob("*") if path.is_file() and path.name != ".lock"]
        if left or not said.startswith("DataError: cannot write"):
            return Seen(f"{left} {said}")
        return look(crawl_here(), 0)._replace(status=f"exit {process.returncode}")


def see_kill(phase: str) -> Seen:
    """Killed with -9: the next run ends in the bytes of an uninterrupted one."""
    with sound_shop():
        whole = make_and_remove()
        process = start("die_in", phase)
        process.wait()
        if process.returncode != -signal.SIGKILL or manifest().exists():
            return Seen(f"was not killed: exit {process.returncode}")
        return see_resumed(whole, "ok")


def make_and_remove() -> dict[Path, bytes]:
    """Crawl what was prepared, remove the files, and return their bytes."""
    crawl_here()
    whole = read_results()
    for path in whole:
        path.unlink()
    return whole


def read_results() -> dict[Path, bytes]:
    """Manifest and shards."""
    return {path: path.read_bytes() for path in manifest().parent.rglob("*.parquet")}


def see_resumed(whole: dict[Path, bytes], status: str) -> Seen:
    """Crawl again after a crawl that ended early, and compare with an uninterrupted one."""
    seen = look(crawl_here(), 0)
    return seen._replace(status=status if seen.status == "ok" and read_results() == whole else "other bytes")


STOPPED = "cliper crawl: 4 of 4 images to fetch\ncrawl was stopped\n"


def see_ctrl_c() -> Seen:
    """Stopped by Ctrl-C while a server hangs: a line of its own, and the next run ends well."""
    with sound_shop() as shop:
        shop.pages["/0"] = in_turn(hang, answer())
        process = start("leave_alone")
        while "/0" not in shop.asked and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait()
        said = Path("stderr.txt").read_text()
        if said != STOPPED:
            return Seen(said)
        return look(crawl_here(), 0)._replace(status=f"exit {process.returncode}")


def see_ctrl_c_while_stalled(hinder: str) -> Seen:
    """Stopped by Ctrl-C while a part of it stalls: it ends within 2 seconds, and the next run ends well."""
    with sound_shop(host="localhost", allow_hosts=["localhost"]):
        whole = make_and_remove()
        process = start(hinder)
        while not Path("stalled").exists() and process.poll() is None:
            time.sleep(0.01)
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.wait()
        seconds, said = time.perf_counter() - began, Path("stderr.txt").read_text()
        if said != STOPPED or seconds > 2:
            return Seen(f"{said} after {seconds:.1f} s")
        return see_resumed(whole, f"exit {process.returncode}")


def see_two_crawls() -> Seen:
    """A second crawl on one folder is refused; the first one ends well."""
    is_over = threading.Event()

    def wait(handler: Any) -> None:
        is_over.wait()
        answer()(handler)

    with sound_shop(timeout_s=600, deadline_s=600) as shop:
        shop.pages["/0"] = wait
        process = start("leave_alone")
        while "/0" not in shop.asked and process.poll() is None:
            time.sleep(0.01)
        try:
            crawl_here()
        except DataError as error:
            status = "refused" if "another process is writing" in str(error) else str(error)
        else:
            status = "let in"
        is_over.set()
        process.wait()
        return look(files.read_table(manifest(), "images"), 0)._replace(status=status)


def page(name: str, expected: str, *behaviours: Behaviour, **settings: Any) -> Fault:
    """A fault of one page."""
    return Fault(name, expected, partial(see_page, *behaviours, **settings))


FAULTS = [
    page("404", "http_error", answer(code=404)),
    page("410", "http_error", answer(code=410)),
    page("429, Retry-After, then 200", "ok", answer(code=429, Retry_After="1"), answer(), deadline_s=3),
    page("429 for an hour", "http_error", answer(code=429, Retry_After="3600")),
    page("500, then 200", "ok", answer(code=500), answer()),
    page("connection reset", "connection_error", reset),
    page("hang", "timeout", hang),
    page("body that trickles", "timeout", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")),
    page("header that trickles", "timeout", drip(b"HTTP/1.1 200 OK\r\nX-Long: ")),
    page("100 Continue without end", "connection_error", flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
    page("103 Early Hints, then 200", "ok", early_hints),
    page("chunks without end", "too_large", flood(CHUNKED, b"3e8\r\n" + bytes(1000) + b"\r\n"), max_bytes=1_000_000),
    page("chunk of -1 bytes", "connection_error", flood(CHUNKED + b"-1\r\n", bytes(65_536)), max_bytes=1_000_000),
    page("chunk of no number", "connection_error", flood(CHUNKED + b"many\r\n", b"x")),
    page("trailers without end", "connection_error", flood(CHUNKED + b"0\r\n", b"X-More: 1\r\n" * 100)),
    page("more than 100 header lines", "connection_error", flood(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n")),
    page(
        "body shorter than Content-Length",
        "connection_error",
        answer(Content_Length=str(2 * len(JPEG)), Connection="close"),
    ),
    page("body longer than Content-Length", "truncated", answer(Content_Length=str(len(JPEG) // 2))),
    page("file cut before it was served", "truncated", answer(JPEG[: len(JPEG) * 97 // 100])),
    page("gzip bomb", "not_an_image", answer(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")),
    page("image bomb, 400 megapixels", "too_large", answer(bomb(20_000))),
    page("JPEG of 10,000 scans", "undecodable", answer(scans(10_000, side=200))),
    page("HTML with status 200", "not_an_image", answer(b"<html>Sorry</html>")),
    page("empty body", "not_an_image", answer(b"")),
    page("1 x 1 gif", "too_small", answer(picture("GIF", size=(1, 1), mode="L"))),
    page("redirect", "ok", answer(b"", code=301, Location="/last")),
    page("redirect loop", "http_error", answer(b"", code=302, Location="/fault")),
    page("redirect to file:", "refused", answer(b"", code=302, Location="file:///etc/passwd")),
    Fault("redirect to a forbidden address", "refused", see_forbidden_redirect),
    Fault("cookies", "ok", see_cookies),
    page("image of 10 MB", "ok", answer(BIG)),
    page("image beyond max_bytes", "too_large", answer(BIG), max_bytes=1_000_000),
    page("wrong content type", "ok", answer(Content_Type="text/html")),
    page("X-Robots-Tag: noai", "refused", answer(X_Robots_Tag="noai")),
    Fault("TLS with a bad certificate", "connection_error", see_bad_certificate),
    Fault("TLS handshake that trickles", "timeout", see_slow_handshake),
    Fault("server dies midway and comes back", "ok", partial(see_outage, 0.3)),
    Fault("disk full", "exit 2", see_full_disk, limit_s=PATIENT),
    *[
        Fault(f"kill -9 {phase}", "ok", partial(see_kill, phase), limit_s=PATIENT)
        for phase in ("while fetching", "while writing a shard", "after a shard", "while writing the manifest")
    ],
    Fault("Ctrl-C", "exit 130", see_ctrl_c, limit_s=PATIENT),
    *[
        Fault(f"Ctrl-C {phase}", "exit 130", partial(see_ctrl_c_while_stalled, hinder), limit_s=PATIENT)
        for phase, hinder in (
            ("while an image is examined", "let_examiners_stall"),
            ("while a name is looked up", "let_lookups_stall"),
        )
    ],
    Fault("two crawls on one folder", "refused", see_two_crawls, limit_s=PATIENT),
]


def see(fault: Fault) -> tuple[Seen, float]:
    """Run a fault in an empty folder; returns what was seen, and the seconds."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder, chdir(folder):
        seen = fault.see()
    return seen, time.perf_counter() - began


def main() -> int:
    """Print the table; returns 1 if a line is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the lines as JSON")
    options = parser.parse_args()
    lines, is_good = [], True
    sys.stdout.write("| fault | expected | seen | others unharmed | one row an item | s |\n|---|---|---|---|---|---|\n")
    for fault in FAULTS:
        seen, seconds = see(fault)
        is_good &= seen == Seen(fault.expected) and seconds < fault.limit_s
        lines.append({"fault": fault.name, "expected": fault.expected, **seen._asdict(), "seconds": seconds})
        shown = [fault.name, fault.expected, seen.status, *("yes" if fact else "NO" for fact in seen[1:])]
        sys.stdout.write(f"| {' | '.join(shown)} | {seconds:.1f} |\n")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
