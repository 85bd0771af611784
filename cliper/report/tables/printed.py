"""How one number of Table 2 or of a study is printed, and what its signs mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cliper.report.tables.grid import Entry

METRIC_TITLES = {"recall": "R", "ndcg": "N", "precision": "P", "map": "MAP"}
SHORT_K = 20  # cutoff where there is room for one, if the run has it
ESTABLISHED = (
    "† established: Holm-corrected p < 0.05 over the table, and the 95 % interval of the difference lies beyond what "
    "seeds and splits alone move."
)


def entry(row: Mapping[str, Any], place: int) -> Entry:
    """Mean, standard deviation, gain over the base, and the sign of an established difference.

    >>> str(entry({"mean": 10.26, "sd": 0.1, "gain": 3.427, "established": True}, 0))
    '10.26 ± 0.10 (↑ 3.43%)†'
    """
    if row["mean"] is None:
        return Entry("not run")
    spread = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
    return Entry(f"{row['mean']:.2f}", spread + gain_text(row["gain"]) + "†" * bool(row["established"]), place)


def gain_text(gain: float | None) -> str:
    """A relative gain in percent, as the paper prints it.

    >>> gain_text(3.427)
    ' (↑ 3.43%)'
    """
    return "" if gain is None else f" ({'↑' if gain >= 0 else '↓'} {abs(gain):.2f}%)"


def metric_title(metric: str, k: int | str) -> str:
    """A metric as the paper abbreviates it.

    >>> metric_title("ndcg", 20)
    'N@20'
    """
    return f"{METRIC_TITLES[metric]}@{k}"


def short_k(cutoffs: tuple[int, ...]) -> int:
    """The cutoff where there is room for one."""
    return min(cutoffs, key=lambda cutoff: abs(cutoff - SHORT_K))


def seeds_note(n_seeds: int) -> str:
    """What the numbers are means of."""
    spread = f"mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    return f"Percent on the test split; {spread}."
