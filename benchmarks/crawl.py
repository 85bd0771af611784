"""Measure our crawl against img2dataset and against one `requests.get` after the other.

python -m benchmarks.crawl --json OUT [--images 5000] [--https 600] [--many 50000] [--plain 300]

All sides are commands of their own, run one after the other against one server on 127.0.0.1 (`benchmarks/mirror.py`:
JPEGs of 300 x 300 pixels and about 9 kB). img2dataset 1.47 is installed into a virtual environment of its own in
~/.cache/cliper, with 2 processes of 32 threads, no resizing, webdataset; ours has 64 threads and 64 connections and,
unlike in a real crawl, no limit of requests a second. A run stops if a side did not get every picture.

plain     one by one with `requests.get`, 50 ms a response; a sample, from which the rate is taken
http      no delay; http_50: 50 ms before each response; https: TLS, no delay
memory    ours alone, for --images and for --many URLs, no delay

end_to_end  pictures by the wall seconds of the whole command, its start included
steady      pictures by the seconds between the first and the last request, as the server saw them
cpu_ms      CPU milliseconds a picture, start included, of the command and its children
peak_mib    largest sum of the processes' proportional memory (PSS), looked at five times a second
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import psutil
import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from benchmarks import configs
from benchmarks.configs import REPOSITORY
from benchmarks.faults import make_certificate
from cliper import files

IMG2DATASET = "img2dataset==1.47.0"
CACHE = Path.home() / ".cache" / "cliper" / IMG2DATASET
PROCESSES, THREADS = 2, 32
PLAIN = """
import sys, requests
from pathlib import Path
for place, url in enumerate(Path(sys.argv[1]).read_text().split()):
    Path(sys.argv[2], f"{place}.jpg").write_bytes(requests.get(url).content)
"""


class Server(NamedTuple):
    """The mirror, and the certificates that a side must trust to talk to it."""

    http: str
    https: str
    certificates: Path

    def urls(self, count: int, *, base: str, delay_ms: int) -> list[str]:
        """URLs of `count` pictures."""
        return [f"{base}/{delay_ms}/{number}.jpg" for number in range(count)]

    def account(self) -> dict[str, Any]:
        """Numbers of the requests since the last account."""
        said: dict[str, Any] = requests.get(f"{self.http}/account", timeout=10).json()
        return said


@contextmanager
def open_mirror(folder: Path) -> Iterator[Server]:
    """Run the mirror while the block runs. Its certificate is added to the usual ones: they cost a client time."""
    certificate, key = make_certificate(folder)
    trusted = folder / "trusted.pem"
    trusted.write_bytes(Path(DEFAULT_CA_BUNDLE_PATH).read_bytes() + certificate.read_bytes())
    command = [sys.executable, "-m", "benchmarks.mirror", str(certificate), str(key)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        http, https = (int(process.stdout.readline()) for _ in range(2))
        try:
            yield Server(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", trusted)
        finally:
            process.terminate()


def measure(server: Server, command: list[str], folder: Path, count: int) -> dict[str, float]:
    """Run a command to its end and say what it took. Raises CalledProcessError with its last words if it fails."""
    environment = os.environ | {"SSL_CERT_FILE": str(server.certificates), "NO_ALBUMENTATIONS_UPDATE": "1"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    server.account()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        peak_mib = 0.0
        while process.poll() is None:
            peak_mib = max(peak_mib, memory_mib(process))
            time.sleep(0.2)
        wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            output.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, output.read()[-2000:])
    account = server.account()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "end_to_end": count / wall_s,
        "steady": (account["pictures"] - 1) / account["seconds"],
        "cpu_ms": 1000 * cpu_s / count,
        "peak_mib": peak_mib,
        "connections": account["connections"] - 1,  # of the account itself
    }


def memory_mib(process: psutil.Process) -> float:
    """Proportional memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                total += member.memory_full_info().pss
    return total / 2**20


