"""The demo shop: its files, its faults, its taste, its server and its runner."""

import ast
import gzip
import io
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from cliper import config
from cliper.demo import shop

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def opened():
    return shop.open_shop(port=shop.PORT)


@pytest.fixture(scope="module")
def metadata(opened):
    lines = gzip.decompress(opened.files["meta_Shop.json.gz"]).decode().splitlines()
    return {line["asin"]: line for line in map(ast.literal_eval, lines)}


@pytest.fixture(scope="module")
def rows(opened):
    return [tuple(line.split(",")) for line in opened.files["ratings_Shop.csv"].decode().splitlines()]


@pytest.fixture(scope="module")
def bought(rows):
    """User -> items after the 5-core of demo.yaml."""
    pairs = {row[:2] for row in rows}
    while True:
        of_user, of_item = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        kept = {(user, item) for user, item in pairs if of_user[user] >= 5 and of_item[item] >= 5}
        if kept == pairs:
            return {user: {item for owner, item in pairs if owner == user} for user in of_user}
        pairs = kept


@pytest.fixture(scope="module")
def survivors(bought):
    return set.union(*bought.values())


@pytest.fixture(scope="module")
def server():
    with shop.serve(0) as opened_server:
        yield opened_server


@pytest.fixture(scope="module")
def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/shop"


def test_files_are_the_same_bytes_each_time(opened):
    assert shop.open_shop(port=shop.PORT).files == opened.files


def test_metadata_look_like_amazons(metadata):
    whole = [line for line in metadata.values() if len(line) == 9]
    known = {"asin", "title", "brand", "categories", "description", "imUrl", "price", "salesRank", "related"}
    assert whole and all(set(line) == known for line in whole)
    assert all(len(line["categories"][0]) == 3 for line in whole)


def test_ratings_are_grouped_by_item_and_whole_days(rows):
    items = [item for _, item, _, _ in rows]
    assert items == sorted(items)
    assert {rating for _, _, rating, _ in rows} == {"1.0", "2.0", "3.0", "4.0", "5.0"}
    assert all(int(seconds) % 86_400 == 0 for *_, seconds in rows)


def test_core_has_more_items_than_users_and_few_purchases_each(bought, survivors):
    n_items = Counter(item for items in bought.values() for item in items).values()
    assert len(survivors) > len(bought) > 300
    assert 6 <= np.median([len(items) for items in bought.values()]) <= 12
    assert np.median(list(n_items)) <= 8 and max(n_items) >= 20


def test_every_fault_of_metadata_and_ratings_survives_the_core(rows, metadata, opened, survivors):
    listed = [metadata[item] for item in survivors if item in metadata]
    for field in ("title", "brand", "categories", "description", "imUrl"):
        assert any(field not in line for line in listed), field
    texts = [line.get("description", "") for line in listed]
    assert any("&amp;" in text and "\n" in text for text in texts)
    urls = Counter(line["imUrl"] for line in listed if "imUrl" in line)
    assert [n_items for n_items in urls.values() if n_items > 1] == [2]
    assert len(survivors - set(metadata)) == 1
    assert len(set(metadata) - {item for _, item, _, _ in rows}) == 1
    assert any(n_rows == 2 and row[1] in survivors for row, n_rows in Counter(rows).items())


def test_a_share_of_titles_shelves_and_descriptions_misleads_each_on_its_own(opened, metadata):
    kinds = opened.words["kinds"]
    seen = Counter()
    for line in metadata.values():
        own = kinds[opened.items[line["asin"]].kind]
        nouns = sum(kind["noun"].title() in line.get("title", "") for kind in kinds.values())
        assert nouns in ((1, 4) if "title" in line else (0,))  # its own, and three others
        wrong = {
            "title": nouns == 4,
            "categories": line.get("categories", [own["path"]]) != [own["path"]],
            "description": "known for" in line.get("description", ""),
        }
        seen.update(field for field, is_wrong in wrong.items() if is_wrong)
        seen[sum(wrong.values())] += 1
    for field, share in shop.MISLEADING.items():
        assert abs(seen[field] / len(metadata) - share) < 0.06, field
    assert all(seen[n] > 5 for n in (0, 1, 2, 3))
    texts = Counter(line["description"] for line in metadata.values() if "known for" in line.get("description", ""))
    assert max(texts.values()) > 10 and len(texts) == 12  # one a brand


def test_taste_follows_the_truth_not_the_fields(opened, monkeypatch):
    monkeypatch.setattr(shop, "MISLEADING", dict.fromkeys(shop.MISLEADING, 0))
    honest = shop.open_shop(port=shop.PORT)
    assert honest.files["ratings_Shop.csv"] == opened.files["ratings_Shop.csv"]
    assert honest.files["meta_Shop.json.gz"] != opened.files["meta_Shop.json.gz"]
    item = next(iter(opened.items.values()))
    assert shop.draw_picture(item, honest.words) == shop.draw_picture(item, opened.words)


def test_every_fault_of_images_survives_the_core_and_most_images_are_fine(opened, survivors):
    faults = Counter(opened.items[item].fault for item in survivors)
    assert set(faults) == {"", *shop.IMAGE_FAULTS}
    assert 0.87 < faults[""] / len(survivors) < 0.93


