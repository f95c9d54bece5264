"""Builds the board: rows, columns, cells, and the differences that its one family tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.board import Board, Cell, Difference, Family, Model
from workbench.leaderboard.collect import Collection, Run
from workbench.leaderboard.comparisons import family as families
from workbench.leaderboard.comparisons.ranking import ranks
from workbench.leaderboard.items.columns import find_columns
from workbench.leaderboard.items.outcomes import Answered, read_column
from workbench.leaderboard.rows.models import find_models
from workbench.statistics.family import ERROR_RATES

TITLE = "Leaderboard"


def build(collection: Collection, config: LeaderboardConfig) -> Board:
    """Return the board of all runs that were found.

    Raises:
        ConfigError: `leaderboard.reference` or `leaderboard.names` names no row.
    """
    models = find_models(collection.runs)
    names = {model.key: model.name for model in models.rows}
    answered = [read_column(column, names) for column in find_columns(collection.runs, models.keys)]
    plan = families.plan(models.rows, config)
    count = sum(families.testable(column, pair) for column in answered for pair in plan.pairs)
    family = Family(
        kind=plan.kind,
        reference=plan.reference,
        num_comparisons=count,
        alpha=ERROR_RATES["pairs"],
    )
    differences = [families.of_column(column, plan.pairs, family) for column in answered]
    outcomes = [found for column in answered if (found := column.outcomes()) is not None]
    return Board(
        title=TITLE,
        models=tuple(_with_agreement(model, answered) for model in models.rows),
        columns=tuple(column.column for column in answered),
        cells=tuple(
            cell
            for column, tested in zip(answered, differences, strict=True)
            for cell in ranked(column, tested, plan.reference)
        ),
        outcomes={found.column: found for found in outcomes},
        family=family,
        differences=tuple(difference for tested in differences for difference in tested),
        means=(),
        subjects=(),
        forgetting=(),
        seeds=(),
        alarms=tuple(alarm for column in answered for alarm in column.alarms),
        skipped=tuple(collection.skipped),
        provenance={run.label: provenance(run) for run in collection.runs},
    )


def ranked(answered: Answered, differences: Sequence[Difference], reference: str) -> list[Cell]:
    """Return the cells of a column with their ranks; a cell that stands apart has none."""
    scores = {model: cell.score.value for model, cell in answered.cells.items() if model in answered.main}
    found = ranks(scores, differences, reference, answered.column.lower_is_better)
    return [
        replace(
            cell,
            best_rank=found[model].best,
            worst_rank=found[model].worst,
            letters=found[model].letters,
        )
        if model in found
        else cell
        for model, cell in answered.cells.items()
    ]


def _with_agreement(model: Model, answered: Sequence[Answered]) -> Model:
    """Return a merged model with how far its answers are those of the adapter that was merged."""
    counts = {
        column.column.label: column.agreements[model.key]
        for column in answered
        if model.key in column.agreements
    }
    if not counts:
        return model
    differing = sum(count for count, _ in counts.values())
    total = sum(total for _, total in counts.values())
    facts = {**model.facts, "differs_from_adapter": differing, "compared_with_adapter": total}
    remarks = [
        f"{label}: {count:,} of {compared:,} items are answered otherwise than by the adapter"
        for label, (count, compared) in counts.items()
        if count
    ]
    return replace(model, facts=facts, remarks=(*model.remarks, *remarks))


def provenance(run: Run) -> dict[str, Any]:
    """Return where a run's numbers are from: recipe, configuration, versions, machine and digests."""
    measured = {
        key: value
        for key, value in run.measured.items()
        if key not in ("schema_version", "steps", "digest", "results", "name")
    }
    digests = {
        step: {key: value for key, value in entry.items() if isinstance(value, str)}
        for step, entry in run.steps.items()
        if isinstance(entry, dict)
    }
    return {
        "recipe": run.recipe,
        "task": run.task,
        "base_model": run.base_model,
        "models": run.models,
        "config": run.config,
        "measured": measured,
        "digests": digests,
        "remarks": list(run.remarks),
    }
