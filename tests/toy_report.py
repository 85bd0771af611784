"""A small run that is complete and hostile: every table written straight, tables and figures made by their stages.

Two datasets, of which one has no images; a backbone with features and one without; two arms, two seeds, one study.
Whatever a shop may write stands somewhere in it: titles, brands, user ids and the datasets' own titles are attacks.
"""

from __future__ import annotations

import base64
import io
import json
import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import toy
from PIL import Image
from toy_cells import N_ITEMS, N_USERS, two_tastes

from cliper import files, media
from cliper.config import Cell, Config, MadeFeatures
from cliper.layout import Layout
from cliper.schemas import IMAGE_STATUSES

OWNED = "document.title='owned'"
HOSTILE = (
    f"<script>{OWNED}</script>",
    f'" onmouseover="{OWNED}" x="',
    f"' autofocus onfocus='{OWNED}",
    f"</script><img src=x onerror={OWNED}>",
    f"--><svg onload={OWNED}>",
    f"</textarea></style></title><script>{OWNED}</script>",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "\u202etxt.exe\u202c \u200f\u2067abc\u2069",
    "\x1b[31mred\x1b[0m\x1b]0;owned\x07",
    "https://attacker.example/picture.png javascript:alert(1)",
    "&lt;script&gt; &amp;",
    "Ünïcode 日本語 עברית 😀 " + "unbroken" * 40,
)
TITLES = {"baby": HOSTILE[0], "toys": '"--></script><i id=owned>{{ 7*7 }}'}  # longer ones leave no room in figures
LAMP = 3  # the item that tests look for: an ordinary title, and the asin below
LAMP_TITLE, LAMP_ASIN = "Brass reading lamp", "B0LAMP0003"
CUT_FROM = 20  # words of a description that the encoder reads; the rest is cut
SEEDS, N_EPOCHS = (1, 2), 4
METRICS, CUTOFFS = ("ndcg", "recall"), (5, 10, 20, 50)
RECALL = {"vanilla": 0.10, "cliper": 0.14, "content_free": 0.08}  # of Recall@20; others lie between


def texts(rows: Any) -> list[list[str]]:
    """A table's cells as a reader sees them."""
    return [[value if isinstance(value, str) else value.text for value in row] for row in rows]


def settings() -> Config:
    """The run's config."""
    source = {"kind": "amazon2014", "category": "Toy", "interactions": "ratings", "mirrors": ["raw"]}
    toys = {"title": TITLES["toys"], "source": source, "k_core": 1, "split": "random", "split_seed": 1}
    study = {"title": HOSTILE[0], "arm": "cliper", "datasets": ["baby"], "backbones": ["freedom"]}
    return toy.settings(
        name="toy",
        run={"datasets": ["baby", "toys"], "backbones": ["freedom", "lightgcn"], "seeds": list(SEEDS)},
        datasets={"baby": {"title": TITLES["baby"]}, "toys": toys},
        studies={"fig2": {**study, "vary": {"without": ["title", "brand"]}}},
        compare={"resamples": 99},
    )


def write() -> Config:
    """Write the run into `results` of the current folder, all but the page. Returns its config."""
    config = settings()
    for dataset in config.run.datasets:
        _write_dataset(config, dataset)
    for cell in config.cells:
        _write_cell(config, cell)
    _write_encoders(config)
    _write_records(config)
    for table in ("table2", "table2_fair", *config.studies):
        for pair in config.comparisons_of(table):
            rows = [_compared(metric, k, pair.arm, pair.base) for metric in METRICS for k in CUTOFFS]
            files.write_table(toy.path(config, "comparison", **pair._asdict()), "comparison", pl.DataFrame(rows))
    for table in ("table1", "table2", "table2_fair", *config.studies):
        toy.run("tabulate", config, table=table)
    for figure in (*config.studies, "fig5", "popularity", "curves"):
        toy.run("plot", config, figure=figure)
    return config


def items() -> pl.DataFrame:
    """Every hostile text as a title, among ordinary ones; some fields are missing."""
    rows = []
    for item in range(N_ITEMS):
        text = HOSTILE[item % len(HOSTILE)]
        rows.append(
            {
                "item": item,
                "asin": None if item % 10 == 9 else f"B0TOYS{item:04d}",
                "title": None if item == 5 else f"Toy {item} {text}",
                "brand": None if item % 3 == 0 else text,
                "categories": None if item % 4 == 0 else [["Home", text], ["Lights"]],
                "description": f"{text} " + " ".join(f"word{n}" for n in range(30)),
                "image_url": None,
            }
        )
    rows[LAMP] |= {"asin": LAMP_ASIN, "title": LAMP_TITLE}
    return pl.DataFrame(rows, schema_overrides={"item": pl.Int32, "categories": pl.List(pl.List(pl.String))})


