"""The processes that examine images, and images that are made to stall or kill them."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import toy
from PIL import Image

from cliper.collect.images import examiners
from cliper.collect.images.examiners import Examiners
from cliper.collect.images.pictures import MAX_SCANS, count_scans
from cliper.errors import DataError

sys.path.append(str(toy.REPOSITORY))  # benchmarks are not installed

from benchmarks.badserver import JPEG, chunks, picture, scans

LIMITS = {"max_pixels": 40_000_000, "min_side_px": 8}


def statuses(*bodies: bytes | None) -> list[str | None]:
    with Examiners(**LIMITS) as opened:
        return [verdict and verdict.status for verdict in opened.submit(bodies).result()]


def test_an_image_that_takes_too_much_time_is_undecodable_and_those_around_it_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examiners, "MAX_CPU_S", 0)  # so it ends within a second
    assert statuses(JPEG, chunks(800_000), None, b"<html>", JPEG) == [
        "ok",
        "undecodable",
        None,
        "not_an_image",
        "ok",
    ]


def test_only_what_one_image_takes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiners, "MAX_CPU_S", 1)
    slow = chunks(30_000)  # 0.1 s
    assert statuses(*[slow] * 30) == ["ok"] * 30


def test_images_made_to_stall_are_examined_or_refused_in_little_time() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png, gif = picture("PNG"), picture("GIF", mode="L")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    profile = chunk(b"iCCP", b"Profile\0\0" + zlib.compress(bytes(50_000_000)))
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"
    frame = gif.index(b"\x2c\0\0\0\0")
    frames = [Image.new("L", (40, 30), level % 256) for level in range(2_000)]
    images = {
        scans(10_000, side=2_000): "undecodable",  # 20 s
        png[:33] + text + png[33:]: "truncated",
        png[:33] + text[:-4] * 500 + png[33:]: "truncated",
        png[:33] + profile + png[33:]: "truncated",
        gif[:frame] + comment + gif[frame:]: "ok",
        picture("GIF", mode="L", save_all=True, append_images=frames): "ok",
        picture("WEBP", save_all=True, append_images=frames): "ok",
    }
    began = time.monotonic()
    assert statuses(*images) == list(images.values())
    assert time.monotonic() - began < 15


def test_scans_are_counted_in_the_picture_alone() -> None:
    n_own = count_scans(scans(0))
    assert n_own == scans(0).count(b"\xff\xda") > 1
    assert count_scans(scans(500)) == n_own + 500
    many = b"\xff\xda" * (MAX_SCANS + 1)
    exif = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(many) + 2) + many + JPEG[2:]
    for sound in (exif, JPEG + many, JPEG[:2] + b"\xff" * 9 + JPEG[2:] + many):
        assert count_scans(sound) == 1
        assert statuses(sound) == ["ok"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_what_looks_like_scans_elsewhere_is_none(kind: str) -> None:
    assert statuses(picture(kind) + b"\xff\xda" * (MAX_SCANS + 1)) == ["ok"]


def die_by(number: int) -> None:
    os.kill(os.getpid(), number)


def crash(*_: Any, **__: Any) -> None:
    """Stands for `serve`, as a decoder with a fault in its C."""
    die_by(signal.SIGSEGV)


def be_killed(*_: Any, **__: Any) -> None:
    """Stands for `serve`, when memory runs out."""
    die_by(signal.SIGKILL)


def stall(*_: Any, **__: Any) -> None:
    """Stands for `serve`: busy for ever, deaf to polite signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path("stalled").write_text(str(os.getpid()), encoding="utf-8")
    while True:
        pass


def test_an_image_that_crashes_its_process_is_undecodable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiners, "serve", crash)
    assert statuses(JPEG) == ["undecodable"]


def test_a_process_that_is_killed_says_nothing_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiners, "serve", be_killed)
    with pytest.raises(DataError, match="process that examines images was killed"):
        statuses(JPEG, JPEG)


def wait_for_stalled() -> int:
    """Process id of `stall`, once it is at work."""
    while not (path := Path("stalled")).exists() or not path.read_text(encoding="utf-8"):
        time.sleep(0.01)
    return int(path.read_text(encoding="utf-8"))


def test_leaving_ends_all_processes_at_once(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiners, "serve", stall)
    with Examiners(**LIMITS) as opened:
        coming = [opened.submit([JPEG]) for _ in range(9)]
        process = wait_for_stalled()
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert all(each.done() for each in coming)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_ctrl_c_reaches_no_process_that_examines(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiners, "serve", stall)
    with Examiners(**LIMITS) as opened:
        opened.submit([JPEG])
        assert os.getpgid(wait_for_stalled()) != os.getpgid(0)


def test_a_process_ends_with_its_parent(workdir: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from cliper.collect.images.examiners import Examiners
opened = Examiners(**{LIMITS})
opened.submit([b""]).result()
(process,) = opened._running
Path("child").write_text(str(process._process.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(toy.REPOSITORY)})
    child, tries = int(Path("child").read_text(encoding="utf-8")), 500
    while is_alive(child) and (tries := tries - 1):
        time.sleep(0.02)
    assert not is_alive(child)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # in a container nobody may collect it
