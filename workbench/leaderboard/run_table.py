"""Renders the models of one run for the terminal: scores, differences to the base, verdicts."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.config.leaderboard import FamilyKind, LeaderboardConfig
from workbench.config.names import ADAPTER, MERGED, MODELS, TRAINED, UNTRAINED
from workbench.leaderboard import formatting
from workbench.leaderboard.board import BETTER, UNSURE, WORSE, Board, Cell, Column, Difference, Model
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import Collection, Run
from workbench.leaderboard.items.outcomes import HEAD
from workbench.leaderboard.rows.names import SEPARATOR, folder
from workbench.leaderboard.table import LAYOUT, STYLES, lines
from workbench.shown import clean

NO_QUANTIZATION = "none"


def own_board(run: Run, config: LeaderboardConfig) -> Board:
    """Build the board of a single run, titled by its label, which compares the models of this run only.

    The run's predictions are read. Of `config`, `family`, `reference` and `names` don't count.
    """
    own = replace(config, family=FamilyKind.auto, reference=None, names=[])
    board = build(Collection(runs=[run], skipped=[]), own)
    return replace(board, title=run.label)


def render_run(board: Board) -> RenderableType:
    """Render the models of a run side by side for the terminal, one line per benchmark.

    Args:
        board: From `own_board`.
    """
    models = sorted(board.models, key=_order)
    trained = trained_model(models)
    table = Table(title=f"{clean(board.title)} · {_base(models)}", leading=1, **LAYOUT)
    table.add_column("benchmark", overflow="fold")
    for model in models:
        table.add_column(model.role, justify="right", no_wrap=True)
    if trained is not None:
        table.add_column("difference", justify="right", overflow="fold")
    cells = {(cell.model, cell.column): cell for cell in board.cells}
    for column in board.columns:
        shown = [_score(cells.get((model.key, column.key)), column) for model in models]
        if trained is not None:
            shown.append(_difference(difference_of(board, trained, column), column))
        table.add_row(_about(column), *shown)
    return Group(table, *_remarks(board), *_notes(board, cells, trained))


def _order(model: Model) -> int:
    return MODELS.index(model.role) if model.role in MODELS else len(MODELS)


def _base(models: Sequence[Model]) -> str:
    """Return the folder name of the run's base model, with its quantization if it has one."""
    facts = next((model.facts for model in models if "path" in model.facts), {"path": "new model"})
    quantization = clean(str(facts.get("quantization") or NO_QUANTIZATION))
    return SEPARATOR.join(
        [folder(str(facts["path"])), *([quantization] if quantization != NO_QUANTIZATION else [])]
    )


def trained_model(models: Sequence[Model]) -> Model | None:
    """Return the model to compare with its parent: the adapter, else the trained, else the merged model.

    None if none of them has a parent among the rows.
    """
    by_role = {model.role: model for model in models if model.parent}
    return next((by_role[role] for role in (ADAPTER, TRAINED, MERGED) if role in by_role), None)


def difference_of(board: Board, model: Model, column: Column) -> Difference | None:
    """Return the difference between a model and its parent in one column; None if there is none."""
    pair = (model.parent, model.key)
    of_pair = (each for each in board.differences if (each.first, each.second) == pair)
    return next((each for each in of_pair if each.column == column.key), None)


def _about(column: Column) -> Text:
    chance = ""
    if column.chance is not None and column.is_share:
        chance = f"chance {formatting.number(column.chance, True)}"
    is_plain = column.protocol == "default" and column.num_fewshot == 0
    asked = "" if is_plain else f"{clean(column.protocol)} · {column.num_fewshot}-shot"
    parts = [f"{column.num_items:,} items", asked]
    if column.num_total > column.num_items:
        parts[0] = f"{column.num_items:,} of {column.num_total:,} items"
    metric = [clean(column.metric), chance]
    return lines(clean(column.label), *(" · ".join(filter(None, each)) for each in (parts, metric)))


