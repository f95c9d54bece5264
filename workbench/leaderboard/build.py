"""Builds the board from collected runs: rows, columns, cells, and the tested differences of models."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.board import Board, BoardFamily, Cell, Difference, Model
from workbench.leaderboard.board_tests import family as families
from workbench.leaderboard.board_tests.forgetting import forgetting
from workbench.leaderboard.board_tests.means import as_mean, averaged, differences_of
from workbench.leaderboard.board_tests.ranking import ranks
from workbench.leaderboard.board_tests.seeds import num_tests, recipes, seed_groups
from workbench.leaderboard.board_tests.subjects import subject_differences
from workbench.leaderboard.collect import Collection, Run
from workbench.leaderboard.early_decisions import decisions_on
from workbench.leaderboard.items.columns import find_columns
from workbench.leaderboard.items.index import ItemIndex
from workbench.leaderboard.items.outcomes import Answered, read_column
from workbench.leaderboard.rows.models import find_models
from workbench.shown import message
from workbench.statistics.family import ERROR_RATES

TITLE = message("Leaderboard")


def build(collection: Collection, config: LeaderboardConfig, index: ItemIndex | None = None) -> Board:
    """Return the leaderboard of all collected runs.

    Args:
        collection: The runs, models that failed, and skipped files.
        config: Section `leaderboard`, which chooses the models to compare.
        index: Cache of items, which is read and then written to its file. None: nothing is cached.

    Raises:
        ConfigError: `leaderboard.reference` or `leaderboard.names` names no row.
    """
    models = find_models(collection.runs, collection.failures)
    names = {model.key: model.name for model in models.rows}
    index = index or ItemIndex(None)
    answered = [read_column(column, names, index) for column in find_columns(collection.runs, models.keys)]
    index.write()
    plan = families.plan([model for model in models.rows if not model.failure], config)
    means = averaged(answered, [model.key for model in models.rows])
    seeded = recipes(models.rows)
    family = BoardFamily(
        kind=plan.kind,
        reference=plan.reference,
        num_comparisons=sum(families.testable(column, pair) for column in answered for pair in plan.pairs)
        + sum(mean.has(pair) for mean in means for pair in plan.pairs)
        + num_tests(seeded, answered),
        alpha=ERROR_RATES["pairs"],
    )
    differences = [families.of_column(column, plan.pairs, family) for column in answered]
    of_means = [difference for mean in means for difference in differences_of(mean, plan.pairs, family)]
    outcomes = [each for column in answered if (each := column.outcomes()) is not None]
    return Board(
        title=TITLE,
        models=tuple(_with_agreement(model, answered) for model in models.rows),
        columns=tuple(column.column for column in answered),
        cells=tuple(
            cell
            for column, tested in zip(answered, differences, strict=True)
            for cell in ranked(column, tested, plan.reference)
        ),
        outcomes={each.column: each for each in outcomes},
        family=family,
        differences=(*(difference for tested in differences for difference in tested), *of_means),
        means=tuple(as_mean(mean, of_means, plan.reference) for mean in means),
        subjects=tuple(subject_differences(answered, parents_and_children(models.rows, plan))),
        forgetting=tuple(forgetting(answered, models.rows, config.trained_for)),
        seeds=tuple(seed_groups(seeded, answered, family)),
        alarms=tuple(alarm for column in answered for alarm in column.alarms),
        skipped=tuple(collection.skipped),
        decisions=tuple(decisions_on(collection.comparisons, models.rows)),
        provenance={run.label: provenance(run) for run in collection.runs},
    )


def ranked(answered: Answered, differences: Sequence[Difference], reference: str) -> list[Cell]:
    """Return a column's cells, with ranks and tie letters in those of the comparable models (`main`)."""
    scores = {model: cell.score.value for model, cell in answered.cells.items() if model in answered.main}
    rank_of = ranks(scores, differences, reference, answered.column.lower_is_better)
    return [
        replace(
            cell,
            best_rank=rank_of[model].best,
            worst_rank=rank_of[model].worst,
            letters=rank_of[model].letters,
        )
        if model in rank_of
        else cell
        for model, cell in answered.cells.items()
    ]


def parents_and_children(models: Sequence[Model], plan: families.Plan) -> list[families.Pair]:
    """Return (parent, model) for each model whose parent, from which it was made, is on the board.

    Without such a model: the plan's pairs with its reference, or else with the first model of its first pair.
    """
    keys = {model.key for model in models}
    pairs = [(model.parent, model.key) for model in models if model.parent in keys and model.parent]
    if pairs or not plan.pairs:
        return pairs
    reference = plan.reference or plan.pairs[0][0]
    return [pair for pair in plan.pairs if pair[0] == reference]


def _with_agreement(model: Model, answered: Sequence[Answered]) -> Model:
    """Return a merged model with the number of answers that differ from its adapter's, and remarks on them.

    A model without such counts is returned unchanged.
    """
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
        message(
            "{column}: the merged model answers {count} of {total} items otherwise than the adapter",
            column=label,
            count=count,
            total=compared,
        )
        for label, (count, compared) in counts.items()
        if count
    ]
    return replace(model, facts=facts, remarks=(*model.remarks, *remarks))


def provenance(run: Run) -> dict[str, Any]:
    """Return the origin of a run's numbers, as the page shows it.

    The keys are recipe, task, base_model, models, config, measured (versions, machine, times), digests
    (step -> checksums of its files) and remarks.
    """
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