def crawl_ours(server: Server, urls: list[str]) -> dict[str, float]:
    """Crawl with `python -m cliper crawl`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        items: dict[str, Any] = {"item": range(len(urls)), "asin": [str(i) for i in range(len(urls))]}
        items |= {"image_url": urls, **dict.fromkeys(("title", "brand", "categories", "description"))}
        connections = PROCESSES * THREADS
        crawl = {"allow_hosts": ["127.0.0.1"], "requests_per_s": 1_000_000, "min_ok": 1}
        crawl |= {"threads": connections, "connections_per_host": connections}
        layout = configs.write(configs.one_dataset("bench", crawl=crawl), folder)
        files.write_table(folder / layout.path("items", dataset="bench"), "items", pl.DataFrame(items))
        named = ["--config", str(configs.SHIPPED), configs.OVERLAY, "--dataset", "bench"]
        command = [sys.executable, "-m", "cliper", "crawl", *named]
        cost = measure(server, command, folder, len(urls))
        n_ok = files.read_table(folder / layout.path("images", dataset="bench"), "images").filter(status="ok").height
    require_all("ours", n_ok, len(urls))
    return cost


def crawl_img2dataset(server: Server, urls: list[str]) -> dict[str, float]:
    """Crawl with img2dataset's command; every process gets two shards."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "urls.txt").write_text("\n".join(urls) + "\n", encoding="utf-8")
        shard_size = -(-len(urls) // (2 * PROCESSES))
        options = ["--url_list", "urls.txt", "--output_folder", "out", "--output_format", "webdataset"]
        options += ["--resize_mode", "no", "--processes_count", str(PROCESSES), "--thread_count", str(THREADS)]
        options += ["--number_sample_per_shard", str(shard_size)]
        cost = measure(server, [str(CACHE / "bin" / "img2dataset"), *options], folder, len(urls))
        stats = [json.loads(path.read_text()) for path in (folder / "out").glob("*_stats.json")]
    require_all("img2dataset", sum(shard["successes"] for shard in stats), len(urls))
    return cost


def crawl_plainly(server: Server, urls: list[str]) -> dict[str, float]:
    """Fetch one after the other, into a file each."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "urls.txt").write_text("\n".join(urls), encoding="utf-8")
        (folder / "out").mkdir()
        cost = measure(server, [sys.executable, "-c", PLAIN, "urls.txt", "out"], folder, len(urls))
        n_ok = sum(path.stat().st_size > 0 for path in (folder / "out").iterdir())
    require_all("requests.get", n_ok, len(urls))
    return cost


def require_all(side: str, n_ok: int, count: int) -> None:
    """Stop if a side missed pictures: its time would say nothing."""
    if n_ok != count:
        raise RuntimeError(f"{side} got {n_ok} of {count} pictures")


def install_img2dataset() -> None:
    """Install img2dataset into a virtual environment of its own, once."""
    if not (CACHE / "bin" / "img2dataset").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        venv.create(CACHE, with_pip=True)
        subprocess.run([str(CACHE / "bin" / "pip"), "install", "--quiet", IMG2DATASET], check=True)


def compare(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Both sides, and how many times faster ours is."""
    ratios = {f"{key}_ratio": ours[key] / theirs[key] for key in ("end_to_end", "steady")}
    return {**ratios, "cpu_ratio": theirs["cpu_ms"] / ours["cpu_ms"], "ours": ours, "theirs": theirs}


def measure_all(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Run every comparison; returns the results by name."""
    results = {}
    for name, base, delay_ms, count in (
        ("http", server.http, 0, options.images),
        ("http_50", server.http, 50, options.images),
        ("https", server.https, 0, options.https),
    ):
        urls = server.urls(count, base=base, delay_ms=delay_ms)
        results[name] = compare(crawl_ours(server, urls), crawl_img2dataset(server, urls))
        show(name, results[name])
    plain = crawl_plainly(server, server.urls(options.plain, base=server.http, delay_ms=50))
    results["plain"] = compare(results["http_50"]["ours"], plain) | {"sampled": options.plain}
    show("plain", results["plain"])
    many = crawl_ours(server, server.urls(options.many, base=server.http, delay_ms=0))
    results["memory"] = {"few": results["http"]["ours"], "many": many}
    few_mib, many_mib = results["http"]["ours"]["peak_mib"], many["peak_mib"]
    sys.stdout.write(f"memory: {few_mib:.0f} MiB for {options.images} URLs, {many_mib:.0f} for {options.many}\n")
    return results


def show(name: str, result: dict[str, Any]) -> None:
    """Print one comparison in a line."""
    ours, theirs = result["ours"], result["theirs"]
    parts = [
        f"{key} {result[f'{key}_ratio']:.2f}x ({ours[key]:.0f} / {theirs[key]:.0f} a second)"
        for key in ("end_to_end", "steady")
    ]
    parts += [f"{key} {ours[key]:.2f} / {theirs[key]:.2f}" for key in ("cpu_ms", "peak_mib")]
    sys.stdout.write(f"{name}: {', '.join(parts)}\n")


def main() -> None:
    """Measure, print a line a comparison, and write all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5_000, help="URLs of the comparisons over http")
    parser.add_argument("--https", type=int, default=600, help="URLs of the comparison over https")
    parser.add_argument("--many", type=int, default=50_000, help="URLs for the memory")
    parser.add_argument("--plain", type=int, default=300, help="URLs asked one by one")
    options = parser.parse_args()
    install_img2dataset()
    with TemporaryDirectory() as folder, open_mirror(Path(folder)) as server:
        results = measure_all(server, options)
    results |= {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()}
    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
