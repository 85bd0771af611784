r"""Text from data, safe in what it is shown in: a function a medium. What a shop wrote is shown, never obeyed.

>>> title = "50%\x1b[31m | a\nb"
>>> print(terminal(title), markdown(title), latex(title), html(title), sep="; ")
50%\x1b[31m | a\nb; 50%\\x1b\[31m \| a b; 50\%\textbackslash{}x1b{[}31m \textbar{} a b; 50%\x1b[31m | a b
"""

from __future__ import annotations

import re
from typing import Any

# controls (C0, DEL, C1), line separators, marks that turn the direction of writing, halves of characters
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
MARKDOWN = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is only that
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "τ": r"$\tau$",
        "†": r"$^{\dagger}$",
        **{mark: f"\\{mark}" for mark in "{}$&#%_"},
        **{mark: f"{{{mark}}}" for mark in "[]*"},  # after \\ and \midrule they would be arguments
    }
)


def terminal(text: str) -> str:
    """One line that moves no cursor: what is not seen is written as in Python."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def line(text: str) -> str:
    """One line of plain text, as a page's script writes it."""
    return terminal(BREAKS.sub(" ", text))


def markdown(text: str) -> str:
    """A cell of a table, or a sentence."""
    return MARKDOWN.sub(r"\\\g<0>", line(text))


def latex(text: str) -> str:
    """A cell of a tabular, or a comment."""
    return line(text).translate(LATEX)


def picture(text: str) -> str:
    """Text of a figure; `canvas` lets no dollar begin a formula."""
    return line(text)


def html(value: Any) -> Any:
    """What stands between tags or in quotes, as Jinja's `finalize`: markup of the page itself stays as it is."""
    from markupsafe import Markup, escape

    return value if isinstance(value, Markup) else escape(line(str(value)))
