"""What of the run is otherwise than in the paper, what the paper leaves open, and what each choice is worth.

`cliper/data/departures.csv` has a row for each fact: what it is, the values that the paper has (none: it is silent),
where it says so. What this run has comes from its config. What a choice costs comes from those comparisons of its
studies that differ in that fact alone. docs/explanation/departures.md says more on each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cliper import resources
from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.inputs import table2_of
from cliper.report.pages.rendering import Section, Table, Value
from cliper.report.pages.values import decimal, p_value
from cliper.report.pages.words import change, lead, signed
from cliper.report.tables.made import made_for
from cliper.report.tables.printed import metric_title

BASE = "base_"  # leads facts of the run's first arm, with which the others are compared
FOLLOWS = {"encoder": {"context"}, "fusion": {"temperature"}}  # a change of the one may change the other
SHOWN = 3  # comparisons that stand in a row; the rest is in the table below
NONE = Value("not measured in this run", kind="quiet")


def base_of(dataset: str) -> str:
    """The dataset without what its derived name adds, such as `.split-user_time`; no other name has a dot."""
    return dataset.partition(".")[0]


class Row(NamedTuple):
    """A row of departures.csv.

    fact       name of what is looked at
    paper_has  values that are the paper's, between bars; "": it is silent
    here       how this run's values are written
    """

    fact: str
    what: str
    paper_has: str
    paper: str
    place: str
    here: str
    why: str


class Measure(NamedTuple):
    """A comparison of a study.

    facts    in which the two differ -> values of the base and of the variation
    results  its row of the study's table, at one metric
    """

    study: decides.Study
    facts: dict[str, tuple[str, str]]
    results: dict[str, Any]


def known() -> list[Row]:
    """All facts."""
    return [Row(**row) for row in resources.read_csv("departures.csv")]


def facts_of_arm(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """What an arm is: fact -> value; one without encoders has its d alone."""
    arm = config["arms"][name]
    found = {"d": str(arm["d"])}
    if "text" not in arm:
        return found
    image, text = (config["encoders"][arm[key]] for key in ("image", "text"))
    encoders = dict.fromkeys(f"{each['kind']} {each.get('architecture', '')}".strip() for each in (image, text))
    found |= {key: str(arm[key]) for key in ("prompts", "fusion", "missing_field", "missing_image", "vectors")}
    found |= {
        "encoder": " and ".join(encoders),
        "text_tower": "sentence" if text["kind"] == "sentence" else "the text tower of the image encoder",
        "views": ", ".join(arm.get("views") or config["prompts"][arm["prompts"]]),
        "overflow": text.get("overflow", config["encode"]["overflow"]),
        "control": arm.get("control", "none"),
    }
    more = {"temperature": arm.get("temperature"), "context": text.get("context")}
    return found | {key: f"{value:g}" for key, value in more.items() if value is not None}


def facts_of_dataset(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """What a dataset is made of: fact -> value."""
    dataset = config["datasets"][name]
    found = {
        "source": dataset["source"]["kind"],
        "k_core": str(dataset.get("k_core", 1)),
        "min_rating": f"{dataset['min_rating']:g}" if "min_rating" in dataset else "all",
        "split": dataset.get("split", "given"),
    }
    return found | ({"split_seed": str(dataset["split_seed"])} if "split_seed" in dataset else {})


def facts_of(job: decides.Page) -> dict[str, list[str]]:
    """What the run is: fact -> its values, each once."""
    config = job.config
    train, prompt, run = config["train"], config["prompt"], config["run"]
    base, *ours = job.arms if len(job.arms) != 1 else ("", *job.arms)
    found: dict[str, list[str]] = {
        "seeds": [str(len(run["seeds"]))],
        "numbers": ["all run here"],
        "dataset": list(job.titles.values()),
        "backbone": list(job.backbones.values()),
        "images": sorted({_images(config["datasets"][name]) for name in job.crawled}),
        "cleaning": [", ".join(prompt["clean"])],
        "categories": [prompt["categories"]],
        "mask_valid": ["items of train and validation" if config["evaluate"]["mask_valid"] else "train"],
        "chosen_on": ["validation alone"],
        **{name: [f"{train[name]:g}"] for name in ("weight_decay", "patience", "batch_size", "max_epochs")},
        **{name: [train[name]] for name in ("weight_decay_on", "behaviour")},
        **_learning_rates(job),
    }
    for each in [facts_of_dataset(name, config) for name in job.titles] + [facts_of_arm(arm, config) for arm in ours]:
        _add(found, each)
    if base:
        of_base = facts_of_arm(base, config)
        _add(found, {f"{BASE}d": of_base["d"]})
        if "encoder" in of_base:
            own = any(base in (config["datasets"][name]["source"].get("features") or {}) for name in job.titles)
            image, text = (config["arms"][base][key] for key in ("image", "text"))
            _add(found, {f"{BASE}image": "the dataset's own" if own else image, f"{BASE}encoder_of_texts": text})
    return found


def _add(found: dict[str, list[str]], more: Mapping[str, str]) -> None:
    for name, value in more.items():
        if value not in found.setdefault(name, []):
            found[name].append(value)


def _images(dataset: Mapping[str, Any]) -> str:
    return "a folder of one's own" if dataset.get("image_folder") else "those that still answer"


def _learning_rates(job: decides.Page) -> dict[str, list[str]]:
    """All that were tried, and whether they were searched."""
    trials = job.tables.get("search")
    searches = trials.searches if isinstance(trials, decides.Trials) else ()
    own = job.config["train"]["learning_rate"]
    grids = [job.config["search"]["spaces"][dataset][backbone][arm]["grid"] for dataset, backbone, arm in searches]
    rates = {rate for grid in grids for rate in grid.get("learning_rate", [own])}
    cells = {(base_of(cell.dataset), cell.backbone) for cell in job.cells}
    is_searched = cells <= {each[:2] for each in searches}
    rates |= set() if is_searched else {own}
    how = "searched" if is_searched else "searched for some backbones" if searches else "not searched"
    return {"search": [how], "learning_rate": [f"{rate:g}" for rate in sorted(rates)]}


def measures(job: decides.Page, at: At) -> list[Measure]:
    """Every comparison of every study."""
    first = next(iter(job.arms), "")
    found = []
    for study in job.tables.values():
        if isinstance(study, decides.Study):
            metric, k = lead(study)
            compared = made_for(job, at, study.name).long.filter(metric=metric, k=k).drop_nulls("established")
            found += [Measure(study, _differences(row, study, first, job.config), row) for row in compared.to_dicts()]
    return found


def _differences(
    row: Mapping[str, Any], study: decides.Study, first: str, config: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """In which facts a variation is not its base; on another split, in which its dataset is not its own base."""
    leads = ""
    if row["dataset"] != base_of(row["dataset"]):
        before, after = (facts_of_dataset(name, config) for name in (base_of(row["dataset"]), row["dataset"]))
    elif row["backbone"] != row["base_backbone"]:
        before, after = ({"backbone": study.backbones[row[name]]} for name in ("base_backbone", "backbone"))
    else:
        leads = BASE if row["base"] == first else ""
        before, after = (facts_of_arm(row[name], config) for name in ("base", "arm"))
    pairs = {name: (before.get(name, "none"), after.get(name, "none")) for name in before | after}
    return {leads + name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def cost(row: Row, found: Iterable[Measure]) -> list[Measure]:
    """Comparisons that differ in a fact alone, one of both with a value of the paper's, if it has any."""
    own = [each for each in found if each.facts.keys() - FOLLOWS.get(row.fact, set()) == {row.fact}]
    values = _values(row)
    return [each for each in own if not values or len(values.intersection(each.facts[row.fact])) == 1]


