"""Warns of names of rows that differ only in letters of other alphabets, which look like Latin ones."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from workbench.leaderboard.board import Model
from workbench.shown import message

LATIN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһӏԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορ",
    "ABESIJKMHOPCTYXaesijopcyxhldqwABEZHIKMNOPTYXaivop",
)
"""Cyrillic or Greek letter -> the Latin one that it looks like. Source: Unicode UTS 39, confusables.txt."""


def looks(text: str) -> str:
    """Return a text with look-alike and wide letters as Latin ones, and without invisible characters."""
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", visible).translate(LATIN)


def with_warnings(models: Sequence[Model]) -> list[Model]:
    """Return the models, with a remark on each whose name looks like another's but has other letters.

    The remark names the letters that look like Latin ones; a model without such letters gets none.
    """
    names: dict[str, set[str]] = {}
    for model in models:
        names.setdefault(looks(model.name), set()).add(model.name)
    return [_warned(model) if len(names[looks(model.name)]) > 1 else model for model in models]


def _warned(model: Model) -> Model:
    odd = dict.fromkeys(letter for letter in model.name if looks(letter) != letter)
    if not odd:
        return model
    letters = ", ".join(f"{letter} U+{ord(letter):04X}" for letter in odd)
    remark = message("its name looks like that of another row, but has {letters}", letters=letters)
    return replace(model, remarks=(*model.remarks, remark))