def _write_dataset(config: Config, dataset: str) -> None:
    is_crawled = dataset == "baby"
    tables: dict[str, pl.DataFrame] = {
        **two_tastes(),
        "users": pl.DataFrame({"user": range(N_USERS), "user_id": [HOSTILE[u % len(HOSTILE)] for u in range(N_USERS)]}),
        "items": items(),
        "counts": _counts(),
    }
    for kind, table in tables.items():
        files.write_table(toy.path(config, kind, dataset=dataset), kind, table)
    files.write_table(toy.path(config, "images", dataset=dataset), "images", _images(is_crawled=is_crawled))
    for arm in config.arms_in_use:
        made = config.features(dataset, arm)
        assert isinstance(made, MadeFeatures)
        for kind, table in _of_arm(made).items():
            files.write_table(toy.path(config, kind, dataset=dataset, arm=arm), kind, table)
        for view in made.views:
            path = toy.path(config, "cleaning", dataset=dataset, prompts=made.prompts, view=view)
            files.write_table(path, "cleaning", _cleaning(view))
    files.write_json(toy.path(config, "explored", dataset=dataset), explored(config, dataset, is_crawled=is_crawled))


def _write_encoders(config: Config) -> None:
    for name in config.encoders:
        known = {"architecture": f"a small {name}", "licences": {name: "MIT"}, "files": {"weights": "0" * 64}}
        sizes = {"text_dim": 8, "image_dim": 8, "context": 77}
        files.write_json(toy.path(config, "weights", encoder=name), {"settings": {"kind": "toy"}, **known, **sizes})


def _write_records(config: Config) -> None:
    """Snakemake's record of every second job; those of the others are lost."""
    layout = Layout(config)
    head = ("s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time")
    row = ("1.50", "0:00:01", "104.90", "673.89", "47.61", "-", "0.07", "0.00", "0.00", "0.48")
    for part in list(layout.parts())[::2]:
        files.write_text(layout.benchmark_of(part), "\t".join(head) + "\n" + "\t".join(row) + "\n")


def _cleaning(view: str) -> pl.DataFrame:
    steps = [{"order": order, "step": step} for order, step in enumerate(("reading", "entities", "min_length"))]
    return pl.DataFrame([{"view": view, "field": "title", **step, "n_changed": 3, "n_emptied": 1} for step in steps])


def _counts() -> pl.DataFrame:
    steps = [("raw", 420, 30, 45), ("5-core, round 1", 300, 30, 40), ("train", 180, 30, 40), ("valid", 60, 30, 35)]
    rows = [
        {"order": order, "step": step, "interactions": n, "users": users, "items": items, "density": n / users / items}
        | {"cold_users": 0 if step == "valid" else None, "cold_items": 1 if step == "valid" else None}
        for order, (step, n, users, items) in enumerate([*steps, ("test", 60, 30, 34)])
    ]
    return pl.DataFrame(rows)


def _images(*, is_crawled: bool) -> pl.DataFrame:
    """Each status at least once; or no item has an image."""
    statuses = [IMAGE_STATUSES[item] if item < len(IMAGE_STATUSES) else "ok" for item in range(N_ITEMS)]
    rows = []
    for item, status in enumerate(statuses):
        is_ok = is_crawled and status == "ok"
        row: dict[str, Any] = dict.fromkeys(("http_code", "shard", "row", "sha256", "width", "height", "detail"))
        row |= dict.fromkeys(("format", "mode", "is_animated", "orientation"))
        row |= {"item": item, "status": status if is_crawled else "no_url"}
        if is_ok:
            row |= {"http_code": 200, "shard": "images-00000-0.parquet", "row": item, "sha256": f"{item:064x}"}
            row |= {"width": 200, "height": 200, "format": "JPEG", "mode": "RGB", "is_animated": False}
        elif is_crawled:
            row["detail"] = HOSTILE[item % len(HOSTILE)]
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _of_arm(made: MadeFeatures) -> dict[str, pl.DataFrame]:
    n = N_ITEMS
    vectors = np.random.default_rng(1).standard_normal((n, 8)).astype(np.float32)
    filled = {
        "image_is_filled": [item % 7 == 0 for item in range(n)],
        "text_is_filled": [item == 5 for item in range(n)],
    }
    views = sorted(made.views)
    weighted = [
        {"item": item, "view": view, "similarity": 0.1 * (item + place) % 1, "weight": 1 / len(views)}
        | {"rank": (item + place) % len(views) + 1}
        for item in range(n)
        for place, view in enumerate(views)
    ]
    report = {"n_items": n, "n_distinct": n, "min_tokens": 3, "median_tokens": 12.0, "max_tokens": 99}
    tokens = [{"view": view, **report, "n_truncated": 7, "n_chunked": 0} for view in views]
    missing = [{"missing": what, "policy": "mean", "n_items": 6} for what in sorted(("cover image", "every view"))]
    return {
        "features": pl.DataFrame({"item": range(n), "image": vectors, "text": vectors, **filled}),
        "view_weights": pl.DataFrame(weighted),
        "token_report": pl.DataFrame(tokens),
        "fallbacks": pl.DataFrame(missing),
    }


