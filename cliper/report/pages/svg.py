"""A figure of matplotlib's as a part of the page.

The page gets shapes and nothing else: elements, attributes and styles that are not in the lists below are left out,
with all that is in them. Ids are new and led by the figure's name, since figures share those of glyphs. The white
ground is left out too, so that the page's own is seen.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from cliper import files
from cliper.errors import DataError
from cliper.media import picture

SPACE = "{http://www.w3.org/2000/svg}"
SHAPES = {SPACE + name for name in ("g", "defs", "clipPath", "path", "rect", "use")}
HREF = ("{http://www.w3.org/1999/xlink}href", "href")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
PLACES = 2  # decimals of coordinates, in points: a page of 7 inches is 504 wide
ATTRIBUTES = {
    "d": re.compile(rf"(?:[MLHVCSQTAZ]|{NUMBER}|[\s,])*", re.IGNORECASE),
    "transform": re.compile(rf"(?:(?:translate|scale|rotate|matrix)\((?:{NUMBER}|[\s,])*\)\s*)*", re.IGNORECASE),
    **dict.fromkeys(("x", "y", "width", "height"), re.compile(NUMBER, re.IGNORECASE)),
}
ROUNDED = ("d", "x", "y", "width", "height")  # a transform scales glyphs by small numbers
STYLES = re.compile(
    r"\s*(fill|stroke|opacity|(?:fill|stroke)-opacity|stroke-(?:width|linecap|linejoin|dasharray|dashoffset|miterlimit)|"
    r"(?:fill|clip)-rule)\s*:\s*([#\w\s.,%-]+?)\s*"
)
REFERENCE = re.compile(r"(?:url\()?#([\w.-]+)\)?")
ALL = {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # the only rule of matplotlib's style sheet
GROUND = {"d", "fill"}  # attributes of a white shape without a stroke
DEEPEST = 50  # elements within each other; matplotlib has 10


class Drawing(NamedTuple):
    """A figure for the page.

    width  points
    """

    markup: Markup
    width: float


def read_drawing(path: Path, name: str, *, label: str) -> Drawing:
    """Read a figure that `plot` wrote.

    name   of the figure, which leads its ids
    label  what it shows, for readers who do not see it

    Raises DataError if the file is missing or no drawing.
    """
    again = f"Run: python -m cliper plot --figure {name}"
    try:
        return _drawing(path.read_text(encoding="utf-8"), name, label)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {again}") from None
    except (ValueError, ET.ParseError) as error:
        raise DataError(f"{path} is no drawing ({files.first_line(error)}). {again}") from None


def _drawing(text: str, name: str, label: str) -> Drawing:
    if "<!ENTITY" in text:
        raise ValueError("it declares entities")
    root = ET.fromstring(text)  # noqa: S314 - entities are refused above, and expat fetches nothing
    box = root.get("viewBox", "").split()
    if root.tag != f"{SPACE}svg" or len(box) != 4 or not all(re.fullmatch(NUMBER, number) for number in box):
        raise ValueError("it is no <svg> with a viewBox")
    used = {target for element in root.iter() for _, target in _references(element)}
    ids = {found: f"svg-{name}-{number}" for number, found in enumerate(sorted(used))}
    width = float(box[2])
    drawn = ET.Element("svg", {"viewBox": " ".join(box), "style": f"--width: {width:g}", **ALL})
    drawn.attrib |= {"role": "img", "aria-label": picture(label)}
    drawn.extend(list(_kept(root, ids, DEEPEST)))
    if drawn.find(".//path") is None:
        raise ValueError("nothing is drawn")
    return Drawing(Markup(ET.tostring(drawn, encoding="unicode")), width)  # noqa: S704 - escaped, and only what is allowed


def _references(element: ET.Element) -> Iterator[tuple[str, str]]:
    """Attributes that name an id of the same file, and the id."""
    for name in (*HREF, "clip-path"):
        if found := REFERENCE.fullmatch(element.get(name, "")):
            yield name, found[1]


def _kept(parent: ET.Element, ids: dict[str, str], depth: int) -> Iterator[ET.Element]:
    """What the page gets of an element's children; groups that say nothing are dissolved."""
    if not depth:
        raise ValueError(f"more than {DEEPEST} levels")
    for element in parent:
        if element.tag not in SHAPES:
            continue
        own = _attributes(element, ids)
        inner = list(_kept(element, ids, depth - 1))
        tag = element.tag.removeprefix(SPACE)
        if tag == "g" and not own:
            yield from inner
        elif (tag in ("g", "defs") and not inner) or (own.keys() == GROUND and own["fill"] == "#ffffff"):
            continue
        else:
            kept = ET.Element(tag, own)
            kept.extend(inner)
            yield kept


def _attributes(element: ET.Element, ids: dict[str, str]) -> dict[str, str]:
    own = {}
    for name, form in ATTRIBUTES.items():
        if (value := element.get(name)) is not None and form.fullmatch(value):
            own[name] = _short(value) if name in ROUNDED else value
    for declaration in element.get("style", "").split(";"):
        if found := STYLES.fullmatch(declaration):
            own[found[1]] = found[2]
    if (found_id := element.get("id")) in ids:
        own["id"] = ids[found_id]
    for name, target in _references(element):
        own["href" if name in HREF else name] = f"#{ids[target]}" if name in HREF else f"url(#{ids[target]})"
    return own


def _short(coordinates: str) -> str:
    """Coordinates rounded, without blanks that separate nothing.

    >>> _short("M 68.300703 97.0004 \\nL -0.001 1e-7 z")
    'M68.3 97L0 0z'
    """
    rounded = re.sub(NUMBER, lambda number: f"{round(float(number[0]), PLACES) + 0.0:.12g}", coordinates, flags=re.I)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(rounded.split()))
