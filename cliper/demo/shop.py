"""The demo: a little shop of our own, served on loopback in the formats of Amazon-2014.

    python -m cliper.demo.shop [--port 8378] [-- COMMAND ...]

Serves while COMMAND runs, passes interrupts on to it and ends with its exit code; without COMMAND it serves until
interrupted. Users, items, words and pictures are all made here from one seed and `data/shop.yaml`: no network, no
licence, the same bytes each time. What a user buys depends on what an item is (kind, colour, style, brand), on
popularity, and on chance. Pictures show the truth, and fields may mislead as in a real shop: titles stuffed with the
names of other things, wrong shelves, descriptions that a brand uses for all it sells. The shop has the faults of a
real one too: dead links, pages instead of pictures, cut files, missing fields, repeated rows.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from cliper import log, resources
from cliper.errors import CliperError

PORT = 8378
SEED = 2014
N_USERS, N_ITEMS = 350, 460
MIN_BUYERS, MEAN_MORE_BUYERS = 5, 3.0  # of an item: exponential, so a few items sell well and most do not
UNSOLD, UNLISTED = 0, 1  # an item nobody bought, and a bought one without a line of metadata
# spread of the users' liking for what an item shows, and for combinations of it
TASTE = {"kind": 2.4, "colour": 1.2, "style": 1.0, "brand": 0.6, "kind colour": 2.0, "kind style": 2.0}
ACTIVITY, RATING_NOISE = 0.3, 0.8
DAY_S, FIRST_DAY, N_DAYS = 86_400, 15_000, 1_200  # 2011 to 2014; the shop's times are whole days
# share of items whose metadata lack a field, number of items with each fault of the image
MISSING = {"title": 0.02, "brand": 0.08, "categories": 0.02, "description": 0.06}
MISSING |= {"price": 0.3, "salesRank": 0.3, "related": 0.5}
MISLEADING = {"title": 0.3, "categories": 0.3, "description": 0.4}  # share of items whose field misleads
IMAGE_FAULTS = {"dead": 16, "page": 6, "cut": 6, "dot": 6, "no_url": 6, "shared": 2}
PAGE = b"<!DOCTYPE html><title>Sorry</title><p>This picture is not available.</p>"
DOT = b"GIF89a\1\0\1\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"  # 1 x 1 px

BOARD = (400, 400)  # px; pictures are drawn on it and halved, which smooths their edges
CREAM = (244, 238, 222)


class Item(NamedTuple):
    """One product: what its text and picture show, and what is wrong with its picture (a fault or "")."""

    asin: str
    kind: str
    colour: str
    style: str
    brand: str
    material: str
    fault: str


class Shop(NamedTuple):
    """All that is served."""

    words: dict[str, Any]  # shop.yaml
    items: dict[str, Item]  # by asin
    files: dict[str, bytes]  # raw files by name


def open_shop(*, port: int) -> Shop:
    """Make the whole shop, except its pictures; the image URLs have this `port`."""
    item_rng, rating_rng, metadata_rng = np.random.default_rng(SEED).spawn(3)
    words = resources.read_yaml("shop.yaml")
    items = draw_items(words, item_rng)
    ratings = draw_ratings(items, rating_rng)
    lines = draw_metadata(items, words, metadata_rng, images=f"http://127.0.0.1:{port}/shop/images")
    files = {
        "ratings_Shop.csv": "".join(f"{','.join(map(str, row))}\n" for row in ratings).encode(),
        "meta_Shop.json.gz": gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0),
    }
    return Shop(words, {item.asin: item for item in items}, files)


def draw_items(words: dict[str, Any], rng: Generator) -> list[Item]:
    """Draw the items, sorted by asin; attributes are independent, but each style has its own brands."""
    faults = [fault for fault, n_items in IMAGE_FAULTS.items() for _ in range(n_items)]
    faults = [*faults, *[""] * (N_ITEMS - len(faults))]
    items = []
    for number, fault in enumerate(rng.permutation(faults)):
        kind, colour, style = (_pick(list(words[key]), rng) for key in ("kinds", "colours", "styles"))
        brand = _pick(list(words["styles"][style]["brands"]), rng)
        material = _pick(words["kinds"][kind]["materials"], rng)
        items.append(Item(f"B00SHOP{number:03d}", kind, colour, style, brand, material, str(fault)))
    return items


def draw_ratings(items: list[Item], rng: Generator) -> list[tuple[str, str, float, int]]:
    """Draw who bought what: rows (user, asin, rating, seconds since 1970), grouped by item as Amazon's are.

    A user's liking of an item is a sum over what it shows. Each item, popular or not, is bought by the users who like
    it most, with some chance. So taste decides who buys, and a long tail how many. A few rows are repeated.
    """
    liking = np.zeros((N_USERS, len(items)))  # (U, I)
    for attributes, spread in TASTE.items():
        shown = [" ".join(getattr(item, attribute) for attribute in attributes.split()) for item in items]
        values, value = np.unique(shown, return_inverse=True)
        liking += spread * rng.normal(size=(N_USERS, len(values)))[:, value]
    ease = np.log(np.exp(liking).mean(axis=1, keepdims=True))  # whoever likes much must not buy everything
    activity = rng.normal(scale=ACTIVITY, size=(N_USERS, 1))
    order = np.argsort(-(liking - ease + activity + rng.gumbel(size=liking.shape)), axis=0)
    n_buyers = MIN_BUYERS + rng.exponential(MEAN_MORE_BUYERS, size=len(items))
    n_buyers[UNSOLD] = 0
    rows = []
    for number, item in enumerate(items):
        for user in sorted(order[: int(n_buyers[number]), number]):
            rating = np.clip(np.round(3.2 + 0.2 * liking[user, number] + rng.normal(scale=RATING_NOISE)), 1, 5)
            seconds = DAY_S * (FIRST_DAY + int(rng.integers(N_DAYS)))
            rows.append((f"A{user:04d}SHOPPER", item.asin, float(rating), seconds))
            rows += rows[-1:] * (rng.random() < 0.005)
    return rows


def draw_metadata(items: list[Item], words: dict[str, Any], rng: Generator, *, images: str) -> list[str]:
    """Write the metadata: one Python dict literal a line, as Amazon-2014 has it.

    images  URL of the folder of pictures
    """
    shared = next(item.asin for item in items if item.fault == "shared")
    lines = []
    for number, item in enumerate(items):
        picture = shared if item.fault == "shared" else item.asin
        said = mislead(item, describe(item, words, rng), words, rng)
        line = {"asin": item.asin, **said, "imUrl": f"{images}/{picture}.jpg"}
        line |= {"price": int(rng.integers(500, 9000)) / 100}
        line |= {"salesRank": {line["categories"][0][0]: int(rng.integers(1, 500_000))}}
        line |= {"related": {"also_bought": [_pick(items, rng).asin for _ in range(3)]}}
        absent = {field for field, share in MISSING.items() if rng.random() < share}
        absent |= {"imUrl"} if item.fault == "no_url" else set()
        if number != UNLISTED:
            lines.append(repr({field: value for field, value in line.items() if field not in absent}))
    return lines


def describe(item: Item, words: dict[str, Any], rng: Generator) -> dict[str, Any]:
    """Write an item's title, brand, categories and description, all of them true."""
    kind, style = words["kinds"][item.kind], words["styles"][item.style]
    shown = {**item._asdict(), "noun": kind["noun"], "word": _pick(style["words"], rng)}
    pools = ([words["opening"]], kind["uses"], style["sentences"], words["sentences"])
    sentences = [_pick(pool, rng).format(**shown) for pool in pools]
    return {
        "title": _pick(words["titles"], rng).format(**shown).title(),
        "brand": item.brand,
        "categories": [kind["path"]],
        "description": " ".join(sentences[place] for place in rng.permutation(len(sentences))),
    }


