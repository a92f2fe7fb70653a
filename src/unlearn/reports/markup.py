"""Tables in Markdown and LaTeX, in which every text comes out as it is, whatever characters it holds."""

import re
from typing import Literal

import pandas as pd
from tabulate import tabulate

MARKDOWN = re.compile(r"[\\`*_{}\[\]<#$&|~^]")
LATEX = {"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "—": "---"}
# A row that begins so would be an argument of the line break before it.
ARGUMENT = re.compile(r"^( *)([\[*])", re.MULTILINE)


def escape(text: str) -> str:
    """A text as one line of Markdown.

    >>> print(escape("A|B_1 $x$"))
    A\\|B\\_1 \\$x\\$
    """
    return MARKDOWN.sub(r"\\\g<0>", _line(text))


def markdown(frame: pd.DataFrame, texts: int) -> str:
    """The frame without its index; the first ``texts`` columns stand left, the others right."""
    escaped = frame.rename(columns=escape).map(lambda value: escape(str(value)))
    return _table(escaped, texts, "pipe")


def latex(frame: pd.DataFrame, texts: int) -> str:
    """As ``markdown``; the rules are those of LaTeX's package booktabs."""
    table = _table(frame.map(lambda value: _line(str(value))), texts, "latex_booktabs")
    return ARGUMENT.sub(r"\1{\2}", table).translate(str.maketrans(LATEX))


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(frame: pd.DataFrame, texts: int, form: Literal["pipe", "latex_booktabs"]) -> str:
    align = ["left"] * texts + ["right"] * (len(frame.columns) - texts)
    return tabulate(frame, list(frame), tablefmt=form, showindex=False, disable_numparse=True, colalign=align) + "\n"
