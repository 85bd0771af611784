"""Measure how fast raw files of the size of Amazon's largest categories are read, and in how much memory.

python -m benchmarks.parse --json OUT [--lines 1500000] [--wanted 23000] [--ratings 23000000] [--folder FOLDER]

metadata  lines of about 1 kB, gzipped; the wanted items' are parsed. The plain side parses every line, as tutorials do;
          its time is taken on a sample of whole lines and scaled to all
ratings   a CSV of --ratings rows; reading, duplicates, 5-core and numbering

All is generated, from one seed, into FOLDER (default: a temporary one, removed afterwards; about 0.6 and 1 GB at full
size). Each side runs in a process of its own with one thread, so that its peak of memory is its own; the growth of that
peak from a tenth of the lines to all shows whether memory is flat.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cliper.collect import catalogue
from cliper.collect.sources import SOURCES
from cliper.collect.sources.amazon2014 import Amazon2014, read_metadata
from cliper.collect.sources.amazon2014_settings import Amazon2014Settings
from cliper.config import decides
from cliper.variants import Variant

SEED = 1
N_SAMPLED = 20_000  # lines of the plain side
LINE = (
    "{'asin': '%s', 'title': '%s', 'price': 9.99, 'imUrl': 'http://h/%s.jpg', 'categories': [['Home', 'Cups']], %s}\n"
)
RELATED = "'related': {'also_bought': [%s]}, 'brand': 'Brand', 'description': '%s'"
SETTINGS = Amazon2014Settings(category="X", interactions="ratings")
SOURCE = Amazon2014(SETTINGS)
JOB = decides.Catalogue(
    source=Variant("amazon2014", SOURCES.rows["amazon2014"].place, SETTINGS),
    split="random",
    min_rating=None,
    k_core=5,
    split_seed=SEED,
    drop_items_without_metadata=False,
)


class Cost(NamedTuple):
    """What one piece of work took in a process of its own."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    result: Any


def name_item(number: int) -> str:
    """The asin of a generated item.

    >>> name_item(12)
    'B000000012'
    """
    return f"B{number:09}"


def draw_lines(n: int) -> Iterator[bytes]:
    """Metadata of n items, about 1 kB a line, their texts cut from one long one."""
    generator = np.random.default_rng(SEED)
    words = np.array(["the", "cup", "of", "soft", "cotton", "baby", "blue", "with", "handle", "and", "washable"])
    text = " ".join(generator.choice(words, 20_000))
    starts, others = generator.integers(0, 90_000, n), generator.integers(0, n, (n, 16))
    for number in range(n):
        related = ", ".join(f"'{name_item(other)}'" for other in others[number].tolist())
        start, asin = int(starts[number]), name_item(number)
        rest = RELATED % (related, text[start : start + 600])
        yield (LINE % (asin, text[start : start + 50], asin, rest)).encode()


def write_metadata(path: Path, n: int) -> None:
    """Write the lines of n items, gzipped."""
    with gzip.open(path, "wb", compresslevel=1) as out:
        lines = draw_lines(n)
        while block := b"".join(islice(lines, 4096)):
            out.write(block)


def write_ratings(path: Path, n: int) -> None:
    """Write n ratings: a few users and items have many, most have few, some pairs stand twice."""
    generator = np.random.default_rng(SEED)
    with path.open("wb") as out:
        for start in range(0, n, 1_000_000):
            m = min(1_000_000, n - start)
            users, items = ((share * n * generator.random(m) ** 3).astype(np.int64) for share in (0.35, 0.09))
            columns = {
                "user": pl.select("A" + pl.Series(users).cast(pl.String).str.zfill(13)).to_series(),
                "item": pl.select("B" + pl.Series(items).cast(pl.String).str.zfill(9)).to_series(),
                "rating": generator.integers(1, 6, m).astype(float),
                "time": generator.integers(15_000, 16_200, m) * 86_400,
            }
            pl.DataFrame(columns).write_csv(out, include_header=False)


def read_wanted(path: Path, n_lines: int, n_wanted: int) -> int:
    """Our side of the metadata: how many wanted items were found."""
    wanted = {name_item(number) for number in np.linspace(0, n_lines - 1, n_wanted).astype(int).tolist()}
    return read_metadata(path, wanted).height


def parse_all(path: Path, n: int) -> int:
    """The plain side of the metadata: parse the first n lines, one after the other."""
    with gzip.open(path) as lines:
        return sum(len(ast.literal_eval(line.decode())["asin"]) > 0 for line in islice(lines, n))


def cut_to_core(path: Path) -> dict[str, int]:
    """Our side of the ratings: what is left. Raises AssertionError if a user or an item has fewer than five."""
    kept, card = catalogue.keep(SOURCE.read_interactions({"interactions": path}), JOB, "generated")
    kept = catalogue.label(kept, JOB, "generated")
    fewest = [int(np.bincount(kept[name].to_numpy()).min()) for name in ("user", "item")]
    assert min(fewest) >= 5, fewest
    return {"rows": kept.height, "users": card[-1]["users"], "items": card[-1]["items"], "steps": len(card)}


def measure(work: Callable[..., Any], *arguments: Any) -> Cost:
    """Run work in a process of its own, with one thread."""
    os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, *arguments))


def _measured(work: Callable[..., Any], *arguments: Any) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*arguments)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, peak_mib, result)


def measure_metadata(folder: Path, n_lines: int, n_wanted: int) -> dict[str, Any]:
    """Both sides of the metadata, and ours on a tenth of it."""
    path, tenth = folder / "meta_X.json.gz", folder / "meta_tenth.json.gz"
    write_metadata(path, n_lines)
    write_metadata(tenth, n_lines // 10)
    n_sampled = min(N_SAMPLED, n_lines)
    before = measure(parse_all, path, n_sampled)
    ours = measure(read_wanted, path, n_lines, n_wanted)
    after = measure(parse_all, path, n_sampled)
    small = measure(read_wanted, tenth, n_lines // 10, min(n_wanted, n_lines // 10))
    assert (ours.result, before.result) == (n_wanted, n_sampled)
    plain_cpu_s = (before.cpu_s + after.cpu_s) / 2 * n_lines / n_sampled
    return {
        "lines": n_lines,
        "wanted": n_wanted,
        "packed_bytes": path.stat().st_size,
        "ours": ours._asdict(),
        "ours_on_a_tenth": small._asdict(),
        "growth_mib": ours.peak_mib - small.peak_mib,
        "plain_cpu_s": plain_cpu_s,
        "ratio": plain_cpu_s / ours.cpu_s,
    }


def measure_ratings(folder: Path, n: int) -> dict[str, Any]:
    """The k-core of n generated rows, from the file on."""
    path = folder / "ratings_X.csv"
    write_ratings(path, n)
    return {"rows": n, "file_bytes": path.stat().st_size, "ours": measure(cut_to_core, path)._asdict()}


def main() -> None:
    """Generate, measure, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=1_500_000)
    parser.add_argument("--wanted", type=int, default=23_000)
    parser.add_argument("--ratings", type=int, default=23_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.folder) as folder:
        metadata = measure_metadata(Path(folder), options.lines, options.wanted)
        ratings = measure_ratings(Path(folder), options.ratings)
    found = {"metadata": metadata, "ratings": ratings, "load": os.getloadavg()[0]}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