def test_pictures_are_the_same_each_time_and_decode(opened):
    for item in list(opened.items.values())[:16]:
        picture = shop.draw_picture(item, opened.words)
        assert picture == shop.draw_picture(item, opened.words)
        image = Image.open(io.BytesIO(picture))
        image.load()
        assert (image.format, image.size) == ("JPEG", (200, 200))


def test_faulty_pictures_do_not_decode(opened):
    for fault, said in (("dead", "404 text/html"), ("page", "200 text/html"), ("cut", "200 image/jpeg")):
        item = next(item for item in opened.items.values() if item.fault == fault)
        status, kind, body = shop.answer(opened, f"/shop/images/{item.asin}.jpg")
        assert f"{status} {kind}" == said
        with pytest.raises(OSError, match="cannot identify|truncated"):
            Image.open(io.BytesIO(body)).load()
    item = next(item for item in opened.items.values() if item.fault == "dot")
    status, kind, body = shop.answer(opened, f"/shop/images/{item.asin}.jpg")
    assert (status, kind, Image.open(io.BytesIO(body)).size) == (200, "image/gif", (1, 1))


@pytest.mark.parametrize(("attribute", "times_chance"), [("kind", 1.5), ("colour", 1.2), ("style", 1.2)])
def test_items_of_one_user_look_alike_far_above_chance(opened, bought, survivors, attribute, times_chance):
    def share_alike(items):
        shown = [getattr(opened.items[item], attribute) for item in sorted(items)]
        return np.mean([first == second for first, second in combinations(shown, 2)])

    of_users = np.mean([share_alike(items) for items in bought.values()])
    assert of_users > times_chance * share_alike(survivors)


def test_loved_items_are_rated_higher(opened, rows):
    favourite = {}  # user -> the kind bought most often
    for user in {row[0] for row in rows}:
        kinds = Counter(opened.items[item].kind for owner, item, _, _ in rows if owner == user)
        favourite[user] = kinds.most_common(1)[0][0]
    loved = [float(rating) for user, item, rating, _ in rows if opened.items[item].kind == favourite[user]]
    others = [float(rating) for user, item, rating, _ in rows if opened.items[item].kind != favourite[user]]
    assert np.mean(loved) > np.mean(others) + 0.2


def test_server_sends_whole_files_parts_and_heads(server, url):
    whole = server.shop.files["meta_Shop.json.gz"]
    address = f"{url}/meta_Shop.json.gz"
    assert requests.get(address, timeout=5).content == whole
    for asked, expected in (("bytes=5-9", whole[5:10]), ("bytes=100-", whole[100:])):
        answer = requests.get(address, headers={"Range": asked}, timeout=5)
        assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    head = requests.head(address, timeout=5)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(whole)), b"")
    assert requests.get(f"{url}/images/nothing.jpg", timeout=5).status_code == 404


def test_metadata_point_to_the_pictures_of_this_server(server, url):
    lines = gzip.decompress(server.shop.files["meta_Shop.json.gz"]).decode().splitlines()
    fine = next(asin for asin, item in server.shop.items.items() if not item.fault and asin > "B00SHOP002")
    address = next(line["imUrl"] for line in map(ast.literal_eval, lines) if line["asin"] == fine)
    assert address.startswith(url)
    image = requests.get(address, timeout=5)
    assert image.headers["Content-Type"] == "image/jpeg"
    assert image.content == shop.draw_picture(server.shop.items[fine], server.shop.words)


def run_shop(*arguments, port=0, start_new_session=False):
    command = [sys.executable, "-m", "cliper.demo.shop", "--port", str(port), *arguments]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=start_new_session, **pipes)


def test_runner_passes_the_exit_code():
    with run_shop("--", "sh", "-c", "exit 7") as process:
        assert process.wait(20) == 7


def test_runner_says_that_the_port_is_taken(server):
    with run_shop("--", "true", port=server.server_address[1]) as process:
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 2
    assert said.count("\n") == 1 and "choose another --port" in said


def test_runner_says_that_a_command_does_not_exist():
    with run_shop("--", "no-such-command") as process:
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 2 and "cannot run no-such-command" in said


def test_runner_passes_a_request_to_end_on_to_the_command():
    with run_shop("--", "sh", "-c", "echo ready; exec sleep 60") as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM


def test_an_interrupt_from_the_terminal_ends_the_command():
    child = "import time; print('ready', flush=True); time.sleep(60)"
    with run_shop("--", sys.executable, "-c", child, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 128 + signal.SIGINT


def test_killing_the_whole_group_leaves_nobody_behind():
    with run_shop("--", "sh", "-c", "echo ready; sleep 60; true", start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)  # ends once nobody, sleep included, holds the pipe any more


def test_without_a_command_it_serves_until_interrupted():
    with run_shop() as process:
        address = process.stderr.readline().split()[-1]
        assert requests.get(f"{address}/ratings_Shop.csv", timeout=5).ok
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_demo_config_is_valid_and_compares_fairly():
    demo = config.load([ROOT / "config.yaml", ROOT / "cliper/data/demo.yaml"])
    assert demo.datasets["shop"].source.settings.mirrors == (f"http://127.0.0.1:{shop.PORT}/shop",)
    assert demo.crawl.allow_hosts == (f"127.0.0.1:{shop.PORT}",)
    assert {demo.arm(name).d for name in (*demo.run.arms, config.CONTENT_FREE)} == {64}