def _score(cell: Cell | None, column: Column) -> Text:
    if cell is None:
        return Text("")
    if cell.score.note == UNTRAINED:
        majority = cell.score.majority
        return lines(
            "", "untrained", "" if majority is None else f"majority {formatting.number(majority, True)}"
        )
    bounds = formatting.interval(cell.score.interval, column.is_share)
    return lines(formatting.number(cell.score.value, column.is_share), bounds, clean(cell.apart))


def _difference(difference: Difference | None, column: Column) -> Text:
    if difference is None:
        return Text("")
    if difference.value is None or difference.p_adjusted is None:
        return Text(clean(difference.problem), style="yellow")
    bounds = None if difference.low is None else (difference.low, difference.high)
    change = formatting.change(difference.value, column.is_share)
    text = lines(
        f"{change}  p {formatting.equal(difference.p_adjusted)}",
        formatting.interval(bounds, column.is_share, signed=True),
    )
    text.append(f"\n{difference.verdict}", style=STYLES[difference.verdict])
    if difference.problem:
        against_class = "vs majority class" if difference.problem == HEAD else ""
        text.append(f"\n{against_class or clean(difference.problem)}", style="dim")
    return text


def _remarks(board: Board) -> list[Text]:
    remarks = [remark for model in board.models for remark in model.remarks]
    alarms = [Text(clean(alarm), style="bold red") for alarm in board.alarms]
    return [*alarms, *(Text(clean(remark), style="yellow") for remark in dict.fromkeys(remarks))]


def _notes(board: Board, cells: dict[tuple[str, str], Cell], trained: Model | None) -> list[Text]:
    """Return notes for below the table: letters, ends of texts, dropped examples, unpaired items, ..."""
    texts = []
    for column in board.columns:
        label = clean(column.label)
        for model in board.models:
            cell = cells.get((model.key, column.key))
            if cell is not None and (shown := formatting.letters(cell.score)):
                texts.append(f"{label}: {model.role} answers {shown}")
            if cell is not None and (shown := formatting.several(cell.score, cell.further)):
                texts.append(f"{label}: {model.role} gives {shown}")
            if cell is not None and (shown := formatting.texts(cell.score)):
                texts.append(f"{label}: {model.role} writes {shown}")
        dropped = [cell.score.num_shots_dropped for cell in cells.values() if cell.column == column.key]
        if any(dropped):
            texts.append(f"{label}: {max(dropped)} few-shot examples left out of too long prompts")
        scores = [cell.score for cell in cells.values() if cell.column == column.key]
        texts += [f"{label}: {text}" for text in dict.fromkeys(map(formatting.too_long, scores)) if text]
        difference = difference_of(board, trained, column) if trained is not None else None
        if difference is not None and 0 < difference.num_pairs < column.num_items:
            texts.append(
                f"{label}: the difference is of {difference.num_pairs:,} items that both were asked alike"
            )
    texts += [agreement for model in board.models if (agreement := agreement_of(model))]
    if trained is not None and board.family.num_comparisons:
        texts.append(
            f"intervals of differences hold all at once, p is corrected for {board.family.num_comparisons:,} "
            f"comparisons: the chance of any false verdict is at most {100 * board.family.alpha:g}%"
        )
    return [Text(text, style="dim") for text in texts]


def agreement_of(model: Model) -> str:
    """Return the sentence that a merged model answers all items as its adapter does.

    Empty if it doesn't, if the two weren't compared, and for models that aren't merged.
    """
    total = model.facts.get("compared_with_adapter")
    if model.role != MERGED or not total or model.facts.get("differs_from_adapter"):
        return ""
    return f"the merged model gives the same answers as the adapter to all {total} items"


def verdict_counts(board: Board) -> dict[str, int]:
    """Count the columns by verdict on the trained model (`trained_model`) against its parent.

    Returns:
        Counts as {"better": 2, "worse": 1}, without zeros; empty without a trained model.
    """
    trained = trained_model(board.models)
    differences = [difference_of(board, trained, column) for column in board.columns] if trained else []
    counts = {
        verdict: sum(each is not None and each.verdict == verdict for each in differences)
        for verdict in (BETTER, WORSE, UNSURE)
    }
    return {verdict: count for verdict, count in counts.items() if count}
