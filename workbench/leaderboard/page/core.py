"""Converts a board into two JSON values: one for the page's first view, one that the page unpacks later."""

from typing import Any

from workbench.evaluation.records import ITEM_ALONE
from workbench.leaderboard.board import Board, Cell, Column, Model
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.page.packed_differences import packed_differences, packed_subjects
from workbench.leaderboard.page.plain import page_value, rounded
from workbench.shown import message

SCHEMA_VERSION = 1

LATER = ("contamination", "curves")
"""Long facts of a model, which the page unpacks only when a reader opens them."""

MOST_FOUND = 200
"""Largest number of contaminated items that the page lists per benchmark."""


def core(board: Board) -> dict[str, Any]:
    """Return the data of the page's first view: models, columns, scores, means, alarms, skipped files, ...

    In it, and in what `later` returns, models, columns and sources are numbers: their indices on the board.
    """
    models = {model.key: number for number, model in enumerate(board.models)}
    columns = {column.key: number for number, column in enumerate(board.columns)}
    sources = list(dict.fromkeys([*board.provenance, *(cell.source for cell in board.cells)]))
    places = {label: number for number, label in enumerate(sources)}
    return {
        "schema": SCHEMA_VERSION,
        "title": page_value(board.title),
        "reference": models.get(reference_key(board), 0),
        "family": page_value(vars(board.family) | {"reference": models.get(board.family.reference)}),
        "models": [_model(model, models) for model in board.models],
        "columns": [_column(column, board, models) for column in board.columns],
        "cells": [
            _cell(cell, models[cell.model], columns[cell.column], places[cell.source]) for cell in board.cells
        ],
        "means": [_mean(mean, models, columns) for mean in board.means],
        "sources": page_value(sources),
        "alarms": page_value(board.alarms),
        "has_decisions": bool(board.decisions),
        "skipped": [[page_value(file.path), page_value(file.reason)] for file in board.skipped],
    }


def later(board: Board) -> dict[str, Any]:
    """Return the data that the page unpacks after its first view: tests, details, long facts, provenance."""
    models = {model.key: number for number, model in enumerate(board.models)}
    columns = {column.key: number for number, column in enumerate(board.columns)}
    names = columns | {mean.name: len(columns) + number for number, mean in enumerate(board.means)}
    return {
        "differences": packed_differences(board.differences, models, names),
        "subjects": packed_subjects(board.subjects, models, columns),
        "details": [_details(cell) for cell in board.cells],
        "forgetting": [
            page_value(vars(loss) | {"model": models[loss.model], "parent": models[loss.parent]})
            | {"columns": [columns[key] for key in loss.columns]}
            for loss in board.forgetting
        ],
        "seeds": [
            page_value(vars(group) | {"against": models.get(group.against), "column": columns[group.column]})
            | {"models": [models[key] for key in group.models]}
            for group in board.seeds
        ],
        "decisions": [
            page_value(vars(decision))
            | {"first": models.get(decision.first), "second": models.get(decision.second)}
            for decision in board.decisions
        ],
        "curves": [page_value(model.facts.get("curves")) for model in board.models],
        "contamination": [page_value(_contamination(model)) for model in board.models],
        "provenance": page_value(board.provenance),
    }


def reference_key(board: Board) -> str:
    """Return the key of the family's reference, else of the first scored base, else of the first model.

    Empty if the board has no models.
    """
    bases = [model.key for model in board.models if model.role == "base" and not model.failure]
    return board.family.reference or next(iter([*bases, *(model.key for model in board.models)]), "")


def _model(model: Model, models: dict[str, int]) -> dict[str, Any]:
    facts = {name: value for name, value in model.facts.items() if name not in LATER}
    return page_value(  # type: ignore[no-any-return]
        {
            "key": model.key,
            "name": model.name,
            "role": model.role,
            "parent": models.get(model.parent or ""),
            "tool": model.tool,
            "facts": facts,
            "sources": model.sources,
            "recipe": model.recipe_key,
            "remarks": model.remarks,
            "failure": model.failure,
            "leaks": [name for name, found in _contamination(model).items() if found["num_found"]],
            "curves": bool(model.facts.get("curves")),
        }
    )


def _contamination(model: Model) -> dict[str, dict[str, Any]]:
    """Return benchmark -> its items found in a model's training rows (`found`: the first `MOST_FOUND`)."""
    known = model.facts.get("contamination")
    found: dict[str, dict[str, Any]] = {}
    for name, facts in known.items() if isinstance(known, dict) else ():
        if isinstance(facts, dict) and isinstance(facts.get("found"), list | tuple):
            found[name] = {**facts, "num_found": len(facts["found"]), "found": facts["found"][:MOST_FOUND]}
    return found


def _column(column: Column, board: Board, models: dict[str, int]) -> dict[str, Any]:
    outcomes = board.outcomes.get(column.key)
    rows = [models[key] for key in outcomes.models] if outcomes else []
    of_items = not any(cell.score.item_score for cell in board.cells if cell.column == column.key)
    return page_value(vars(column)) | {"rows": rows, "of_items": of_items}  # type: ignore[no-any-return]


def _cell(cell: Cell, model: int, column: int, source: int) -> list[Any]:
    """Return a score as a list: model, column, value, low, high, items, ranks, letters, source, apart."""
    score = cell.score
    low, high = score.interval or (None, None)
    short = [
        model,
        column,
        rounded(score.value),
        rounded(low) if low is not None else None,
        rounded(high) if high is not None else None,
        score.num_items,
        cell.best_rank,
        cell.worst_rank,
        page_value(cell.letters),
        source,
    ]
    return [*short, page_value(cell.apart)] if cell.apart else short


def _details(cell: Cell) -> dict[str, Any]:
    """Return a cell's further facts for the page (stderr, groups, other metrics, ...), without empty ones."""
    score = cell.score
    found = {
        "stderr": score.stderr,
        "confidence": score.confidence if score.confidence != 0.95 else None,
        "prompts": score.prompts,
        "letters": score.letters,
        "permutations": score.permutations if score.permutations > 1 else None,
        "dropped": score.num_shots_dropped,
        "too_long": [score.num_truncated, score.num_skipped]
        if score.num_truncated + score.num_skipped
        else None,
        "texts": score.texts,
        "num_samples": score.num_samples if score.num_samples > 1 else None,
        "item_score": _item_score(score.item_score),
        "note": score.note,
        "groups": {
            name: [facts.get("value"), facts.get("num_items")] for name, facts in score.groups.items()
        },
        "further": {
            name: [int(is_shown_as_share(further)), further.value, *(further.interval or ())]
            for name, further in cell.further.items()
        },
    }
    return page_value({name: value for name, value in found.items() if value})  # type: ignore[no-any-return]


def _item_score(meaning: str) -> str:
    """Return what an item's score means; translatable if it is the metric of the item alone, as for BLEU."""
    if not meaning.endswith(ITEM_ALONE):
        return meaning
    metric = meaning.removesuffix(ITEM_ALONE).strip()
    return message("{metric} of the item alone", metric=metric)


def _mean(mean: Any, models: dict[str, int], columns: dict[str, int]) -> dict[str, Any]:
    """Return a mean as JSON; a score is [model, raw, error, normalized, error, best rank, worst, letters]."""
    return {
        "name": page_value(mean.name),
        "columns": [columns[key] for key in mean.columns],
        "left_out": [[columns[key], page_value(why)] for key, why in mean.left_out.items() if key in columns],
        "scores": [
            [models[key], *page_value(tuple(vars(score).values()))] for key, score in mean.scores.items()
        ],
    }
