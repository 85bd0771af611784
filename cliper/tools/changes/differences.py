"""How two sets of settings differ, in the words of the config.

In:   what `cliper.config.decides` says of a job, as plain mappings and lists
Out:  sentences: prompts.as_described.title.prompt: 'The title is ___.' → 'Title: ___.'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cliper.settings import shown

ABSENT = object()
LONG = 60  # characters of a value that is shown whole
OF_CELL = {
    "backbone": "backbones.{backbone}",
    "train": "train",
    "d": "arms.{arm}.d",
    "mask_valid": "evaluate.mask_valid",
    "kernels": "kernels",
}
OF_ENCODE = {
    "encoder": "encoders.{encoder}",
    "kernels": "kernels",
    "": "encode",
}
DERIVED = {  # settings that follow from those of other jobs, where the change is said
    ("encode-text", "slice_prefix"),
    *(("tabulate", key) for key in ("features", "widths", "stand_ins")),
    *(("explore", key) for key in ("arms", "encoders")),
    *(("report", key) for key in ("arms", "widened", "tables", "figures", "catalogues", "config")),
}
PLACES: Mapping[str, Mapping[str, str]] = {  # stage -> first key of what decides it -> where that is in the config
    "catalogue": {"": "datasets.{dataset}"},
    "crawl": {"crawl": "crawl", "image_folder": "datasets.{dataset}.image_folder"},
    "prompt": {"views": "prompts.{prompts}"},
    "weights": {"encoder": "encoders.{encoder}"},
    "encode-text": OF_ENCODE,
    "encode-image": OF_ENCODE,
    "encode-default-image": OF_ENCODE,
    "fuse": {"features": "arms.{arm}"},
    "neighbours-items": {
        "n_neighbours": "neighbours.items",
        "behaviour": "train.behaviour",
        "threads": "train.threads",
        "kernels": "kernels",
    },
    "neighbours-users": {"n_neighbours": "neighbours.users"},
    "train": OF_CELL,
    "trial": OF_CELL,
    "evaluate": {"": "evaluate"},
    "compare": {"metrics": "tabulate.metrics", "cutoffs": "tabulate.cutoffs", "resamples": "compare.resamples"},
    "hindsight": {"mask_valid": "evaluate.mask_valid"},
    "tabulate": {"shown": "tabulate", "mask_valid": "evaluate.mask_valid"},
    "plot": {"shown": "tabulate", "mask_valid": "evaluate.mask_valid"},
    "explore": {"explore": "explore", "mask_valid": "evaluate.mask_valid"},
}


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All values of nested mappings, with their keys; a list is one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*at, str(key)))
    else:
        yield at, value


def differences(old: Any, new: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Keys under which two values differ, with both values; ABSENT where one has no such key.

    >>> list(differences({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}}))
    [(('a', 'b'), 1, 2)]
    """
    before, after = dict(leaves(old)), dict(leaves(new))
    for key in dict.fromkeys((*before, *after)):
        pair = before.get(key, ABSENT), after.get(key, ABSENT)
        if repr(pair[0]) != repr(pair[1]):
            yield key, *pair


def place(stage: str, names: Mapping[str, Any], key: tuple[str, ...]) -> str | None:
    """Where a value that decides a job stands in the config; None where that is not one place.

    >>> place("train", {"backbone": "freedom", "arm": "cliper"}, ("backbone", "k"))
    'backbones.freedom.k'
    """
    if (stage, key[0]) in DERIVED:
        return None
    if stage == "trial" and key[0] == "cell":
        key = key[1:]
    places = PLACES.get(stage, {})
    if key[0] in places:
        return ".".join((places[key[0]].format(**names), *key[1:]))
    return ".".join((places[""].format(**names), *key)) if "" in places else None


def word(stage: str, names: Mapping[str, Any], old: Any, new: Any, *, derived: bool = False) -> list[str]:
    """Sentences on how the settings of a job have changed.

    derived  also on those that follow from other jobs' settings
    """
    changed = list(differences(old, new))
    if not changed and repr(old) != repr(new):
        return [f"{stage}: the order of its settings"]
    return [
        f"{place(stage, names, key) or f'{stage}: ' + '.'.join(key)}: {_change(before, after)}"
        for key, before, after in changed
        if derived or (stage, key[0]) not in DERIVED
    ]


def brief(value: Any) -> str:
    """A value, or the number of its parts if it is long."""
    if value is ABSENT:
        return "absent"
    if isinstance(value, list) and len(repr(value)) > LONG:
        return f"{len(value)} entries"
    return "null" if value is None else shown(value)


def _change(old: Any, new: Any) -> str:
    r"""Both values; of long texts their first lines that differ, of long lists the number of entries that do.

    >>> _change([[n, n] for n in range(20)], [[n, n] for n in range(21)])
    '20 entries → 21 entries; 0 left, 1 came'
    >>> _change("a\nb", "b\na")
    'its lines stand in another order, or more or less often'
    """
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        before, after = old.splitlines(), new.splitlines()
        left, came = ([line for line in a if line not in set(b)] for a, b in ((before, after), (after, before)))
        if not left and not came:
            return "its lines stand in another order, or more or less often"
        return f"{brief(''.join(left[:1]).strip())} → {brief(''.join(came[:1]).strip())}"
    text = f"{brief(old)} → {brief(new)}"
    if isinstance(old, list) and isinstance(new, list) and "entries" in text:
        n_left, n_came = sum(each not in new for each in old), sum(each not in old for each in new)
        return f"{text}; {n_left} left, {n_came} came"
    return text
