"""Draw worlds in which the paper's hypothesis holds, and worlds in which it cannot; see where the verdicts find it.

python -m benchmarks.worlds --csv OUT [--backbone freedom] [--misleading 0.6,0] [--worlds 20] [--first 0] [--seeds 3]

A user buys what lies close in a space of 8 dimensions that nobody sees. An item's image and its five views show the
item's place there, each with noise of its own. Each view misleads with some probability: it then shows another item's
place. The image always shows the truth. SA weighs views by their similarity to the image, so it can tell which ones
mislead; mean, sum and concat cannot. Where none misleads, there is nothing to tell.

The embeddings are drawn; no encoder makes them. All after them is the package's own: fusions, neighbours, backbones,
training, ranking, metrics and statistics. Two more comparisons stand beyond the hypothesis: with LightGCN, which reads
no features, and of SA with itself at other seeds, where every difference is false.

Writes a line for each comparison in each world, and prints how often a difference was established.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from scipy.stats import binomtest

from cliper import config
from cliper.arrays import Floats, Vectors
from cliper.features.fusion.equations import JOINS, WEIGHTS, cosine_similarities
from cliper.features.fusion.rows import FUSIONS
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Backbone, Given, Interactions, ItemFeatures, ItemNeighbours
from cliper.models.evaluate import measure
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.tables import ranking_to_table
from cliper.models.training.checkpoint import Checkpoint
from cliper.models.training.fitting import fit, rank, spawn_generators
from cliper.report.compare import compare
from cliper.report.statistics.families import LEVEL, established, holm
from cliper.variants import load_class

CONFIG = config.load([Path(__file__).parents[1] / "config.yaml"])
N_USERS, N_ITEMS = 500, 500
PLACE_D, VIEW_D, N_VIEWS = 8, 64, 5  # dimensions of the space, of embeddings; views
TASTE, NOISE = 25, 0.4  # of the softmax over products; of embeddings, whose values have variance 1 without it
N_BOUGHT = (7, 9)  # least and most; the last two are held out, for valid and test
TEMPERATURE = 0.1  # the paper's τ
D, K, RESAMPLES = 32, 20, 1999
TRAIN = CONFIG.train.model_copy(
    update={"learning_rate": 0.01, "batch_size": 2048, "max_epochs": 30, "patience": 10, "device": "cpu"}
)
SPLIT = ["user", "item"]
OTHERS = ("mean", "sum", "concat")
AGAIN, CONTENT_FREE = "sa, other seeds", "lightgcn"


class World(NamedTuple):
    """What was bought, and the embeddings of all items."""

    train: Interactions
    valid: pl.DataFrame  # user, item
    test: pl.DataFrame
    image: Vectors  # (I, D)
    views: Vectors  # (I, V, D)


class Comparison(NamedTuple):
    """SA against a base in one world, by test Recall@20; a line of the file."""

    world: int
    misleading: float
    backbone: str
    base: str
    mean: float
    base_mean: float
    difference: float
    low: float
    high: float
    band: float
    p: float  # Holm's, over the bases of the hypothesis
    is_established: bool


def draw_world(seed: int, misleading: float) -> World:
    """Draw a world; with one seed all shares of misleading views have the same purchases and images.

    misleading  probability that a view shows another item
    """
    rng = np.random.default_rng(seed)
    users, items = (_on_sphere(n, rng) for n in (N_USERS, N_ITEMS))
    bought = draw_purchases(users @ items.T, rng)
    to_embedding = rng.normal(size=(PLACE_D, VIEW_D))
    noise = NOISE * rng.normal(size=(N_ITEMS, 1 + N_VIEWS, VIEW_D))
    shown = np.repeat(np.arange(N_ITEMS)[:, None], 1 + N_VIEWS, axis=1)  # (I, 1 + V) the image, then the views
    others = (shown[:, 1:] + rng.integers(1, N_ITEMS, size=(N_ITEMS, N_VIEWS))) % N_ITEMS
    shown[:, 1:] = np.where(rng.random(others.shape) < misleading, others, shown[:, 1:])
    embeddings = (items[shown] @ to_embedding + noise).astype(np.float32)
    train, valid, test = (
        pl.DataFrame([(user, item) for user, some in enumerate(bought) for item in some[part]], SPLIT, orient="row")
        for part in (slice(None, -2), slice(-2, -1), slice(-1, None))
    )
    interactions = Interactions(train["user"].to_numpy(), train["item"].to_numpy(), N_USERS, N_ITEMS)
    return World(interactions, valid, test, embeddings[:, 0], embeddings[:, 1:])


def _on_sphere(n: int, rng: np.random.Generator) -> Floats:
    places = rng.normal(size=(n, PLACE_D))
    return np.asarray(places / np.linalg.norm(places, axis=1, keepdims=True))


def draw_purchases(products: Floats, rng: np.random.Generator) -> list[list[int]]:
    """Draw what each user buys, in this order, without repetition: by the softmax of TASTE x product (U, I)."""
    order = np.argsort(-(TASTE * products + rng.gumbel(size=products.shape)), axis=1)
    n_bought = rng.integers(N_BOUGHT[0], N_BOUGHT[1] + 1, size=len(products))
    return [items[:n].tolist() for items, n in zip(order, n_bought, strict=True)]


def fuse(world: World, fusion: str) -> Vectors:
    """Make an item's text feature by one of the package's fusions."""
    row = FUSIONS[fusion]
    similarities = cosine_similarities(world.views, world.image)
    weights = WEIGHTS[row.weigh](similarities, np.ones(similarities.shape, dtype=bool), TEMPERATURE)
    return JOINS[row.join](world.views, weights)


def give(world: World, backbone: str, text: Vectors, generator: torch.Generator) -> Given:
    """All that a backbone may read, as the stages would find it; `Given` checks what its settings declare."""
    uses, k, none = BACKBONES.rows[backbone].settings, CONFIG.neighbours, np.zeros(len(text), dtype=bool)
    train, features = world.train, ItemFeatures(world.image, text, none, none)
    graphs = (nearest_items(vectors, none, k.items) for vectors in (world.image, text))
    return Given(
        train,
        d=D,
        generator=generator,
        behaviour=CONFIG.train.behaviour,
        features=features if uses.uses_features else None,
        item_neighbours=ItemNeighbours(*graphs) if uses.uses_item_graph else None,
        user_neighbours=sharing_users(train.users, train.items, n_users=train.n_users, k=k.users)
        if uses.uses_user_graph
        else None,
    )


def run_cell(world: World, backbone: str, text: Vectors, seed: int) -> Floats:
    """Train one cell and measure each user's test Recall@20, (U,)."""
    generators = spawn_generators(seed)
    given = give(world, backbone, text, generators.initial)
    model: Backbone = load_class(BACKBONES.rows[backbone].place)(given, CONFIG.backbone(backbone).settings)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, world.train, world.valid, TRAIN, generators, Checkpoint(Path(folder, "unused"), key=""))
    measured = measure(ranking_to_table(rank(model, world.train, K)), world.test, (K,))
    return measured.filter(metric="recall")["value"].to_numpy()


