"""How to repeat the run, and how to cite it: the exact commands, the config, the versions.

The config stands on the page as a whole, in ASCII, so that what is copied is what was run. It needs no other file: it
is the `config.yaml` of a folder of its own.
"""

from __future__ import annotations

import base64
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from cliper import files, resources
from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.inputs import read_runs, read_weights
from cliper.report.pages.rendering import Section, Table
from cliper.report.pages.values import count

DEMO = "http://127.0.0.1:8378/shop"  # where cliper/demo/shop.py serves the demo's raw files
LOCKED = ("constraints.txt", "embedded.txt")
END = "END_OF_CONFIG"
VERSIONS = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy", "polars": "Polars"}
MACHINE = {"device": "Device", "cpu": "CPU", "blas": "Matrix library", "kernels": "Kernels"}


def section(job: decides.Page, at: At) -> Section:
    """Commands, config, versions, licences, citations."""
    config, runs = job.config, read_runs(job, at)
    version, text = metadata.version("cliper"), ascii_yaml(config)
    values = {
        "version": version,
        "is_portable": config["kernels"] == "portable",
        "commands": commands(job.name, version, served=DEMO in text),
        "by_hand": [
            "python3 -m venv .venv",
            ".venv/bin/pip install --constraint constraints.txt --editable '.[workflow]'",
            ".venv/bin/pip install --no-deps --require-hashes --requirement embedded.txt",
        ],
        "config": [f"cat > config.yaml <<'{END}'", *text.splitlines(), END],
        "download": "data:application/yaml;base64," + base64.b64encode(text.encode("ascii")).decode(),
        "made_with": made_with(runs),
        "codes": codes_table(runs, job.backbones),
        "locks": locks_table(lock_files(config["download"].get("lock"), Path(), resources.place("../.."))),
        "licences": licences_table(read_weights(job, at)),
        "paper": resources.read_text("paper/paper.bib").splitlines(),
        "software": software_bibtex(metadata.metadata("cliper").json).splitlines(),
    }
    return Section("repeat", "Repeat and cite", values)


def ascii_yaml(config: Mapping[str, Any]) -> str:
    r"""A config as YAML in which every character is seen, so that copying loses none.

    >>> ascii_yaml({"title": "a\u202eb"})
    'title: "a\\u202Eb"\n'
    """
    return str(yaml.safe_dump(dict(config), sort_keys=False))


def commands(name: str, version: str, *, served: bool) -> list[str]:
    """What to type, from the code to the page.

    served  whether the run reads the demo's shop, which must be served meanwhile
    """
    shop = ['"$CLONE"/.venv/bin/python -m cliper.demo.shop -- \\'] if served else []
    return [
        f"CLONE=/path/to/cliper   # the code, version {version}",
        'make -C "$CLONE" venv',
        f"mkdir {shlex.quote(name)} && cd {shlex.quote(name)}   # then save config.yaml here",
        *shop,
        '"$CLONE"/.venv/bin/snakemake paper -s "$CLONE"/Snakefile --cores all \\',
        '  --workflow-profile "$CLONE"/workflow/profiles/local',
    ]


def made_with(runs: Iterable[Mapping[str, Any]]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Each set of versions and machine that trained a run: number of runs, and its facts; the most frequent first."""
    found = Counter(tuple(_made_with(run)) for run in runs)
    return [(n, list(facts)) for facts, n in found.most_common()]


def _made_with(run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield from ((VERSIONS.get(name, name), version) for name, version in run["versions"].items())
    yield from ((words, str(run[name])) for name, words in MACHINE.items() if run.get(name))


def codes_table(runs: Iterable[Mapping[str, Any]], backbones: Mapping[str, str]) -> Table:
    """Ids of the code that trained each backbone."""
    found = Counter((run["backbone"], run["code"]) for run in runs)
    rows = [[backbones[name], code, count(n)] for (name, code), n in found.items()]
    note = "An id is a hash of all source code that decides the training; comments and layout do not count."
    return Table("Code that trained each backbone", ["Backbone", "Code id", "Runs"], rows, notes=[note])


def lock_files(lock: str | None, here: Path, code: Path) -> list[tuple[str, str]]:
    """Name and sha256 of each lock file that is found.

    lock  that of the raw files, by its name in the config; it lies here
    code  the folder of the code, which may have those of the packages if they are not here
    """
    found = {name: next((path for path in (here / name, code / name) if path.is_file()), None) for name in LOCKED}
    if lock and (here / lock).is_file():
        found[lock] = here / lock
    return [(name, files.sha256(path)) for name, path in found.items() if path is not None]


def locks_table(found: Sequence[tuple[str, str]]) -> Table:
    """Lock files as they were when the page was made."""
    return Table("Lock files when this page was made", ["File", "sha256"], [[*row] for row in found])


def licences_table(weights: Mapping[str, Mapping[str, Any]]) -> Table:
    """Where each encoder's weights come from, and their licences as far as they are recorded."""
    rows = []
    for name, noted in weights.items():
        licences, origins = noted.get("licences") or {}, noted.get("origin") or {}
        for part in licences or {noted["architecture"]: ""}:
            rows.append(
                [name, part, licences.get(part) or "not recorded", origins.get(part) or origins.get("source", "")]
            )
    heading, kept = ["Encoder", "Weights", "Licence", "Origin"], 4 if any(row[3] for row in rows) else 3
    return Table("Licences of the encoders' weights", heading[:kept], [row[:kept] for row in rows])


def software_bibtex(package: Mapping[str, Any]) -> str:
    """This software as BibTeX, from its package's metadata."""
    name, version = package["name"], package["version"]
    lines = {
        "title": f"{{{name}: {package['summary'].partition(':')[0]}}}",
        "author": "{{The cliper developers}}",
        "version": f"{{{version}}}",
        "note": "{Software, MIT licence}",
    }
    return "\n".join([f"@software{{{name},", *(f"  {key} = {value}," for key, value in lines.items()), "}"])
