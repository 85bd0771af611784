"""Measure our backbones against the plain way of computing the same, both sides alternating in one run.

python -m benchmarks.backbones --data FILE.inter --json OUT [--backbones freedom,lattice] [--batches 5]

Both sides have the same interactions, features, parameters and triples, and behave as_mmrec; the run stops unless
their losses on the first batch agree to 1e-5 and its gradients to 2e-2. One thread. Ratios are CPU seconds of the
plain side (benchmarks.plain) over ours, so load moves both; wall seconds and peak memory are listed too.

setup   from the .inter file and features in memory to a model; the plain side reads row by row and searches the
        item graph, ours reads the neighbours that the workflow found once for all cells (their search: item_graph)
epoch   what an epoch begins with + sampling + first batch + median of the others x the rest; zero_grad, loss,
        backward and Adam (ours fused, the plain side's parameter by parameter) make a batch
eval    ranking and all metrics of valid and test; the median of up to 3, of one if the plain side takes long
memory  what a side adds to the process: what it holds after its steps, and the highest peak during one

user_graph: `cliper.models.maths.nearest.sharing_users` for all users against a loop over pairs of Python sets, for a
sample of users and extrapolated to each pair once; the counts of the sample must be equal.

item_graph: `cliper.models.maths.nearest.nearest_items` for both modalities against products of all rows with all and
`topk`.

cliper: CLIPER's setting, both features 768-d and d = 512. side_by_side: wall time of FREEDOM's steps in two processes
of one thread at once over that in one process alone.

Features are drawn (image 4096-d, text 384-d, normal): speed does not depend on them, recall does.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch

from benchmarks import plain
from benchmarks.plain import PLAIN, Plain, World
from cliper import config
from cliper.arrays import Ints
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Backbone, Given, Interactions, ItemFeatures, ItemNeighbours, Triples
from cliper.models.maths.metrics import METRICS, hits_by_user
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.sampling import sample_triples
from cliper.models.maths.tables import Neighbours, neighbours_from_table, neighbours_to_table
from cliper.models.training.fitting import rank
from cliper.variants import load_class

T = TypeVar("T")

CONFIG = config.load([Path(__file__).parents[1] / "config.yaml"])
D = 64
WIDTHS = (4096, 384)  # of image and text features
CLIPER_WIDTHS, CLIPER_D, CLIPER_ORDER = (768, 768), 512, ("freedom", "lattice")
TOLERANCE = 1e-5  # relative, of the losses: float32 sums in another order
# One item whose 10th and 11th neighbours lie 1.5e-8 apart made 4e-3 (FREEDOM); without such a tie it is below 1e-4.
GRADIENT_TOLERANCE = 2e-2
SEED = 1
N_EVALUATIONS, LONG_S = 3, 20  # no second evaluation if the plain side takes longer
N_SAMPLED_USERS = 100
ORDER = ("freedom", "lattice", "slmrec", "dualgnn", "mmgcn")


class Cost(NamedTuple):
    """What something took."""

    cpu_s: float
    wall_s: float


class Meter:
    """Takes the time of one side's steps, and adds up the memory they add to the process."""

    def __init__(self) -> None:
        self.held_mib = 0.0
        self.peak_mib = 0.0

    def time(self, function: Callable[[], T]) -> tuple[Cost, T]:
        """Take the time alone, and leave the memory as it is, as training does.

        To give it back first would have each step pay for fresh pages (9 to 33 percent more on Baby).
        """
        cpu, wall = time.process_time(), time.perf_counter()
        result = function()
        return Cost(time.process_time() - cpu, time.perf_counter() - wall), result

    def measure(self, function: Callable[[], T]) -> tuple[Cost, T]:
        """Take the time, and see how much memory is added at the most."""
        release_memory()
        before = memory_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # 5: the peak is counted from here (Linux)
        cost, result = self.time(function)
        self.peak_mib = max(self.peak_mib, self.held_mib + memory_mib("VmHWM") - before)
        release_memory()
        self.held_mib += memory_mib("VmRSS") - before
        return cost, result


def release_memory() -> None:
    """Give freed memory back to the system; what the process keeps would hide what a step needs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def memory_mib(field: str) -> float:
    """Read the process's resident memory (VmRSS) or its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 2**10


class Side(NamedTuple):
    """One way of training and evaluating a backbone."""

    meter: Meter
    start_epoch: Callable[[], object]
    sample: Callable[[], object]
    step: Callable[[Triples], float]
    evaluate: Callable[[], dict[str, float]]


