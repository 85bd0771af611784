"""Measure our encoding against the plain way: one text or image a forward, texts padded to the context.

python -m benchmarks.encode --json OUT [--items 300] [--images 64] [--metadata meta_Films.json.gz]

Both sides have the same weights, drawn once: ViT-B/32 for images, Long-CLIP-L's text tower (12 layers of 768, context
248). One thread, no GPU; about 7 minutes on a quiet core of 100 GFLOP/s. The run stops if an embedding of the plain
side differs by more than 1e-5 from ours. Ratios are CPU seconds of the plain side over ours; wall seconds
stand next to them.

text    all views of every item, by prompt set: tokenise and encode. The plain side encodes every prompt of every item;
        each costs the same, so groups of a few are timed before, between and after our views, and the median
        of the groups is taken for all
images  JPEGs of 300 x 300 pixels, decoded, prepared and encoded on both sides in turn; medians of three rounds
edit    ours alone, as_described: the title's template is changed after the run above; the texts encoded for each view,
        and their time a token over that of the first run
share   of the machine's fp32 GEMM (2048 x 2048 x 2048, the best seen during the run) that a tower reaches on the tokens
        it computes; and on the texts' own tokens alone, without padding and what fills up the last batch of a width.
        A batch's worth of fill a width weighs on few items: on 300 it is a fifth, on thousands a twentieth
memory  ours alone, a small text tower with vectors of 768: peak that the stage adds to a process of its own (VmHWM;
        getrusage's begins with the parent's), for 1,000, 5,000 and 20,000 prompts of a view

Items come from a metadata file of Amazon-2014, or are drawn with lengths like its. A run with fewer items or images
than these defaults is a test of the code: last batches that are mostly fill then decide the times.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import open_clip
import polars as pl
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.backbones import Cost, Meter
from cliper import config, files
from cliper.__main__ import perform
from cliper.arrays import Ints, Vectors
from cliper.collect.sources import amazon2014
from cliper.collect.sources.records import ITEMS, read_lines
from cliper.config.features import View
from cliper.features import encode
from cliper.features.embeddings.store import VectorStore
from cliper.features.encoders import ENCODERS, loading
from cliper.features.encoders.base import Encoder, Texts
from cliper.features.prompts.templates import render_items
from cliper.layout import Layout

CONFIG = config.load([Path(__file__).parents[1] / "config.yaml"])
SETS = ("as_described", "as_released")
TOLERANCE = 1e-5
SEED = 1
N_PLAIN = 4  # prompts in a group of the plain side
ROUNDS = 3
MODEL: dict[str, Any] = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 248, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
}
SMALL = MODEL | {
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 248, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
HOW = {"threads": 1, "device": "cpu", "overflow": "truncate", "ranges": 1, "store": None}
CHOSEN = ENCODERS.choose({"kind": "open_clip", "architecture": "local-dir:checkpoint", "context": 248})
DRAWN = CONFIG.model_copy(  # below the folder that it is run in
    update={"name": "drawn", "encoders": {"drawn": CHOSEN}, "encode": CONFIG.encode.model_copy(update=HOW)}
)
VIEW = {"dataset": "baby", "prompts": "as_described", "view": "title"}
MEMORY_SIZES = (1_000, 5_000, 20_000)
WORK = ("gflop_run", "gflop")  # operations that are run, and those of the texts' own tokens
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Sides(NamedTuple):
    """One set of weights on both sides."""

    ours: Encoder
    model: Any
    tokenizer: Any
    preprocess: Any


class Measured(NamedTuple):
    """One prompt set on both sides."""

    numbers: dict[str, Any]
    encoded: dict[str, Texts]  # by view, on our side


def build(folder: Path, model: dict[str, Any]) -> Sides:
    """Draw weights, write them as a checkpoint, and load it on both sides."""
    torch.manual_seed(SEED)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_file(open_clip.CLIP(**model).state_dict(), checkpoint / "open_clip_model.safetensors")
    files.write_json(checkpoint / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": {}})
    path, how = folder / Layout(DRAWN).path("weights", encoder="drawn"), DRAWN.encode
    with contextlib.chdir(folder):
        weights = loading.prepare(CHOSEN, path.parent, threads=how.threads)
    files.write_json(path, loading.note(CHOSEN, weights))
    ours, _ = loading.load(
        CHOSEN,
        path,
        name="drawn",
        threads=how.threads,
        device=how.device,
        precision=how.precision,
        batch_size=how.batch_size,
        batch_tokens=how.batch_tokens,
    )
    name = f"local-dir:{checkpoint}"
    plain, preprocess = open_clip.create_model_from_pretrained(name)
    return Sides(ours, plain.eval(), open_clip.get_tokenizer(name), preprocess)


def read_items(path: Path, n: int) -> pl.DataFrame:
    """Read the first n items of a metadata file."""
    lines = islice(read_lines(path), n)
    records = [amazon2014.parse_record(line.decode(), f"{path}, line {number}") for number, line in lines]
    return pl.DataFrame(records, schema=ITEMS).with_row_index("item")


def draw_items(n: int) -> pl.DataFrame:
    """Draw items whose fields are about as long as real ones: few brands and categories, most with a description."""
    generator = np.random.default_rng(SEED)
    words = np.array(["".join(generator.choice([*LETTERS], generator.integers(2, 8))) for _ in range(3_000)])

    def text(low: int, high: int) -> str:
        return " ".join(generator.choice(words, generator.integers(low, high)))

    n_shared = 1 + n // 12
    brands, paths = [text(1, 3) for _ in range(n_shared)], [[text(1, 3) for _ in range(4)] for _ in range(n_shared)]
    rows = [
        {
            "item": item,
            "title": text(3, 9),
            "brand": brands[generator.integers(n_shared)],
            "categories": [paths[generator.integers(n_shared)]],
            "description": text(8, 50) if generator.random() < 0.9 else None,
        }
        for item in range(n)
    ]
    return pl.DataFrame(rows)


def render(items: pl.DataFrame, views: dict[str, View]) -> dict[str, list[str]]:
    """View -> the prompts of all items."""
    return {view: render_items(items, views, view)["text"].to_list() for view in views}


def embed_plainly(sides: Sides, texts: list[str]) -> Vectors:
    with torch.no_grad():
        rows = [sides.model.encode_text(sides.tokenizer([text])) for text in texts]
    return torch.cat(rows).numpy()


def require_equal(name: str, ours: Vectors, theirs: Vectors) -> float:
    """The largest difference. Stops the run if it is no rounding."""
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"{name}: the two sides differ by {difference:.2g}, so their times say nothing")
    return difference


def measure_texts(sides: Sides, prompts: dict[str, list[str]], store: VectorStore | None = None) -> Measured:
    """Encode all prompts on our side, view by view, and groups of them on the plain one in between."""
    texts = [text for view in prompts.values() for text in view]
    n_sampled = min(N_PLAIN * (len(prompts) + 1), len(texts))
    sample = np.random.default_rng(SEED).choice(len(texts), n_sampled, replace=False)
    groups = np.array_split(sample, len(prompts) + 1)
    plain, ours, theirs, encoded = list[Cost](), list[Cost](), list[Vectors](), dict[str, Texts]()

    def encode_plainly(group: Ints) -> None:
        cost, rows = Meter().measure(lambda: embed_plainly(sides, [texts[i] for i in group]))
        plain.append(Cost(cost.cpu_s / len(group), cost.wall_s / len(group)))
        theirs.append(rows)

    for group, view in zip(groups, prompts, strict=False):
        encode_plainly(group)
        cost, encoded[view] = Meter().measure(lambda view=view: sides.ours.encode_texts(prompts[view], store=store))
        ours.append(cost)
    encode_plainly(groups[-1])
    embedding = np.concatenate([found.embedding for found in encoded.values()])[sample]
    work = [text_flops(sides.ours, prompts[view], found) for view, found in encoded.items()]
    found = compare(Cost(*(np.median(plain, axis=0) * len(texts)).tolist()), Cost(*map(sum, zip(*ours, strict=True))))
    return Measured(
        found
        | {
            "max_abs_difference": require_equal("texts", embedding, np.concatenate(theirs)),
            "plain_s_a_text": [cost.cpu_s for cost in plain],
            "texts": {view: f"{found.n_encoded} / {len(prompts[view])}" for view, found in encoded.items()},
            "median_tokens": {view: statistics.median(found.n_tokens.tolist()) for view, found in encoded.items()},
            "gflop": sum(own for own, _ in work) / 1e9,
            "gflop_run": sum(run for _, run in work) / 1e9,
        },
        encoded,
    )


def compare(plain: Cost, ours: Cost) -> dict[str, Any]:
    return {
        "ratio": plain.cpu_s / ours.cpu_s,
        "wall": plain.wall_s / ours.wall_s,
        "plain": plain._asdict(),
        "ours": ours._asdict(),
    }


def flops(n_tokens: int, width: int, layers: int) -> float:
    """Floating-point operations of a transformer on one sequence: 12 width² weights a layer, and attention."""
    return float(layers * (24 * n_tokens * width**2 + 4 * n_tokens**2 * width))


def text_flops(encoder: Encoder, texts: list[str], encoded: Texts) -> tuple[float, float]:
    """Operations of the distinct texts' own tokens, and those that are run: with padding and full last batches."""
    shape, tower = MODEL["text_cfg"], encoder.text
    assert tower
    lengths = [min(n, tower.context) for n in count_tokens(texts, encoded).values()]
    cost = {n: flops(n, shape["width"], shape["layers"]) for n in {*lengths, *map(tower.width, lengths)}}
    run = 0.0
    for width, n_texts in Counter(map(tower.width, lengths)).items():
        height = max(1, encoder.batch_tokens // width)
        run += -(-n_texts // height) * height * cost[width]
    return sum(cost[n] for n in lengths), run


def draw_jpegs(n: int) -> dict[str, bytes]:
    """JPEGs of 300 x 300 pixels, of smooth colours, by their sha256."""
    generator, found = np.random.default_rng(SEED), {}
    for _ in range(n):
        coarse = Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((300, 300), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found[hashlib.sha256(file.getvalue()).hexdigest()] = file.getvalue()
    return found


def measure_images(sides: Sides, n: int) -> dict[str, Any]:
    """Decode and encode images on both sides."""
    jpegs = draw_jpegs(n)

    def embed_one_by_one() -> Vectors:
        with torch.no_grad():
            pixels = (sides.preprocess(Image.open(io.BytesIO(data))) for data in jpegs.values())
            return torch.cat([sides.model.encode_image(one[None]) for one in pixels]).numpy()

    def read(chosen: list[str]) -> Iterator[tuple[str, bytes]]:
        yield from ((name, jpegs[name]) for name in chosen)

    def embed_ours() -> Vectors:
        return encode.encode_images([*jpegs], read, sides.ours, None, abs).embedding

    plain, ours, difference = list[Cost](), list[Cost](), 0.0
    for _ in range(ROUNDS):
        cost, theirs = Meter().measure(embed_one_by_one)
        plain.append(cost)
        cost, found = Meter().measure(embed_ours)
        ours.append(cost)
        difference = require_equal("images", found, theirs)
    vision = MODEL["vision_cfg"]
    n_patches = (vision["image_size"] // vision["patch_size"]) ** 2
    patch_flops = 2 * n_patches * 3 * vision["patch_size"] ** 2 * vision["width"]
    work = n * (flops(1 + n_patches, vision["width"], vision["layers"]) + patch_flops)
    medians = (Cost(*np.median(costs, axis=0).tolist()) for costs in (plain, ours))
    return compare(*medians) | {
        "rounds": [theirs.cpu_s / cost.cpu_s for theirs, cost in zip(plain, ours, strict=True)],
        "max_abs_difference": difference,
        "gflop": work / 1e9,
        "gflop_run": work / n * -(-n // sides.ours.batch_size) * sides.ours.batch_size / 1e9,
    }


def measure_edit(
    sides: Sides, items: pl.DataFrame, views: dict[str, View], first: Measured, store: VectorStore
) -> dict[str, Any]:
    """Change the title's template after a run with a store, and encode all views again."""
    before = render(items, views)
    title = views["title"].model_copy(update={"prompt": "The name of the product is ___."})
    after = render(items, views | {"title": title})
    cost, run = Meter().measure(
        lambda: {view: sides.ours.encode_texts(texts, store=store) for view, texts in after.items()}
    )
    lengths = [
        {text: n for view, texts in prompts.items() for text, n in count_tokens(texts, encoded[view]).items()}
        for prompts, encoded in ((before, first.encoded), (after, run))
    ]
    tokens = [sum(lengths[0].values()), sum(n for text, n in lengths[1].items() if text not in lengths[0])]
    costs = [first.numbers["ours"]["cpu_s"], cost.cpu_s]
    return {
        "encoded": {view: found.n_encoded for view, found in run.items()},
        "found": {view: found.n_found for view, found in run.items()},
        "cpu_s": costs,
        "tokens": tokens,
        "time_a_token": (costs[1] / tokens[1]) / (costs[0] / tokens[0]),
    }


def count_tokens(texts: list[str], encoded: Texts) -> dict[str, int]:
    """Distinct text -> its length."""
    return dict(zip(texts, encoded.n_tokens.tolist(), strict=True))


def measure_memory(folder: Path, sizes: tuple[int, ...]) -> dict[int, float]:
    """Peak in MiB that the stage adds to a process of its own, by the number of prompts of a view; a small tower."""
    build(folder, SMALL)
    view, found = CONFIG.prompt_set("as_described")["title"], {}
    for n in sizes:
        table = render_items(draw_items(n), {"title": view}, "title")
        files.write_table(folder / Layout(DRAWN).path("prompts", **VIEW), "prompts", table)
        with multiprocessing.get_context("spawn").Pool(1) as process:
            found[n] = process.apply(encode_in_folder, (folder,))
    return found


def encode_in_folder(folder: Path) -> float:
    """Run the stage on the prompts that lie there; the peak that it adds, in MiB."""
    os.chdir(folder)
    meter = Meter()
    meter.measure(lambda: perform(DRAWN, "encode-text", encoder="drawn", **VIEW))
    return meter.peak_mib


def measure_gemm() -> float:
    """GFLOP a CPU second of a product of matrices in float32: the best of five."""
    left, right = torch.rand(2048, 2048), torch.rand(2048, 2048)
    left @ right
    return max(2 * 2048**3 / Meter().measure(lambda: left @ right)[0].cpu_s for _ in range(5)) / 1e9


def print_table(results: dict[str, Any]) -> None:
    print("| | plain, CPU s | ours, CPU s | ratio | wall | max difference | share of GEMM peak | on own tokens |")
    print("|---|---|---|---|---|---|---|---|")
    for name, found in [*results["text"].items(), ("images", results["images"])]:
        seconds = f"{found['plain']['cpu_s']:.1f} | {found['ours']['cpu_s']:.2f}"
        ratio = f"{found['ratio']:.1f}x | {found['wall']:.1f}x | {found['max_abs_difference']:.1e}"
        shares = " | ".join(f"{found[key] / found['ours']['cpu_s'] / results['gemm']:.0%}" for key in WORK)
        print(f"| {name} | {seconds} | {ratio} | {shares} |")
    edit = results["edit"]
    work = f"encoded {edit['encoded']}, time a token {edit['time_a_token']:.2f} of the first run's"
    print(f"edit of one template: {work}")
    print("peak memory added:", ", ".join(f"{n:,} prompts {mib:.0f} MiB" for n, mib in results["memory"].items()))


def measure(items: pl.DataFrame, *, n_images: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Everything, by name."""
    described, released = (CONFIG.prompts[name] for name in SETS)
    with TemporaryDirectory() as scratch:
        large, small = Path(scratch, "large"), Path(scratch, "small")
        large.mkdir()
        small.mkdir()
        sides, gemm = build(large, MODEL), [measure_gemm()]
        with VectorStore(large / "store", {}) as store:
            first = measure_texts(sides, render(items, described), store)
            gemm.append(measure_gemm())
            edit = measure_edit(sides, items, described, first, store)
        text = dict(zip(SETS, (first.numbers, measure_texts(sides, render(items, released)).numbers), strict=True))
        gemm.append(measure_gemm())
        images = measure_images(sides, n_images)
        memory = measure_memory(small, sizes)
    return {"gemm": max(gemm), "text": text, "images": images, "edit": edit, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure our encoding against one text or image a forward.")
    parser.add_argument("--json", type=Path, required=True, help="where the results go")
    parser.add_argument("--items", type=int, default=300, help="how many")
    parser.add_argument("--images", type=int, default=64, help="how many")
    parser.add_argument("--metadata", type=Path, help="meta_<Category>.json.gz; without it items are drawn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items = read_items(arguments.metadata, arguments.items) if arguments.metadata else draw_items(arguments.items)
    before = os.getloadavg()
    results = measure(items, n_images=arguments.images, sizes=MEMORY_SIZES)
    results |= {"items": len(items), "load_before": before, "load_after": os.getloadavg()}
    results |= {"torch": torch.__version__, "machine": platform.machine()}
    arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print_table(results)


if __name__ == "__main__":
    main()
