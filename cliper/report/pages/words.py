"""Numbers and names as sentences and tables of the page have them."""

from __future__ import annotations

from cliper.config import CONTENT_FREE, decides
from cliper.report.tables.table2 import arm_title

METRICS = {"recall": "Recall", "ndcg": "NDCG", "precision": "Precision", "map": "MAP"}


def change(percent: float, digits: int = 1) -> str:
    """A change with its sign.

    >>> change(-4.23), change(0.04)
    ('−4.2 %', '+0.0 %')
    """
    return f"{percent:+.{digits}f} %".replace("-", "−")


def spread(values: list[float]) -> str:
    """From the smallest to the largest change.

    >>> spread([1.3, -4.2])
    '−4.2 % to +1.3 %'
    """
    return " to ".join(dict.fromkeys((change(min(values)), change(max(values)))))


def count(n: int, name: str) -> str:
    """A number of things.

    >>> count(1, "seed"), count(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{n} {name}{'s' * (n != 1)}"


def metric_name(metric: str, k: int) -> str:
    """A metric in full."""
    return f"{METRICS[metric]}@{k}"


def mean_text(mean: float | None, sd: float | None) -> str:
    """A mean and its standard deviation over seeds, in percent.

    >>> mean_text(42.857, 0.56), mean_text(None, None)
    ('42.86 ± 0.56', 'not run')
    """
    if mean is None:
        return "not run"
    return f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def name_of_arm(page: decides.Page, arm: str) -> str:
    """The name of an arm, one for all its widths."""
    return "no features" if arm == CONTENT_FREE else arm_title(page.widened[arm])