def read_interactions(path: Path) -> list[Interactions]:
    """Read train, valid and test of an .inter file."""
    table = pl.read_csv(path, separator="\t", columns=["userID", "itemID", "x_label"])
    users, items, label = (table[column].to_numpy().astype(np.int64) for column in table.columns)
    sizes = int(users.max()) + 1, int(items.max()) + 1
    return [Interactions(users[label == part], items[label == part], *sizes) for part in range(3)]


def read_world(path: Path, name: str, *, widths: tuple[int, int] = WIDTHS, d: int = D) -> World:
    """Read an .inter file and draw features for its items.

    widths  of the image and the text features
    """
    train, valid, test = read_interactions(path)
    generator = np.random.default_rng(SEED)
    image, text = (generator.standard_normal((train.n_items, width), dtype=np.float32) for width in widths)
    none = np.zeros(train.n_items, dtype=bool)  # as_mmrec filled rows count as any other
    return World(
        path,
        train,
        {"valid": valid[:2], "test": test[:2]},
        ItemFeatures(image, text, none, none),
        CONFIG.backbone(name).settings,
        CONFIG.train.batch_size,
        CONFIG.evaluate.cutoffs,
        d,
    )


def find_graphs(world: World, name: str) -> dict[str, pl.DataFrame]:
    """Find the neighbours that a backbone uses, as the workflow keeps them for all cells."""
    uses, found = BACKBONES.rows[name].settings, {}
    if uses.uses_item_graph:
        nearest = item_graphs(world)._asdict().items()
        found |= {part: neighbours_to_table(neighbours, "item", "similarity") for part, neighbours in nearest}
    if uses.uses_user_graph:
        found["users"] = neighbours_to_table(share_users(world), "user", "n_shared")
    return found


def item_graphs(world: World) -> ItemNeighbours:
    features, k = world.features, CONFIG.neighbours.items
    return ItemNeighbours(
        image=nearest_items(features.image, features.image_is_filled, k),
        text=nearest_items(features.text, features.text_is_filled, k),
    )


def share_users(world: World) -> Neighbours:
    train = world.train
    return sharing_users(train.users, train.items, n_users=train.n_users, k=CONFIG.neighbours.users)


def build_ours(world: World, name: str, tables: dict[str, pl.DataFrame]) -> Backbone:
    """Read the interactions and make our model, with the graphs that were found before."""
    found = {part: neighbours_from_table(table) for part, table in tables.items()}
    users = found.pop("users", None)
    train, *_ = read_interactions(world.path)
    given = Given(
        train,
        d=world.d,
        generator=torch.Generator().manual_seed(SEED),
        behaviour="as_mmrec",
        features=world.features,
        item_neighbours=ItemNeighbours(**found) if found else None,
        user_neighbours=users,
    )
    model: Backbone = load_class(BACKBONES.rows[name].place)(given, world.settings)
    return model


def make_step(loss: Callable[[Triples], torch.Tensor], optimiser: torch.optim.Optimizer) -> Callable[[Triples], float]:
    def step(triples: Triples) -> float:
        optimiser.zero_grad()
        value = loss(triples)
        value.backward()
        optimiser.step()
        return value.item()

    return step


def evaluate_ours(model: Backbone, world: World) -> dict[str, float]:
    """Rank once and measure both splits. Returns split -> Recall@20."""
    ranking = rank(model, world.train, max(world.cutoffs))
    recalls = {}
    for split, (users, items) in world.splits.items():
        _, n_relevant, hits = hits_by_user(ranking.items, users, items)
        means = {
            (name, cutoff): metric(hits, n_relevant, cutoff).mean()
            for name, metric in METRICS.items()
            for cutoff in world.cutoffs
        }
        recalls[split] = float(means["recall", 20])
    return recalls


def side_of_ours(model: Backbone, world: World, meter: Meter) -> Side:
    adam = torch.optim.Adam(model.parameters(), lr=CONFIG.train.learning_rate, fused=True)
    generators = [np.random.default_rng(SEED) for _ in range(2)]
    return Side(
        meter,
        lambda: model.start_epoch(np.random.default_rng(SEED)),
        lambda: draw_triples(world, shuffle=generators[0], negatives=generators[1]),
        make_step(model.loss, adam),
        lambda: evaluate_ours(model, world),
    )


def side_of_plain(model: Plain, meter: Meter) -> Side:
    adam = torch.optim.Adam(model.of.values(), lr=CONFIG.train.learning_rate, foreach=False, fused=False)
    generator = random.Random(SEED)  # noqa: S311 (negative items, no secrets)
    return Side(
        meter,
        lambda: model.take(model.draw()),
        lambda: plain.sample_triples(model, generator),
        make_step(model.loss, adam),
        lambda: plain.evaluate(model),
    )


