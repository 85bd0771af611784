"""robots.txt, as RFC 9309 says: which paths of a host our agent may ask for. `Crawl-delay` is no part of it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

MAX_CHARACTERS = 500 * 1024  # RFC 9309, section 2.5: what a crawler must at least read
KEPT = "%/:?@!$&'()*+,;=~"  # in paths and queries: RFC 3986, section 3.3, and escapes as they stand


class Rule(NamedTuple):
    """One line of a group."""

    pattern: str  # escaped as targets are
    is_allowed: bool


def parse(text: str, *, agent: str) -> list[Rule]:
    """Rules for an agent (in small letters): those of the groups that name it, else of the groups for `*`.

    >>> parse("User-agent: *\\nDisallow: /\\nUser-Agent: Cliper\\nUser-agent: b\\nDisallow: /x # no", agent="cliper")
    [Rule(pattern='/x', is_allowed=False)]
    """
    groups: dict[str, list[Rule]] = {}
    names: list[str] = []
    is_open = False  # further names join the group until its first rule
    for line in text[:MAX_CHARACTERS].splitlines():
        key, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        if key.lower() == "user-agent":
            names = [*names, value.lower()] if is_open else [value.lower()]
            is_open = True
            groups.setdefault(value.lower(), [])
        elif key.lower() in ("allow", "disallow"):
            is_open = False
            for name in names if value else []:
                groups[name].append(Rule(quote(value, safe=KEPT), key.lower() == "allow"))
    return groups.get(agent, groups.get("*", []))


def is_allowed(rules: list[Rule], target: str) -> bool:
    """Whether a path with its query may be asked for: the longest pattern that fits decides, `Allow` at a tie.

    >>> is_allowed([Rule("/", False), Rule("/*.jpg$", True)], "/a.jpg"), is_allowed([], "/a.jpg")
    (True, True)
    """
    fitting = [(len(rule.pattern), rule.is_allowed) for rule in rules if _fits(rule.pattern, target)]
    return max(fitting, default=(0, True))[1]


def _fits(pattern: str, target: str) -> bool:
    """Whether a pattern fits: * stands for anything, $ for the end. By no regular expression: rules come by thousands.

    >>> _fits("/*/b", "/a/b/c"), _fits("/*/b$", "/a/b/b"), _fits("/a$", "/ab"), _fits("/a*a$", "/a")
    (True, True, False, False)
    """
    *parts, last = pattern.removesuffix("$").split("*")
    if not parts:
        return target == last if pattern.endswith("$") else target.startswith(last)
    if not target.startswith(parts[0]):
        return False
    at = len(parts[0])
    for part in parts[1:]:
        if (found := target.find(part, at)) < 0:
            return False
        at = found + len(part)
    return target.endswith(last, at) if pattern.endswith("$") else last in target[at:]