def run_arm(world: World, backbone: str, fusion: str, seeds: Sequence[int]) -> Floats:
    """Recall@20 of each run and user, (n, U)."""
    text = fuse(world, fusion)
    return np.stack([run_cell(world, backbone, text, seed) for seed in seeds])


def judge(runs: Floats, bases: Sequence[Floats]) -> list[dict[str, Any]]:
    """Compare an arm with the bases of one family, as the stage `compare` and the tables do.

    runs, bases  (n, U) values of each run and user
    returns      for each base the last fields of a Comparison
    """
    rows = []
    for base in bases:
        means = (side.mean(axis=1)[:, None] for side in (runs, base))
        found = compare(runs[:, None], base[:, None], *means, resamples=RESAMPLES, rng=np.random.default_rng(0))
        rows.append({name: found[name] for name in ("mean", "base_mean", "difference", "low", "high", "band", "p")})
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    p_holm = columns["p"] = holm(columns["p"])
    columns["is_established"] = established(p_holm, columns["low"], columns["high"], columns["band"])
    return [dict(zip(columns, row, strict=True)) for row in zip(*map(np.ndarray.tolist, columns.values()), strict=True)]


def run_world(world: World, backbone: str, reference: Floats, n_seeds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run all arms in a world; for each base its name and the last fields of a Comparison.

    reference  (n, U) runs of the content-free backbone
    """
    seeds, other_seeds = range(n_seeds), range(n_seeds, 2 * n_seeds)
    ours = run_arm(world, backbone, "sa", seeds)
    families = [
        {fusion: run_arm(world, backbone, fusion, seeds) for fusion in OTHERS},
        {AGAIN: run_arm(world, backbone, "sa", other_seeds)},
        {CONTENT_FREE: reference},
    ]
    for family in families:
        yield from zip(family, judge(ours, list(family.values())), strict=True)


def share(n_true: int, n: int) -> str:
    """A share in percent with its 95 % interval (Wilson).

    >>> share(0, 20)
    '0 (0 to 16)'
    """
    limits = binomtest(n_true, n).proportion_ci(method="wilson")
    return f"{100 * n_true / n:.0f} ({100 * limits.low:.0f} to {100 * limits.high:.0f})"


def summarise(comparisons: pl.DataFrame) -> Iterator[str]:
    """A Markdown table: how often a difference was established, and how often a corrected p alone would have done."""
    yield "| backbone | views mislead | SA against | worlds | R@20 SA | R@20 base | better, % | worse, % | p alone, % |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for names, rows in comparisons.group_by("backbone", "misleading", "base", maintain_order=True):
        backbone, misleading, base = names
        is_better = rows["difference"] > 0
        counts = (rows["is_established"] & is_better, rows["is_established"] & ~is_better, rows["p"] < LEVEL)
        means = (f"{100 * np.mean(rows[name].to_numpy()):.1f}" for name in ("mean", "base_mean"))
        shares = (share(int(count.sum()), len(rows)) for count in counts)
        yield f"| {' | '.join([backbone, f'{misleading:.0%}', base, str(len(rows)), *means, *shares])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="See in drawn worlds what the verdicts find, and what they imagine.")
    parser.add_argument("--csv", type=Path, required=True, help="where the comparisons go, a line each")
    parser.add_argument("--backbone", default="freedom", help="one that reads features")
    parser.add_argument("--misleading", default="0.6,0", help="shares of misleading views, with commas between them")
    parser.add_argument("--worlds", type=int, default=20, help="number of worlds of each share")
    parser.add_argument("--first", type=int, default=0, help="number of the first world, which is its seed")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm, at least 2")
    arguments = parser.parse_args()
    known = [name for name, row in BACKBONES.rows.items() if row.settings.uses_features]
    if arguments.backbone not in known:
        parser.error(f"--backbone: {arguments.backbone!r} is none that reads features; known: {', '.join(known)}")
    if arguments.seeds < 2:
        parser.error("--seeds: one run has no band, so nothing could be established")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    lines = []
    with arguments.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Comparison._fields)
        for number in range(arguments.first, arguments.first + arguments.worlds):
            reference = run_arm(draw_world(number, 0), CONTENT_FREE, "sa", range(arguments.seeds))
            for misleading in map(float, arguments.misleading.split(",")):
                world = draw_world(number, misleading)
                found = run_world(world, arguments.backbone, reference, arguments.seeds)
                fresh = [Comparison(number, misleading, arguments.backbone, base, **rest) for base, rest in found]
                writer.writerows(fresh)
                file.flush()
                lines += fresh
    print("\n".join(summarise(pl.DataFrame(lines))))


if __name__ == "__main__":
    main()