def require_equal_losses(name: str, ours: float, theirs: float) -> float:
    """Return the relative difference; stop the run if it is no rounding."""
    difference = abs(ours - theirs) / abs(ours)
    if not difference <= TOLERANCE:
        raise SystemExit(
            f"{name}: on the same batch our loss is {ours:.9g} and the plain one {theirs:.9g}; "
            "the two sides compute different things, so their times say nothing"
        )
    return difference


def require_equal_gradients(name: str, model: Backbone, copy: Plain) -> float:
    """Return the length of the difference of all gradients over their length; stop the run if it is no rounding.

    Losses alone say too little near the start: with twice FREEDOM's image_weight they still agree to 1.3e-6 on Baby,
    while the gradients differ by 6 percent.
    """
    pairs = [
        (parameter.grad, copy.of[parameter_name].grad)
        for parameter_name, parameter in model.named_parameters()
        if parameter.grad is not None
    ]
    squares = [((ours - theirs).square().sum().item(), ours.square().sum().item()) for ours, theirs in pairs]
    difference, length = map(sum, zip(*squares, strict=True))
    if not (share := math.sqrt(difference / length)) <= GRADIENT_TOLERANCE:
        raise SystemExit(
            f"{name}: on the same batch the gradients of the two sides differ by {share:.2g} of their length; "
            "they compute different things, so their times say nothing"
        )
    return share


def draw_triples(world: World, *, shuffle: np.random.Generator, negatives: np.random.Generator) -> Ints:
    """Draw an epoch's triples as the toolbox does: negatives are items of train."""
    users, items = world.train.users, world.train.items
    return sample_triples(users, items, np.unique(items), shuffle=shuffle, negatives=negatives)


def draw_batches(world: World, n: int) -> list[Triples]:
    """Draw the first n batches of an epoch."""
    generator = np.random.default_rng(SEED)
    drawn = draw_triples(world, shuffle=generator, negatives=generator)
    return [Triples(*batch) for batch in torch.from_numpy(drawn).split(world.batch_size, dim=1)[:n]]


def measure_backbone(world: World, name: str, n_batches: int) -> dict[str, Any]:
    """Measure one backbone on both sides.

    n_batches  timed after the first
    """
    tables = find_graphs(world, name)
    meters = {"plain": Meter(), "ours": Meter()}
    setup: dict[str, Cost] = {}
    setup["ours"], model = meters["ours"].measure(lambda: build_ours(world, name, tables))
    setup["plain"], copy = meters["plain"].measure(lambda: PLAIN[name](world, model))
    sides = {"plain": side_of_plain(copy, meters["plain"]), "ours": side_of_ours(model, world, meters["ours"])}
    starts = {key: side.meter.measure(side.start_epoch)[0] for key, side in sides.items()}
    sampling = {key: side.meter.measure(side.sample)[0] for key, side in sides.items()}
    copy.take(copy.draw_like_ours(np.random.default_rng(SEED)))
    batches: dict[str, list[Cost]] = {"plain": [], "ours": []}
    losses: dict[str, list[float]] = {"plain": [], "ours": []}
    for triples in draw_batches(world, 1 + n_batches):
        for key, side in sides.items():
            measure = side.meter.time if batches[key] else side.meter.measure  # the first batch needs the most memory
            cost, loss = measure(lambda side=side, triples=triples: side.step(triples))
            batches[key].append(cost)
            losses[key].append(loss)
        if len(losses["ours"]) == 1:
            difference = require_equal_losses(name, losses["ours"][0], losses["plain"][0])
            gradient_difference = require_equal_gradients(name, model, copy)
    n_steps = math.ceil(len(world.train.users) / world.batch_size)
    epochs = {key: extrapolate([starts[key], sampling[key]], batches[key], n_steps) for key in sides}
    evaluations, recalls = measure_evaluations(sides, draw_batches(world, 1)[0])
    parts = {"epoch": epochs, "eval": evaluations, "setup": setup, "sampling": sampling, "epoch_start": starts}
    return ratios(parts, meters) | {
        "loss_difference": difference,
        "gradient_difference": gradient_difference,
        "loss_difference_after_steps": max(
            abs(a - b) / abs(a) for a, b in zip(losses["ours"], losses["plain"], strict=True)
        ),
        "recall@20": recalls,
        "batches_cpu_s": {key: [cost.cpu_s for cost in costs] for key, costs in batches.items()},
        "steps_an_epoch": n_steps,
    }


