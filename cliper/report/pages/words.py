"""Numbers and names as sentences and tables of the page have them."""

from __future__ import annotations

from cliper.config import decides
from cliper.report.tables import table2
from cliper.report.tables.printed import short_k

METRICS = {"recall": "Recall", "ndcg": "NDCG", "precision": "Precision", "map": "MAP"}


def signed(number: float | None, digits: int = 1) -> str:
    """A number with its sign.

    >>> signed(3.25), signed(-0.04), signed(None)
    ('+3.2', '−0.0', '–')
    """
    return "–" if number is None else f"{number:+.{digits}f}".replace("-", "−")


def change(percent: float | None, digits: int = 1) -> str:
    """A change with its sign.

    >>> change(-4.23), change(0.04)
    ('−4.2 %', '+0.0 %')
    """
    return f"{signed(percent, digits)} %"


def interval(low: float, high: float) -> str:
    """The interval of a change.

    >>> interval(-4.23, 0.04)
    '−4.2 % to +0.0 %'
    """
    return f"{change(low)} to {change(high)}"


def spread(values: list[float]) -> str:
    """From the smallest to the largest change.

    >>> spread([1.3, -4.2])
    '−4.2 % to +1.3 %'
    """
    return " to ".join(dict.fromkeys((change(min(values)), change(max(values)))))


def plural(name: str, n: int) -> str:
    """The name of one thing or of several.

    >>> plural("seed", 1), plural("seed", 0)
    ('seed', 'seeds')
    """
    return f"{name}{'s' * (n != 1)}"


def counted(n: int, name: str) -> str:
    """A number of things.

    >>> counted(1, "seed"), counted(1234, "seed")
    ('1 seed', '1,234 seeds')
    """
    return f"{n:,} {plural(name, n)}"


def lead(table: decides.Table2 | decides.Study) -> tuple[str, int]:
    """Metric and cutoff that the page leads with."""
    return table.shown.metrics[0], short_k(table.shown.cutoffs)


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


def arm_title(arm: str) -> str:
    """An arm as the page names it.

    >>> arm_title("cliper"), arm_title("vanilla"), arm_title("content_free")
    ('CLIPER', 'vanilla', 'no features')
    """
    return table2.arm_title(arm) or "no features"


def name_of_arm(job: decides.Page, arm: str) -> str:
    """The name of an arm, one for all its widths."""
    return arm_title(job.widened.get(arm, arm))
