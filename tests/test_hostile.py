"""Inputs that nobody means, or that someone means harm by: each ends in a sentence, none in another exception."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy
from line import SNAKEMAKE, call

from cliper import config
from cliper.__main__ import main
from cliper.collect import catalogue
from cliper.collect.images.connections import Connections
from cliper.collect.images.fetch import Fetcher
from cliper.collect.sources import amazon2014, amazon2018, amazon2023
from cliper.errors import ConfigError, DataError, SourceError

SHIPPED = toy.REPOSITORY / "config.yaml"
DEMO = toy.REPOSITORY / "cliper/data/demo.yaml"


# numbers

BEYOND = [math.nan, math.inf, -math.inf, 2**64, 10**400, 16**5000, -1, -1.0, 1e300, -5e-324]


def numbers(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all numbers in a config."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        if isinstance(each, int | float) and not isinstance(each, bool):
            yield (*place, key)
        yield from numbers(each, (*place, key))


def test_every_number_has_bounds_and_its_fault_names_it() -> None:
    complete = deepcopy(toy.shipped())
    complete["datasets"]["baby"]["min_rating"] = 3.5
    space = {"grid": {"learning_rate": [0.001, 0.01], "k": [5, 10]}, "draws": 3}  # the shipped one stands in 45 places
    complete["search"]["spaces"] = {"baby": {"freedom": {"vanilla": space}}}
    places = list(numbers(complete))
    assert len(places) > 60
    accepted = set()
    for place in places:
        for number in BEYOND:
            raw = deepcopy(complete)
            holder = raw
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = number
            named = ".".join(str(key) for key in place if not isinstance(key, int))
            try:
                config.structure(raw, where="toy")
                accepted.add(named)
            except ConfigError as error:
                assert f"toy: {named}" in str(error)
                assert len(str(error)) < 400, place
    assert accepted == {"datasets.baby.min_rating"}  # some shops rate below 0


def test_the_json_schema_has_the_bounds_of_every_number() -> None:
    unbounded, n_numbers = [], 0
    todo: list[tuple[str, Any]] = [("", config.Config.model_json_schema())]
    while todo:
        place, each = todo.pop()
        if isinstance(each, dict):
            if each.get("type") in ("integer", "number") and "const" not in each:
                n_numbers += 1
                if "minimum" not in each or not {"maximum", "exclusiveMaximum"} & each.keys():
                    unbounded.append(place)
            todo.extend((f"{place}.{key}", value) for key, value in each.items())
        elif isinstance(each, list):
            todo.extend((f"{place}.{n}", value) for n, value in enumerate(each))
    assert n_numbers > 40
    assert unbounded == []


@pytest.mark.parametrize("number", ["-1", "99999999999999999999", "1" * 5000, "1.0", "٣", "", "nan"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--dataset", "baby", "--backbone", "freedom", "--arm", "cliper", "--seed"],
        ["encode-image", "--dataset", "baby", "--encoder", "clip-rn50", "--range"],
        ["prompt", "--preview"],
    ],
    ids=["seed", "range", "preview"],
)
def test_a_number_of_the_command_line_has_bounds(
    command: list[str], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, number])
    assert ended.value.code == 2
    assert "is no whole number from 0 to 9223372036854775807" in capsys.readouterr().err


def test_fewer_neighbours_than_a_backbone_takes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"toy: backbones\.dualgnn\.n_neighbours: 40 is more than neighbours\.users"):
        toy.settings(neighbours={"users": 39})
    assert toy.settings(neighbours={"users": 40})


# texts

LINE_BREAKS: list[tuple[dict[str, Any], str]] = [
    ({"name": "a\n"}, "name: 'a\\n' does not have the form"),
    ({"datasets": {"a\n": {}}}, "datasets.'a\\n': 'a\\n' does not have the form"),
    ({"encoders": {"a\n": {"kind": "bridge"}}}, "encoders.'a\\n': 'a\\n' does not have the form"),
    ({"backbones": {"bpr\n": {}}}, "backbones.'bpr\\n': 'bpr\\n' does not have the form"),
    ({"arms": {"a\n": {"d": 1}}}, "arms.'a\\n': 'a\\n' does not have the form"),
    ({"prompts": {"a\n": {}}}, "prompts.'a\\n': 'a\\n' does not have the form"),
    ({"datasets": {"baby": {"source": {"category": "Baby\n"}}}}, "category: 'Baby\\n' does not have the form"),
    ({"download": {"lock": "a.json\n"}}, "download.lock: 'a.json\\n' does not have the form"),
    ({"encoders": {"bridge": {"class": "my_encoder:Mine\n"}}}, "'my_encoder:Mine\\n' is no module:Class"),
    ({"crawl": {"user_agent": "me\n"}}, "crawl.user_agent: 'me\\n' does not have the form"),
    ({"crawl": {"user_agent": "me\r\nHost: other"}}, "crawl.user_agent: 'me\\r\\nHost: other' does not"),
    ({"crawl": {"user_agent": "爬虫"}}, "crawl.user_agent: '爬虫' does not have the form"),
    ({"crawl": {"user_agent": " me"}}, "crawl.user_agent: ' me' does not have the form"),
]


@pytest.mark.parametrize(("overlay", "said"), LINE_BREAKS, ids=lambda value: str(value)[:40])
def test_a_text_that_would_break_a_line_is_refused_in_one_line(overlay: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toy.settings(**overlay)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_fault_of_the_url_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Connections, url: object) -> None:
        raise ValueError("a bug of ours")

    async def fetch(url: str) -> str:
        async with Fetcher(toy.settings(crawl={"attempts": 1}).crawl) as fetcher:
            return (await fetcher.fetch(url)).status

    assert asyncio.run(fetch("http://a..b/x.jpg")) == "refused"
    assert asyncio.run(fetch(f"http://{'a' * 64}.test/x.jpg")) == "refused"
    assert asyncio.run(fetch("http://127.0.0.1/x.jpg")) == "refused"
    monkeypatch.setattr(Connections, "get", fail)
    with pytest.raises(ValueError, match="a bug of ours"):
        asyncio.run(fetch("http://shop.test/x.jpg"))


# YAML

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAMLS = [
    ("[" * 100_000, "line 1: more than 50 levels"),
    ("{a: " * 100_000, "line 1: more than 50 levels"),
    ("- " * 100_000 + "x", "line 1: more than 50 levels"),
    ("a: &a [*a]", "more than 50 levels or 1,000,000 values"),
    ("a: &a {b: *a}", "more than 50 levels or 1,000,000 values"),
    (LAUGHS, "more than 50 levels or 1,000,000 values"),
    ("name: a\ntrain: {}\nname: b\n", "line 3: the key 'name' is repeated; keep one"),
    ("train:\n  patience: 1\n  'patience': 2\n", "line 3: the key 'patience' is repeated; keep one"),
    ("? [1]\n: 2\n", "is no YAML"),
    ("a: !!python/object/apply:os.system [id]", "is no YAML"),
    ("a: " + "1" * 5000, "is no YAML"),
    ("a: !!bool maybe", "is no YAML"),
    ("a: !!int ''", "is no YAML"),
    ("a: !!timestamp soon", "is no YAML"),
    ("a: 2020-13-45", "is no YAML"),
    ("a: 1\n---\nb: 2\n", "is no YAML"),
    ("\x00", "is no YAML"),
    ("", "is no mapping of sections"),
]


@pytest.mark.parametrize(("text", "said"), YAMLS, ids=lambda value: ascii(value)[:30])
def test_a_file_that_is_no_config_is_refused(
    workdir: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    Path("odd.yaml").write_text(text, encoding="utf-8")
    assert main(["schema", "--config", str(SHIPPED), "odd.yaml"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ConfigError: odd.yaml")
    assert said in shown
    assert shown.count("\n") == 1


def test_keys_that_a_merge_replaces_are_not_repeated(workdir: Path) -> None:
    Path("merged.yaml").write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\n")
    assert config.read(Path("merged.yaml"))["d"] == {"b": 3, "c": 2}


def test_a_folder_is_no_config_and_no_page(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--config", "."]) == 2
    assert "ConfigError: . cannot be read: Is a directory; name a config file" in capsys.readouterr().err
    for html in ("", "."):
        assert main(["inspect", "--item", "A", "--html", html, "--config", str(SHIPPED)]) == 2
        assert f"ConfigError: --html {html!r} names no file; name one, such as item.html" in capsys.readouterr().err


def test_a_repeated_key_is_refused_under_snakemake_too(workdir: Path) -> None:
    Path("mine.yaml").write_text("name: a\nname: b\n")
    ran = call(
        toy.REPOSITORY, *SNAKEMAKE, "-n", "--directory", str(workdir), "--configfile", str(workdir / "mine.yaml")
    )
    assert ran.returncode != 0
    assert "mine.yaml, line 2: the key 'name' is repeated; keep one" in ran.stdout


# numbers of users and items

GOOD = ["0\t0\t0", "0\t1\t1", "1\t0\t0", "1\t2\t2"]
INTERS: list[tuple[list[str], list[str] | None, str]] = [
    ([], None, "there are no interactions in "),
    (["0\t0\t1", "1\t1\t2"], None, "the given split has no row of train"),
    (["0\t0\t0", "1\t1\t2"], None, "the given split has no row of valid"),
    ([*GOOD, "3\t0\t0"], None, "no row has user 2, but one has 3; leave no gaps"),
    ([line.replace("0\t", "2\t", 1) for line in GOOD], None, "no row has user 0, but one has 1"),
    ([*GOOD, "-1\t0\t0"], None, "user -1 is below 0; number users from 0"),
    ([*GOOD, "1\t-7\t0"], None, "item -7 is below 0; number items from 0"),
    ([*GOOD, "1\t2000000000\t0"], None, "item 2,000,000,000 in 5 rows; number items with fewer gaps"),
    ([*GOOD, "1\t3000000000\t0"], None, "x.inter: "),
    ([*GOOD, "1\t0.5\t0"], None, "x.inter: "),
    ([*GOOD, "1\t3\t9"], None, "1 rows have an x_label other than 0, 1, 2"),
    ([*GOOD, "0\t0\t0"], None, "1 repeated rows of a user and item"),
    (GOOD, ["A\t0", "A\t1", "A\t2"], "asin A has more than one item; give it one"),
    (GOOD, ["A\t0", "B\t1", "A\t2"], "asin A has more than one item; give it one"),
    (GOOD, ["A\t0", "B\t1"], "lacks 1 of the items"),
]


@pytest.mark.parametrize(("lines", "ids", "said"), INTERS, ids=lambda value: str(value)[:40])
def test_numbers_that_are_no_positions_are_refused_where_they_enter(
    workdir: Path, lines: list[str], ids: list[str] | None, said: str
) -> None:
    source = {"kind": "mmrec", "inter": "x.inter", "mirrors": ["unused"], **({"item_ids": "ids.csv"} if ids else {})}
    chosen = toy.settings(name="toy", run={"datasets": ["g"]}, datasets={"g": {"title": "G", "source": source}})
    path = toy.path(chosen, "raw", dataset="g", file="x.inter")
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["userID\titemID\tx_label", *lines]) + "\n")
    path.with_name("ids.csv").write_text("\n".join(["asin\titemID", *(ids or [])]) + "\n")
    with pytest.raises(DataError) as caught:
        toy.run("catalogue", chosen, dataset="g")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "said"), [(["dev"], r"has \['dev'\]; write train, valid, test"), ([None], r"has \['None'\]")]
)
def test_a_given_split_has_no_other_parts(labels: list[str | None], said: str) -> None:
    split = [*catalogue.SPLITS, *labels]
    rows = pl.DataFrame({"user": [0] * 4, "item": range(4), "split": split})
    with pytest.raises(DataError, match=said):
        catalogue.take_given(rows)


# metadata

DIGITS = "7" * 100_000
RECORDS = [
    (amazon2018.parse_record, f'{{"asin": "A", "title": {DIGITS}}}', DIGITS),
    (amazon2018.parse_record, f'{{"asin": "A", "title": -{DIGITS}}}', f"-{DIGITS}"),
    (amazon2018.parse_record, f'{{"asin": "A", "title": [{DIGITS}]}}', "a list instead of a text"),
    (amazon2018.parse_record, '{"asin": "A", "title": 007}', "no JSON"),
    (amazon2018.parse_record, "[" * 100_000, "no JSON"),
    (amazon2018.parse_record, f'{{"asin": "A", "title": 1e{DIGITS}}}', None),
    (amazon2023.parse_record, f'{{"parent_asin": "A", "title": {DIGITS}}}', DIGITS),
    (amazon2014.parse_record, f"{{'asin': 'A', 'title': {DIGITS}}}", "no plain Python literal"),
    (amazon2014.parse_record, f"{{'asin': 'A', 'title': 0x{DIGITS}}}", "a number of more than 4,300 digits"),
    (amazon2014.parse_record, f"{{'asin': 'A', 'title': {'-' * 100_000}1}}", "no plain Python literal"),
    (amazon2014.parse_record, "(" * 100_000, "no plain Python literal"),
    (amazon2014.parse_record, "{'asin': 'A', 'title': 1+2j}", "a complex instead of a text"),
    (amazon2014.parse_record, "{'asin': 'A', 'title': b'x'}", "a bytes instead of a text"),
    (amazon2014.parse_record, "{'asin': 'A', [1]: 2}", "no plain Python literal"),
    (amazon2014.parse_record, "\0", "no plain Python literal"),
]


@pytest.mark.parametrize(
    ("parse", "line", "said"),
    RECORDS,
    ids=lambda value: value[:40] if isinstance(value, str) else getattr(value, "__module__", "missing"),
)
def test_a_record_is_read_or_named_by_its_line(parse: Callable[[str, str], Any], line: str, said: str | None) -> None:
    try:
        assert parse(line, "line 1")["title"] == said
    except SourceError as error:
        assert str(error).startswith("line 1")
        assert str(said) in str(error)


# mutations

ODD = [
    "",
    "~",
    "[]",
    "{}",
    "[[]]",
    "-1",
    "0",
    "1.5",
    ".nan",
    ".inf",
    "1e999",
    "'x'",
    "yes",
    "2001-01-01",
    "!!set {a}",
    "a",
]
ODD += [
    "0x" + "f" * 5000,
    "9" * 30,
    "!!binary aGk=",
    "'\\0'",
    '"\\0"',
    '"\\ud800"',
    "'a/../b'",
    "{class: 'os:path'}",
    "{a: 1}",
]


def spoil(lines: list[str], draw: random.Random) -> None:
    """Spoil one line of a YAML file."""
    n = draw.randrange(len(lines))
    key, colon, _ = lines[n].partition(": ")
    match draw.randrange(7):
        case 0:
            lines[n] = f"{key}{colon}{draw.choice(ODD)}"
        case 1:
            del lines[n]
        case 2:
            lines.insert(n, lines[draw.randrange(len(lines))])
        case 3:
            lines[n] = " " * draw.randrange(6) + lines[n].strip()
        case 4:
            place = draw.randrange(len(lines[n]) + 1)
            lines[n] = (
                lines[n][:place] + draw.choice("{}[]:,&*!|>'\"%@`#-?\t\\ é0") + lines[n][place + draw.randrange(2) :]
            )
        case 5:
            lines[n] = f"{' ' * (len(key) - len(key.lstrip()))}{draw.choice(ODD) or 'x'}: {lines[n].partition(': ')[2]}"
        case _:
            other = lines[draw.randrange(len(lines))]
            lines[n] = f"{key}{colon}{other.partition(': ')[2]}"


def test_a_spoilt_file_is_valid_or_refused_by_a_sentence(workdir: Path) -> None:
    draw, ends = random.Random(13), {"valid": 0, "refused": 0}
    files = [[line for line in path.read_text(encoding="utf-8").splitlines() if line] for path in (SHIPPED, DEMO)]
    path = Path("odd.yaml")
    for _ in range(600):
        lines = list(draw.choice(files))
        for _ in range(draw.choice([1, 1, 2, 4])):
            spoil(lines, draw)
        path.write_text("\n".join(lines), encoding="utf-8")
        try:
            config.load([SHIPPED, path])
            ends["valid"] += 1
        except ConfigError as error:
            ends["refused"] += 1
            assert str(error).isprintable(), lines
            assert "odd.yaml" in str(error)
        except Exception as error:
            raise AssertionError("\n".join(lines)) from error
    assert min(ends.values()) >= 50, ends