def _recall(arm: str, k: int) -> float:
    return RECALL.get(arm, 0.12) * math.sqrt(k / 20)


def _value(metric: str, arm: str, k: int) -> float:
    """Recall grows with the root of k; each hit adds to NDCG what its rank is worth, else `tabulate` refuses both."""
    if metric == "recall":
        return _recall(arm, k)
    steps = pairwise((0, *(cutoff for cutoff in CUTOFFS if cutoff <= k)))
    return sum((_recall(arm, b) - _recall(arm, a)) / math.log2((a + b) / 2 + 2) for a, b in steps)


def _write_cell(config: Config, cell: Cell) -> None:
    names = cell._asdict()
    ranks = np.random.default_rng(cell.seed)
    lists = np.array([ranks.permutation(N_ITEMS)[:20] for _ in range(N_USERS)], dtype=np.int32)
    epochs = np.arange(1, 1 + N_EPOCHS)
    metrics = [
        {**names, "split": split, "metric": metric, "k": k, "n_users": N_USERS}
        | {"value": _value(metric, cell.arm, k) * (1 + 0.01 * cell.seed)}
        for split in ("test", "valid")
        for metric in METRICS
        for k in CUTOFFS
    ]
    tables = {
        "metrics": pl.DataFrame(metrics),
        "history": pl.DataFrame({"epoch": epochs, "loss": 1 / epochs, "seconds": 0.1 * np.ones(N_EPOCHS)}).with_columns(
            pl.Series("valid_recall@20", 0.1 + 0.01 * epochs)
        ),
        "topk": pl.DataFrame(
            {
                "user": np.repeat(np.arange(N_USERS), 20),
                "rank": np.tile(np.arange(1, 21), N_USERS),
                "item": lists.ravel(),
                "score": np.tile(np.linspace(1, 0, 20), N_USERS),
            }
        ),
    }
    for kind, table in tables.items():
        files.write_table(toy.path(config, kind, **names), kind, table)
    files.write_json(toy.path(config, "run", **names), {**names, **_outcome()})


def _outcome() -> dict[str, Any]:
    """run.json, but for the names of the cell."""
    train = {"behaviour": "as_published", "learning_rate": 0.001, "weight_decay": 0.0, "weight_decay_on": "batch"}
    train |= {"batch_size": 64, "max_epochs": N_EPOCHS, "patience": 3, "threads": 1, "device": "cpu"}
    own = {"backbone": {"kind": "freedom", "k": 10}, "d": 64, "train": train, "kernels": "fastest", "top": 50}
    own |= {"mask_valid": False, "drops_items": False, "n_learned_views": None, "searched": None}
    return {
        "config": own,
        "code": "0123456789ab",
        "search": None,
        "best_epoch": 3,
        "valid_recall@20": 0.19,
        "epochs": N_EPOCHS,
        "n_parameters": 5512,
        "device": "cpu x86_64",
        "cpu": HOSTILE[0],
        "blas": "Math Kernel Library",
        "kernels": "AVX2",
        "seconds": 1.25,
        "peak_memory_mib": 321,
        "versions": {"python": "3.11.7", "cliper": "0.1.0", "torch": "2.14.1"},
    }


def _compared(metric: str, k: int, arm: str, base: str) -> dict[str, Any]:
    mean, base_mean = _value(metric, arm, k), _value(metric, base, k)
    difference = mean - base_mean
    return {
        **{"metric": metric, "k": k, "n_users": N_USERS, "n_runs": 2, "mean": mean, "base_mean": base_mean},
        **{
            "sd": 0.001,
            "base_sd": 0.001,
            "difference": difference,
            "low": difference - 0.01,
            "high": difference + 0.01,
        },
        **{"d_z": 0.3, "d_z_low": 0.2, "d_z_high": 0.4, "user_sd": 0.1, "p": 0.0001, "p_randomised": 0.0001},
        **{"gain": difference / base_mean, "gain_low": (difference - 0.01) / base_mean},
        **{"gain_high": (difference + 0.01) / base_mean, "band": 0.002, "p_better": 1.0},
    }


