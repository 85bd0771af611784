"""Rehearse Baby at its true size: raw files, images and all from a mirror on 127.0.0.1, as from the real hosts.

python -m benchmarks.rehearsal --folder FOLDER [--data ../shared/data/amazon] [--features] [--json OUT]

FOLDER/mirror gets ratings_Baby.csv and meta_Baby.json.gz, with the formats and numbers of lines of Amazon-2014, and
Baby's images. The ids, the interactions and the image URLs of --data are real, except for the URLs' host. Texts,
pictures, the rows of users and items outside the 5-core, and faults are generated: some images are missing, cut, HTML
pages or single dots. nginx (Debian: apt-get install nginx-light) serves the folder. Then the line's own commands run;
only the base URLs differ: download, catalogue, and crawl, which is killed with -9 in the middle and started again; with
--features also the rest up to features, with the embedded encoders. It prints a table, and fails if a count differs
from the published or the generated one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import polars as pl
from numpy.random import Generator

from benchmarks import configs
from benchmarks.mirror import draw_picture
from cliper import files, resources
from cliper.config import MadeFeatures
from cliper.demo.shop import DOT, PAGE
from cliper.schemas import IMAGE_STATUSES

SEED = 2014
PLACEHOLDERS = resources.read_lines("placeholders.txt")
# Amazon-2014, Baby: rows and users of ratings_Baby.csv, lines of meta_Baby.json.gz
N_RATINGS, N_USERS, N_LINES = 915_446, 531_890, 71_317
PUBLISHED = {"train": 118_551, "valid": 20_559, "test": 21_682, "users": 19_445, "items": 7_050}
FAULTS = {"missing": 70, "page": 20, "cut": 20, "dot": 10}  # images of each kind
STATUSES = {"missing": "http_error", "page": "not_an_image", "cut": "truncated", "dot": "too_small"}
WORDS = [
    "soft",
    "cotton",
    "baby",
    "crib",
    "safe",
    "bottle",
    "organic",
    "stroller",
    "wash",
    "easy",
    "gift",
    "new",
    "colour",
    "set",
    "pack",
    "infant",
    "clean",
    "fits",
    "warm",
]
BRANDS = ["Gerber", "Summer Infant", "Munchkin", "Graco", "Carters", "Skip Hop", "Nuby", "Boon"]
SHELVES = [["Feeding", "Bottles"], ["Nursery", "Bedding"], ["Strollers"], ["Safety", "Gates & Doorways"], ["Bathing"]]
CONFIG = """worker_processes 1;
{user}daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format short '$status $request_uri';
  access_log {folder}/access.log short;
  types {{ image/jpeg jpg; image/gif gif; }}
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  server {{ listen 127.0.0.1:{port}; root {folder}/mirror; keepalive_requests 1000000; }}
}}
"""


class World(NamedTuple):
    """The real data: the interactions, and the paths of the pictures."""

    interactions: pl.DataFrame  # user_id, asin
    urls: dict[str, str | None]  # asin -> path of the image, or None


def read_world(data: Path, base: str) -> World:
    """Read Baby's ids, interactions and image URLs, their host replaced by `base`."""
    pairs = pl.read_csv(data / "baby.inter", separator="\t", columns=["userID", "itemID"])
    users, items = (pl.read_csv(data / "baby_ids" / f"{name}_id_mapping.csv", separator="\t") for name in "ui")
    pairs = pairs.join(users, on="userID", maintain_order="left").join(items, on="itemID", maintain_order="left")
    listed = pl.read_csv(data / "baby_ids" / "baby_url.csv").select("asin", "imUrl").rows()
    urls = {asin: base + url.removeprefix(f"http://{urlsplit(url).netloc}") if url else None for asin, url in listed}
    return World(pairs.select("user_id", "asin"), urls)


def write_ratings(path: Path, world: World, generator: Generator) -> None:
    """Write the ratings: the true pairs, and those of other users, who rate too little for the 5-core."""
    n_more, n_more_users = N_RATINGS - len(world.interactions), N_USERS - world.interactions["user_id"].n_unique()
    number = np.arange(n_more) % n_more_users
    asins = [*world.urls, *(f"B1DUST{i:05d}" for i in range(N_LINES - len(world.urls)))]
    # a user's second item lies half the list after the first: no pair comes twice
    place = generator.integers(0, len(asins) // 2, n_more_users)[number] + len(asins) // 2 * (
        np.arange(n_more) >= n_more_users
    )
    more = pl.DataFrame({"user_id": number, "asin": pl.Series(asins)[place]})
    more = more.select(pl.format("A1DUST{}", "user_id").alias("user_id"), "asin")
    rows = pl.concat([world.interactions, more])
    rating, day = generator.integers(1, 6, len(rows)), generator.integers(12_000, 16_270, len(rows))
    rows = rows.with_columns(rating=pl.Series(rating).cast(pl.Float64), timestamp=pl.Series(day * 86_400))
    rows.sort("asin", maintain_order=True).write_csv(path, include_header=False)