def mislead(item: Item, truth: dict[str, Any], words: dict[str, Any], rng: Generator) -> dict[str, Any]:
    """Replace some of an item's fields by misleading ones, each on its own.

    A title names three other kinds of things too, a shelf is that of another kind, a description is the brand's own
    text about the kind that it is known for.
    """
    others = [kind for name, kind in words["kinds"].items() if name != item.kind]
    named = [others[place]["noun"] for place in rng.permutation(len(others))[:3]]
    known_for = words["kinds"][words["styles"][item.style]["brands"][item.brand]]["noun"]
    wrong = {
        "title": words["stuffed"].format(title=truth["title"], others=" ".join(named).title()),
        "categories": [_pick(others, rng)["path"]],
        "description": words["boilerplate"].format(brand=item.brand, noun=known_for),
    }
    return truth | {field: wrong[field] for field, share in MISLEADING.items() if rng.random() < share}


def draw_picture(item: Item, words: dict[str, Any]) -> bytes:
    """Draw an item as a JPEG of a product on a light ground: its kind's shape, its colour, its style's pattern."""
    rng = np.random.default_rng([SEED, *item.asin.encode()])
    colour = np.clip(words["colours"][item.colour] + rng.normal(scale=10, size=3), 0, 255).astype(int)
    body = Image.new("RGB", BOARD, tuple(colour.tolist()))
    body.paste(CREAM, mask=_pattern(words["styles"][item.style]["pattern"], pitch=int(rng.integers(30, 44))))
    trim = tuple(_pick(words["trims"], rng))
    paints: dict[str, Any] = {"body": body, "shade": tuple((colour * 3 // 5).tolist()), "cream": CREAM, "trim": trim}
    product = Image.new("RGBA", BOARD)
    for paint, shape, points, options in words["kinds"][item.kind]["picture"]:
        mask = Image.new("L", BOARD)
        getattr(ImageDraw.Draw(mask), shape)(points, fill=255, **options)
        product.paste(paints[paint], mask=mask)
    return _photograph(product.reduce(2), rng)


def _photograph(product: Image.Image, rng: Generator) -> bytes:
    """Light a product from the left, turn and move it a little, lay it on a light ground; returns a JPEG."""
    light = Image.linear_gradient("L").rotate(90).resize(product.size).point(lambda level: 255 - 0.35 * level)
    product = ImageChops.multiply(product, Image.merge("RGBA", [*[light] * 3, Image.new("L", product.size, 255)]))
    width = int(product.width * rng.uniform(0.75, 0.98))
    picture = Image.new("RGB", product.size, tuple(rng.integers(232, 256, size=3).tolist()))
    product = product.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC).resize((width, width))
    x, y = (int(at) for at in rng.integers(picture.width - width + 1, size=2))
    shadow = product.getchannel("A").point(lambda level: 0.35 * level).filter(ImageFilter.BoxBlur(4))
    picture.paste((90, 90, 100), (x + 3, y + 5), shadow)
    picture.paste(product, (x, y), product)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


def _pattern(name: str, *, pitch: int) -> Image.Image:
    """How much of the second colour each pixel takes; `pitch` in px."""
    x, y = np.arange(BOARD[0]), np.arange(BOARD[1])[:, None]
    share = np.zeros(BOARD)
    match name:
        case "stripes":
            share += y // (pitch // 2) % 2
        case "dots":
            share += np.hypot(x % pitch - pitch / 2, y % pitch - pitch / 2) < 0.26 * pitch
        case "checks":
            share += (x // (pitch // 2) % 2 + y // (pitch // 2) % 2) / 2
    return Image.fromarray((217 * share).astype(np.uint8))


def _pick(choices: Any, rng: Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def answer(shop: Shop, path: str) -> tuple[HTTPStatus, str, bytes]:
    """Answer for a path: status, content type and body, faults of the shop included."""
    folder, _, name = path.removeprefix("/shop/").rpartition("/")
    if not folder and name in shop.files:
        return HTTPStatus.OK, "application/octet-stream", shop.files[name]
    item = shop.items.get(name.removesuffix(".jpg"))
    if folder != "images" or item is None or item.fault == "dead":
        return HTTPStatus.NOT_FOUND, "text/html", PAGE
    if item.fault == "page":
        return HTTPStatus.OK, "text/html", PAGE
    if item.fault == "dot":
        return HTTPStatus.OK, "image/gif", DOT
    picture = draw_picture(item, shop.words)
    return HTTPStatus.OK, "image/jpeg", picture[: len(picture) // 2] if item.fault == "cut" else picture


def byte_range(header: str | None, size: int) -> range:
    """The bytes of `size` that a Range header asks for: all of them unless it is a good `bytes=first-[last]`.

    >>> byte_range("bytes=7-", 10), byte_range("bytes=10-", 10)
    (range(7, 10), range(0, 10))
    """
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    part = range(int(found[1]), min(int(found[2] or size) + 1, size)) if found else range(0)
    return part or range(size)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, whole or in part, from the server's shop."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer on a kept connection waits 40 ms for the one before

    def do_GET(self) -> None:
        """Send the file at the path, or the part of it that is asked for."""
        status, kind, body = answer(self.server.shop, self.path)
        part = byte_range(self.headers["Range"], len(body))
        is_part = status == HTTPStatus.OK and len(part) < len(body)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if is_part else status)
        if is_part:
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(body)}")
            body = body[part.start : part.stop]
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Send the head alone."""
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: hundreds of pictures are no news."""


class Server(ThreadingHTTPServer):
    """An open shop."""

    shop: Shop
    request_queue_size = 128  # the crawler opens many connections at once
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's asks the network for the host's name

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up, as a crawler does that has read enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(port: int) -> Iterator[Server]:
    """Serve the shop on 127.0.0.1 while the block runs; port 0 takes a free one.

    Raises CliperError if the port is taken.
    """
    try:
        server = Server(("127.0.0.1", port), Handler)
    except OSError as error:
        raise CliperError(
            f"port {port} of 127.0.0.1: {error.strerror}; stop what listens there or choose another --port"
        ) from error
    with server:
        server.shop = open_shop(port=server.server_address[1])
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def run(command: list[str]) -> int:
    """Run a command and return its exit code; one ended by signal n counts as 128 + n, as in shells.

    It stays in our process group: a terminal's Ctrl-C reaches it by itself, and killing the group ends both. SIGTERM
    is passed on. Raises CliperError if the command cannot be started.
    """
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        raise CliperError(f"cannot run {command[0]}: {error.strerror}; check the command after --") from error
    while (code := child.poll()) is None:
        while received:
            child.send_signal(received.pop())
        time.sleep(0.05)
    return code if code >= 0 else 128 - code


def say_and_wait(line: str) -> int:
    """Say the line, and wait for SIGINT or SIGTERM, which may come as soon as it was read."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        log.note(line)
        threading.Event().wait()
    return 0


def main() -> int:
    """Open the shop from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cliper.demo.shop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port on 127.0.0.1 (default: {PORT})")
    parser.add_argument("command", nargs="*", help="command to run while the shop is open")
    options = parser.parse_args()
    log.start("shop")
    try:
        with serve(options.port) as server:
            line = f"{len(server.shop.items)} items on http://127.0.0.1:{server.server_address[1]}/shop"
            if not options.command:
                return say_and_wait(line)
            log.note(line)
            return run(options.command)
    except CliperError as error:
        log.fail(f"{type(error).__name__}: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