@cache
def picture(width: int, colour: str) -> str:
    """A picture of one colour, as a page has it."""
    written = io.BytesIO()
    Image.new("RGB", (width, width), colour).save(written, "WEBP")
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()


def explored(config: Config, dataset: str, *, is_crawled: bool) -> dict[str, Any]:
    """What `explore` writes: see its docstring."""
    table = {row["item"]: row for row in items().iter_rows(named=True)}
    arms = {arm: config.features(dataset, arm) for arm in config.run.arms}
    found = {
        "dataset": dataset,
        "title": config.dataset(dataset).title,
        "arms": {arm: _made(each) for arm, each in arms.items() if isinstance(each, MadeFeatures)},
        "items": {
            str(item): {
                **{name: row[name] for name in ("asin", "title")},
                "thumb": picture(96, "teal") if is_crawled and item % 2 else None,
                "status": "ok" if is_crawled and item % 2 else "no_url",
            }
            for item, row in table.items()
        },
        "samples": [_sample(table[item], arms, is_crawled=is_crawled) for item in (LAMP, *range(6))[:6]],
        "users": [_user(config, user) for user in (1, 20)],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, ensure_ascii=False), object_hook=_shown)
    return plain


def _shown(each: dict[str, Any]) -> dict[str, Any]:
    """Texts as `explore` writes them: single lines with nothing unseen."""
    return {name: media.picture(value) if isinstance(value, str) else value for name, value in each.items()}


def _made(each: MadeFeatures) -> dict[str, Any]:
    return {
        **{name: getattr(each, name) for name in ("text", "image", "fusion", "temperature")},
        "views": list(each.views),
    }


def _sample(row: dict[str, Any], arms: dict[str, Any], *, is_crawled: bool) -> dict[str, Any]:
    item = row["item"]
    shown = {name: row[name] for name in ("title", "brand", "description")}
    shown["categories"] = None if row["categories"] is None else "; ".join(map(" > ".join, row["categories"]))
    return {
        "item": item,
        "why": "disagree" if item % 2 else "chance",
        "picture": picture(320, "teal") if is_crawled and item % 2 else None,
        "fields": shown,
        "arms": {
            arm: {
                "image_is_filled": item % 7 == 0,
                "text_is_filled": item == 5,
                "views": [_view(each, view, place, shown) for place, view in enumerate(each.views)],
                "by_image": [[other, round(1 - other / N_ITEMS, 2)] for other in range(10, 16)],
                "by_text": [[other, round(1 - other / N_ITEMS, 2)] for other in range(13, 19)],
            }
            for arm, each in arms.items()
        },
    }


def _view(made: MadeFeatures, view: str, place: int, fields: dict[str, Any]) -> dict[str, Any]:
    words = media.picture(str(fields.get(view) or fields["title"] or "")).split()
    n_read = min(len(words), CUT_FROM)
    is_weighed = made.temperature is not None
    return {
        **{"view": view, "is_missing": fields.get(view, "") is None, "n_tokens": len(words) + 2, "n_chunks": 1},
        **{"similarity": 0.3 - 0.05 * place if is_weighed else None, "weight": 1 / len(made.views)},
        **{"rank": place + 1 if is_weighed else None, "truncated": n_read < len(words)},
        **{"words": [[word, 1 + len(word) // 9] for word in words], "n_words": len(words), "n_read": n_read},
    }


def _user(config: Config, user: int) -> dict[str, Any]:
    """A user whose purchases kept for the test are hits of the arm cliper alone."""
    world = two_tastes()
    train, test = (world[name].filter(pl.col("user") == user)["item"].to_list() for name in ("train", "test"))
    missed = [item for item in range(N_ITEMS) if item not in (*train, *test)]
    lists = {
        backbone: {arm: ([*test, *missed] if arm == "cliper" else missed)[:10] for arm in arms}
        for backbone, arms in ((name, config.arms_of(name, config.run.arms)) for name in config.run.backbones)
    }
    own = {"user": user, "user_id": HOSTILE[user % len(HOSTILE)], "bought": train, "n_bought": len(train)}
    return {**own, "kept": test, "n_kept": len(test), "lists": lists}
