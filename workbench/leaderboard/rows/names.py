"""Names the rows of the leaderboard: by the user's name, or by the facts that tell a model from others."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from workbench.config.model import Task
from workbench.config.names import BASE
from workbench.leaderboard.board import Model
from workbench.leaderboard.rows.roles import IMPORTED
from workbench.shown import clean

GENERIC = {"base", "model", "merged", "adapter", "extended", "export", "final", "checkpoint", "output"}
"""Folder names that need the name of their parent folder to say which model it is."""

SEPARATOR = " · "
UNTRAINED_FACTS = ("task", "quantization", "dtype")
"""Facts that may follow the folder name of a model that isn't trained, in this order."""
FACTS = (*UNTRAINED_FACTS, "role", "method", "rank", "learning_rate", "seed", "trained_on", "recipe")
"""Facts that may follow the folder name in a row's name, in this order."""

SHORT = {"rank": "rank {}", "learning_rate": "rate {}", "seed": "seed {}", "trained_on": "on {}"}


def with_names(models: Sequence[Model]) -> list[Model]:
    """Return copies of the models with unique names: the user's, or the folder and the telling facts.

    A fact of `FACTS` is telling if it differs between models. A name that several models share is followed by
    the label of the model's run, and if that isn't enough by the model's key.
    """
    texts = [_texts(model) for model in models]
    scored = [index for index, model in enumerate(models) if not model.failure]
    own = [models[index] for index in scored], [texts[index] for index in scored]
    telling = [fact for fact in FACTS if _tells(fact, *own)]
    names = [model.name or _name(text, telling) for model, text in zip(models, texts, strict=True)]
    return [replace(model, name=name) for model, name in zip(models, _unique(models, names), strict=True)]


def _texts(model: Model) -> Mapping[str, str]:
    """Return fact -> text in a name, such as `rank 8`; for a model that isn't trained, only a few facts."""
    role = {BASE: "", IMPORTED: model.tool}.get(model.role, model.role)
    facts: dict[str, Any] = {**model.facts, "role": role}
    if facts.get("quantization") == "none":
        del facts["quantization"]
    facts["task"] = "classifier" if facts.get("task") == Task.sequence_classification.value else ""
    texts = {fact: SHORT.get(fact, "{}").format(_shown(facts[fact])) for fact in FACTS if facts.get(fact)}
    if model.role == BASE:
        texts = {fact: text for fact, text in texts.items() if fact in UNTRAINED_FACTS}
    return {"path": folder(str(model.facts.get("path") or "new model")), **texts}


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if "/" in text:
        text = PurePath(text.rstrip("}")).name
    return " ".join(clean(text).split())


def folder(path: str) -> str:
    """Return a model's name from its path or Hub id: the last component, without `.gguf`.

    A generic component (`GENERIC`) is preceded by its parent folder, as in `run/merged`.
    """
    path = re.sub(r"^\$\{(\w+):(.*)\}$", r"\1/\2", path)
    *before, last = [part for part in re.split(r"[/\\]", path) if part] or ["model"]
    last = re.sub(r"\.gguf$", "", last)
    text = f"{before[-1]}/{last}" if before and last in GENERIC else last
    return " ".join(clean(text).split())


def _tells(fact: str, models: Sequence[Model], texts: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a fact differs between rows, so that it belongs in their names.

    Facts of training are compared without the bases, and without rows of other tools that lack the fact.
    """
    if fact in (*UNTRAINED_FACTS, "role"):
        return len({text.get(fact, "") for text in texts}) > 1
    trained = [(model, text) for model, text in zip(models, texts, strict=True) if model.role != BASE]
    return len({text.get(fact, "") for model, text in trained if model.role != IMPORTED or fact in text}) > 1


def _name(text: Mapping[str, str], telling: Sequence[str]) -> str:
    return SEPARATOR.join([text["path"], *(text[fact] for fact in telling if fact in text)])


def _unique(models: Sequence[Model], names: Sequence[str]) -> list[str]:
    """Append the run's label to names that several models share; to those still shared, the row's key."""
    for further in ([model.sources[0] for model in models], [model.key[:6] for model in models]):
        counts = Counter(names)
        names = [
            f"{name}{SEPARATOR}{' '.join(clean(text).split())}" if counts[name] > 1 else name
            for name, text in zip(names, further, strict=True)
        ]
    return list(names)