def measure_evaluations(sides: dict[str, Side], triples: Triples) -> tuple[dict[str, Cost], dict[str, Any]]:
    """Evaluate both sides in turns. Between two evaluations ours takes a step, so that it finds nothing cached."""
    costs: dict[str, list[Cost]] = {"plain": [], "ours": []}
    recalls = {}
    while len(costs["ours"]) < N_EVALUATIONS and not (costs["plain"] and costs["plain"][0].cpu_s > LONG_S):
        if costs["ours"]:
            sides["ours"].start_epoch()
            sides["ours"].step(triples)
        for key, side in sides.items():
            measure = side.meter.time if costs[key] else side.meter.measure
            cost, recall = measure(side.evaluate)
            costs[key].append(cost)
            recalls.setdefault(key, recall)
    return {key: median(found) for key, found in costs.items()}, recalls


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


def extrapolate(begin: list[Cost], batches: list[Cost], n_steps: int) -> Cost:
    """Sum what an epoch begins with, its first batch and the median of the others for each of the rest."""
    first, middle = batches[0], median(batches[1:])
    return Cost(*(sum(parts) + (n_steps - 1) * rest for *parts, rest in zip(*begin, first, middle, strict=True)))


def ratios(parts: dict[str, dict[str, Cost]], meters: dict[str, Meter]) -> dict[str, Any]:
    """Divide the plain side's costs by ours, and keep both."""
    together = {key: Cost(*map(sum, zip(parts["epoch"][key], parts["eval"][key], strict=True))) for key in meters}
    parts = parts | {"epoch_and_eval": together}
    found: dict[str, Any] = {part: costs["plain"].cpu_s / costs["ours"].cpu_s for part, costs in parts.items()}
    found["wall"] = {part: costs["plain"].wall_s / costs["ours"].wall_s for part, costs in parts.items()}
    found["memory"] = meters["plain"].peak_mib / meters["ours"].peak_mib
    for key, meter in meters.items():
        seconds = {part: costs[key]._asdict() for part, costs in parts.items()}
        found[key] = seconds | {"peak_memory_mib": round(meter.peak_mib)}
    return found


def measure_user_graph(world: World) -> dict[str, Any]:
    """Measure the search for users who share items."""
    k, n_users = CONFIG.neighbours.users, world.train.n_users
    meters = {"plain": Meter(), "ours": Meter()}
    owned = [set(items) for items in plain.read_lists(world.path, n_users)[0]]
    sample = np.random.default_rng(SEED).choice(n_users, min(n_users, N_SAMPLED_USERS), replace=False).tolist()
    sampled, counts = meters["plain"].measure(lambda: plain.shared_counts(owned, sample, k))
    ours, found = meters["ours"].measure(lambda: share_users(world))
    expected = np.zeros((len(sample), k))
    expected[:, : len(counts[0])] = counts
    if not np.array_equal(expected, found.closeness[sample]):
        raise SystemExit("user_graph: the pair loop counts other shared items than sharing_users; one of both is wrong")
    share = len(sample) * (n_users - 1) / (n_users * (n_users - 1) / 2)
    whole = Cost(*(value / share for value in sampled))
    found_ratios = {"build": whole.cpu_s / ours.cpu_s, "wall": {"build": whole.wall_s / ours.wall_s}}
    return found_ratios | {
        "plain": whole._asdict() | {"dense_matrix_mib": round(n_users**2 * 4 / 2**20)},
        "ours": ours._asdict() | {"peak_memory_mib": round(meters["ours"].peak_mib)},
        "pairs_timed": len(sample) * (n_users - 1),
    }


def measure_item_graph(world: World) -> dict[str, Any]:
    """Measure the search for the nearest items of both modalities."""
    meters = {"plain": Meter(), "ours": Meter()}
    features, k = world.features, CONFIG.neighbours.items

    def search_plainly() -> list[torch.Tensor]:
        return [plain.cosines(torch.from_numpy(rows)).topk(k).indices for rows in (features.image, features.text)]

    theirs, expected = meters["plain"].measure(search_plainly)
    ours, found = meters["ours"].measure(lambda: item_graphs(world))
    for neighbours, nearest in zip(found, expected, strict=True):
        n_equal = (np.sort(neighbours.nearest, axis=1) == np.sort(nearest.numpy(), axis=1)).all(axis=1).sum()
        if n_equal < 0.99 * len(nearest):  # an item may have a 21st neighbour as near as its 20th
            raise SystemExit(
                f"item_graph: only {n_equal} of {len(nearest)} items have the same neighbours on both sides"
            )
    ratio = {"build": theirs.cpu_s / ours.cpu_s, "wall": {"build": theirs.wall_s / ours.wall_s}}
    return ratio | {
        key: cost._asdict() | {"peak_memory_mib": round(meters[key].peak_mib)}
        for key, cost in (("plain", theirs), ("ours", ours))
    }


