"""Names the rows of a board: a given name, or what tells a model from the others."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from workbench.config.names import BASE
from workbench.leaderboard.board import Model
from workbench.leaderboard.rows.roles import IMPORTED
from workbench.shown import clean

GENERIC = {"base", "model", "merged", "adapter", "extended", "export", "final", "checkpoint", "output"}
"""Folder names that say nothing without the folder around them."""

SEPARATOR = " · "
FACTS = ("quantization", "dtype", "role", "method", "rank", "learning_rate", "seed", "trained_on", "recipe")
"""What may stand behind the model's folder, in this order."""

SHORT = {"rank": "rank {}", "learning_rate": "rate {}", "seed": "seed {}", "trained_on": "on {}"}


def named(models: Sequence[Model]) -> list[Model]:
    """Return the models with unique names; a name that is given is kept as far as it is unique."""
    texts = [_texts(model) for model in models]
    scored = [index for index, model in enumerate(models) if not model.failure]
    own = [models[index] for index in scored], [texts[index] for index in scored]
    telling = [fact for fact in FACTS if _tells(fact, *own)]
    names = [model.name or _name(text, telling) for model, text in zip(models, texts, strict=True)]
    return [replace(model, name=name) for model, name in zip(models, _unique(models, names), strict=True)]


def _texts(model: Model) -> Mapping[str, str]:
    """Return each known fact as it would stand in a name."""
    role = {BASE: "", IMPORTED: model.tool}.get(model.role, model.role)
    facts: dict[str, Any] = {**model.facts, "role": role}
    if facts.get("quantization") == "none":
        del facts["quantization"]
    texts = {fact: SHORT.get(fact, "{}").format(_shown(facts[fact])) for fact in FACTS if facts.get(fact)}
    if model.role == BASE:
        texts = {fact: text for fact, text in texts.items() if fact in ("quantization", "dtype")}
    return {"path": folder(str(model.facts.get("path") or "new model")), **texts}


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if "/" in text:
        text = PurePath(text.rstrip("}")).name
    return " ".join(clean(text).split())


def folder(path: str) -> str:
    """Return the name of a model from its path or hub id, with the folder around it if it says nothing."""
    path = re.sub(r"^\$\{(\w+):(.*)\}$", r"\1/\2", path)
    *before, last = [part for part in re.split(r"[/\\]", path) if part] or ["model"]
    last = re.sub(r"\.gguf$", "", last)
    text = f"{before[-1]}/{last}" if before and last in GENERIC else last
    return " ".join(clean(text).split())


def _tells(fact: str, models: Sequence[Model], texts: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a fact differs between rows of the same kind: bases, or trained models.

    Other tools don't tell how a model was trained, which is no difference.
    """
    if fact in ("quantization", "dtype", "role"):
        return len({text.get(fact, "") for text in texts}) > 1
    trained = [(model, text) for model, text in zip(models, texts, strict=True) if model.role != BASE]
    return len({text.get(fact, "") for model, text in trained if model.role != IMPORTED or fact in text}) > 1


def _name(text: Mapping[str, str], telling: Sequence[str]) -> str:
    return SEPARATOR.join([text["path"], *(text[fact] for fact in telling if fact in text)])


def _unique(models: Sequence[Model], names: Sequence[str]) -> list[str]:
    """Return the names, those that several models have with the run, and if need be the key, behind them."""
    for further in ([model.sources[0] for model in models], [model.key[:6] for model in models]):
        counts = Counter(names)
        names = [
            f"{name}{SEPARATOR}{' '.join(clean(text).split())}" if counts[name] > 1 else name
            for name, text in zip(names, further, strict=True)
        ]
    return list(names)