def write_metadata(path: Path, world: World, generator: Generator) -> None:
    """Write the metadata: a Python literal a line, in the fields of Amazon-2014, some of them missing."""
    asins = [*world.urls, *(f"B1DUST{i:05d}" for i in range(N_LINES - len(world.urls)))]
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        for place in generator.permutation(len(asins)):
            words = generator.choice(WORDS, 60).tolist()
            line: dict[str, Any] = {"asin": asins[place], "categories": [["Baby", *SHELVES[place % len(SHELVES)]]]}
            line |= {"title": " ".join(words[:8]).title(), "description": " ".join(words[8:]).capitalize() + "."}
            line |= {"brand": BRANDS[place % len(BRANDS)], "price": float(place % 90) + 0.99}
            line |= {"salesRank": {"Baby": int(place)}, "related": {"also_bought": asins[place : place + 3]}}
            if url := world.urls.get(asins[place]):
                line["imUrl"] = url
            missing = {
                field for field, share in (("brand", 7), ("description", 11), ("price", 5)) if place % share == 0
            }
            file.write(f"{ {field: value for field, value in line.items() if field not in missing} }\n")


def draw_images(folder: Path, world: World, generator: Generator) -> dict[str, str]:
    """Draw the pictures below `folder`; returns the fault of each URL that has one."""
    urls = sorted({url for url in world.urls.values() if url and not any(part in url for part in PLACEHOLDERS)})
    names = [fault for fault, count in FAULTS.items() for _ in range(count)]
    faults = dict(zip(generator.permutation(urls).tolist(), names, strict=False))
    for url in urls:
        path = folder / unquote(urlsplit(url).path).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = draw_picture(generator, "GIF" if path.suffix == ".gif" else "JPEG")
        match faults.get(url):
            case None:
                path.write_bytes(picture)
            case "page":
                path.write_bytes(PAGE)
            case "cut":
                path.write_bytes(picture[: len(picture) // 2])
            case "dot":
                path.write_bytes(DOT)
    return faults


def expect(world: World, faults: dict[str, str]) -> Counter[str]:
    """How many items must end in each status."""
    expected = Counter[str]()
    for url in world.urls.values():
        if url is None:
            expected["no_url"] += 1
        elif any(part in url for part in PLACEHOLDERS):
            expected["placeholder"] += 1
        else:
            expected[STATUSES[faults[url]] if url in faults else "ok"] += 1
    return expected


@contextmanager
def serve(folder: Path, port: int) -> Iterator[None]:
    """Let nginx serve FOLDER/mirror while the block runs."""
    if not (nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")):
        sys.exit("nginx is missing; on Debian: apt-get install nginx-light")
    user = "user root;\n" if os.geteuid() == 0 else ""  # else nobody would have to read the folder
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, user=user))
    process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                sys.exit(f"nginx ended: {(folder / 'error.log').read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Line:
    """Runs the line's commands in a folder and keeps account of their time."""

    def __init__(self, folder: Path, overlay: dict[str, Any]) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.layout = configs.write(overlay, folder)

    def start(self, stage: str, **names: str) -> subprocess.Popen[bytes]:
        """Start one stage."""
        options = [word for name, value in names.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-m", "cliper", stage, "--config", str(configs.SHIPPED), configs.OVERLAY, *options]
        environment = os.environ | {"PYTHONPATH": str(configs.REPOSITORY)}
        return subprocess.Popen(command, cwd=self.folder, env=environment)

    def run(self, stage: str, **names: str) -> None:
        """Run one stage to its good end; its seconds are added up by stage."""
        began = time.perf_counter()
        if code := self.start(stage, **names).wait():
            sys.exit(f"{stage} ended with exit code {code}")
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def kill(self, stage: str, *, shards: int, **names: str) -> None:
        """Start a stage and kill it with -9 as soon as it has written `shards` shards."""
        folder = self.folder / self.layout.folder(stage, **names) / "shards"
        began, process = time.perf_counter(), self.start(stage, **names)
        while len(list(folder.glob("images-*"))) < shards:
            if process.poll() is not None:
                sys.exit("the crawl ended before it was killed")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.seconds[f"{stage}, until killed"] = time.perf_counter() - began

    def table(self, kind: str) -> pl.DataFrame:
        """A table of Baby that the line wrote."""
        return files.read_table(self.folder / self.layout.path(kind, dataset="baby"), kind)


def rehearse(line: Line, *, with_features: bool) -> None:
    """Run the stages, the crawl in two parts."""
    for file in ("ratings_Baby.csv", "meta_Baby.json.gz"):
        line.run("download", dataset="baby", file=file)
    line.run("catalogue", dataset="baby")
    line.kill("crawl", shards=3, dataset="baby")
    line.run("crawl", dataset="baby")
    if with_features:
        made, encoder = line.layout.config.features("baby", "cliper"), {"encoder": "bridge"}
        assert isinstance(made, MadeFeatures)
        line.run("weights", **encoder)
        for view in made.views:
            line.run("prompt", dataset="baby", prompts=made.prompts, view=view)
            line.run("encode-text", dataset="baby", prompts=made.prompts, view=view, **encoder)
        line.run("encode-image", dataset="baby", **encoder)
        line.run("fuse", dataset="baby", arm="cliper")


def check(line: Line, expected: Counter[str]) -> dict[str, Any]:
    """Compare what came out with what must; returns the account."""
    counts = {kind: len(line.table(kind)) for kind in PUBLISHED}
    images = line.table("images")
    statuses = Counter(images["status"])
    asked = [row.split(" ", 1)[1] for row in (line.folder / "access.log").read_text().splitlines()]
    asked = [path for path in asked if path.startswith("/images/")]
    crawling_s = line.seconds["crawl, until killed"] + line.seconds["crawl"]
    return {
        "counts": counts,
        "counts are the published ones": counts == PUBLISHED,
        "statuses": {status: statuses[status] for status in IMAGE_STATUSES if statuses[status]},
        "statuses are the expected ones": statuses == expected,
        "items with more or less than one row": len(images)
        - images["item"].n_unique()
        + abs(len(images) - counts["items"]),
        "URLs asked": len(set(asked)),
        "URLs asked twice because of the kill": len(asked) - len(set(asked)),
        "images a second, both parts and their starts": len(set(asked)) / crawling_s,
        "seconds": line.seconds,
    }


def show(account: dict[str, Any], indent: str = "") -> None:
    """Print an account, a line a number."""
    for name, value in account.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{indent}{name}\n")
            show(value, f"{indent}  ")
        else:
            sys.stdout.write(
                f"{indent}{name}: {value:,.1f}\n" if isinstance(value, float) else f"{indent}{name}: {value}\n"
            )


def main() -> int:
    """Build the mirror, run the line against it, print the account; returns 1 if a count is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="empty or missing; about 500 MB")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/amazon"))
    parser.add_argument("--features", action="store_true", help="go on up to features, with the embedded encoders")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder, port, generator = options.folder.resolve(), free_port(), np.random.default_rng(SEED)
    raw = folder / "mirror" / "categoryFiles"
    raw.mkdir(parents=True)
    base = f"http://127.0.0.1:{port}"
    world = read_world(options.data, base)
    write_ratings(raw / "ratings_Baby.csv", world, generator)
    write_metadata(raw / "meta_Baby.json.gz", world, generator)
    faults = draw_images(folder / "mirror", world, generator)
    source = {"mirrors": [f"{base}/categoryFiles"]}
    arms = {"cliper": {"image": "bridge", "text": "bridge"}}
    overlay = {"name": "rehearsal", "run": {"datasets": ["baby"], "arms": ["cliper"]}, "arms": arms}
    overlay |= {"datasets": {"baby": {"source": source}}, "crawl": {"allow_hosts": [f"127.0.0.1:{port}"]}}
    overlay["download"] = {"lock": None}  # the raw files are drawn each time
    line = Line(folder, overlay)
    with serve(folder, port):
        rehearse(line, with_features=options.features)
    account = check(line, expect(world, faults))
    show(account)
    if options.json:
        options.json.write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
    is_good = account["counts are the published ones"] and account["statuses are the expected ones"]
    return 0 if is_good and not account["items with more or less than one row"] else 1


if __name__ == "__main__":
    sys.exit(main())