def measure_side_by_side(path: Path) -> dict[str, float]:
    """Measure how much slower two processes of one thread are when they run at once."""
    alone, both = (_time_together(path, n) for n in (1, 2))
    return {"alone_wall_s": alone, "both_wall_s": both, "slowdown": both / alone}


def _time_together(path: Path, n: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(n), context.SimpleQueue()
    processes = [context.Process(target=_time_steps, args=(path, barrier, seconds)) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(seconds.get() for _ in processes)


def _time_steps(path: Path, barrier: threading.Barrier, seconds: multiprocessing.SimpleQueue[float]) -> None:
    torch.set_num_threads(1)
    world = read_world(path, "freedom")
    model = build_ours(world, "freedom", find_graphs(world, "freedom"))
    side = side_of_ours(model, world, Meter())
    side.start_epoch()
    first, *rest = draw_batches(world, 21)
    side.step(first)
    barrier.wait()
    began = time.perf_counter()
    for triples in rest:
        side.step(triples)
    seconds.put(time.perf_counter() - began)


def print_table(results: dict[str, Any]) -> None:
    """Print ratios as a Markdown table, with seconds and memory as plain / ours."""
    print("| | epoch | CPU s | eval | CPU s | both | set-up | CPU s | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = {name: results[name] for name in ORDER if name in results}
    rows |= {f"{name}, CLIPER's widths": found for name, found in results.get("cliper", {}).items()}
    for name, found in rows.items():
        epoch, evaluation, setup = (
            f"{found[part]:.1f}x | {found['plain'][part]['cpu_s']:.1f} / {found['ours'][part]['cpu_s']:.2f}"
            for part in ("epoch", "eval", "setup")
        )
        memory = f"{found['plain']['peak_memory_mib']} / {found['ours']['peak_memory_mib']}"
        print(f"| {name} | {epoch} | {evaluation} | {found['epoch_and_eval']:.1f}x | {setup} | {memory} |")
    for name in ("user_graph", "item_graph"):
        found = results[name]
        print(f"{name}: {found['build']:.1f}x, {found['plain']['cpu_s']:.1f} / {found['ours']['cpu_s']:.2f} CPU s")
    print(f"two cells side by side: each {results['side_by_side']['slowdown']:.2f}x as long as one alone")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure our backbones against the plain way of computing the same.")
    parser.add_argument("--data", type=Path, required=True, help="an .inter file")
    parser.add_argument("--json", type=Path, required=True, help="where the results go")
    parser.add_argument("--backbones", default=",".join(ORDER), help="which, with commas between them")
    parser.add_argument("--batches", type=int, default=5, help="timed after the first, at least 5")
    arguments = parser.parse_args()
    names = arguments.backbones.split(",")
    if unknown := [name for name in names if name not in PLAIN]:
        parser.error(f"unknown backbone {unknown[0]!r}; known: {', '.join(sorted(PLAIN))}")
    if not arguments.data.is_file():
        parser.error(f"--data: there is no file {arguments.data}")
    if arguments.batches < 5:
        parser.error("--batches: a median of fewer than 5 says little")
    torch.set_num_threads(1)
    results: dict[str, Any] = {"load_before": os.getloadavg()}
    for name in names:
        results[name] = measure_backbone(read_world(arguments.data, name), name, arguments.batches)
        print(f"{name}: epoch {results[name]['epoch']:.2f}x, eval {results[name]['eval']:.1f}x", flush=True)
    results["cliper"] = {}
    for name in (name for name in CLIPER_ORDER if name in names):
        world = read_world(arguments.data, name, widths=CLIPER_WIDTHS, d=CLIPER_D)
        results["cliper"][name] = found = measure_backbone(world, name, arguments.batches)
        print(f"{name}, CLIPER's widths: epoch {found['epoch']:.2f}x, eval {found['eval']:.1f}x", flush=True)
    results["user_graph"] = measure_user_graph(read_world(arguments.data, "dualgnn", widths=(1, 1)))
    results["item_graph"] = measure_item_graph(read_world(arguments.data, "freedom"))
    results["side_by_side"] = measure_side_by_side(arguments.data)
    results |= {"load_after": os.getloadavg(), "torch": torch.__version__, "machine": platform.machine()}
    arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print_table(results)


if __name__ == "__main__":
    main()