def _values(row: Row) -> set[str]:
    return set(filter(None, row.paper_has.split("|")))


def departures(job: decides.Page) -> Iterator[tuple[Row, list[str]]]:
    """Rows of what the paper has otherwise or leaves open, each with this run's values that are not the paper's."""
    facts = facts_of(job)
    for row in known():
        if here := [value for value in facts.get(row.fact, []) if value not in _values(row)]:
            yield row, here


def section(job: decides.Page, at: At) -> Section:
    """Two tables of departures, and one of what every choice is worth."""
    found = measures(job, at)
    otherwise: list[list[str | Value]] = []
    silent: list[list[str | Value]] = []
    for row, here in departures(job):
        ends = (row.here.format(", ".join(here)), row.why, _cost(cost(row, found)))
        if row.paper_has:
            otherwise.append([row.what, f"{row.paper} ({row.place})", *ends])
        else:
            silent.append([row.what, *ends])
    ends_heading = ("This run", "Why", "What it costs")
    values = {
        "stand_ins": table2_of(job).stand_ins,
        "otherwise": _table("Where the paper says otherwise", ["What", "The paper", *ends_heading], otherwise),
        "silent": _table("What the paper leaves open", ["What", *ends_heading], silent),
        "worth": _worth(found) if found else None,
    }
    return Section("departures", "Departures from the paper", values)


def _table(caption: str, heading: list[str], rows: list[list[str | Value]]) -> Table:
    """Departures, without the column of costs where no study of the run measures any."""
    if all(row[-1] is NONE for row in rows):
        none = ["No study of this run measures what these cost."] if rows else []
        return Table(caption, heading[:-1], [row[:-1] for row in rows], notes=none)
    return Table(caption, heading, rows)


def _cost(found: Sequence[Measure]) -> Value:
    """The first comparisons as sentences; they lead to the figure of their study."""
    if not found:
        return NONE
    rest = f"; {len(found) - SHOWN} more below" if len(found) > SHOWN else ""
    return Value("; ".join(map(_sentence, found[:SHOWN])) + rest, link=f"figure-{found[0].study.name}")


def _sentence(found: Measure) -> str:
    row = found.results
    between = f" ({_interval(row)})" if row["gain_low"] is not None else ""
    established = "established" if row["established"] else "not established"
    return f"{row['group']}: {row['variation']} against {row['base']} {change(row['gain'])}{between}, {established}"


def _interval(row: Mapping[str, Any]) -> str:
    return f"{signed(row['gain_low'])} to {signed(row['gain_high'])}"


def _worth(found: Sequence[Measure]) -> Table:
    """A row for each comparison of each study."""
    title = metric_title(found[0].results["metric"], found[0].results["k"])
    rows = [
        [
            row["variation"],
            row["base"],
            row["group"],
            decimal(row["mean"]),
            Value(signed(row["gain"]), row["gain"], "number"),
            Value("–" if row["gain_low"] is None else _interval(row), row["gain_low"], "number"),
            p_value(row["p_holm"]),
            Value("yes", kind="good") if row["established"] else Value("no", kind="quiet"),
            Value(each.study.title, link=f"figure-{each.study.name}"),
        ]
        for each in found
        for row in (each.results,)
    ]
    heading = ["Choice", "Against", "On", f"{title}, %", "Gain, %", "95 % interval", "p", "Established", "Study"]
    notes = ["Gains are relative. p is Holm-corrected over all of a study's table."]
    return Table("Gains and losses of each choice", heading, rows, 1, notes)
