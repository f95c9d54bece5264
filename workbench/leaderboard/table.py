"""Renders the leaderboard for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.evaluation.records import Score
from workbench.leaderboard import formatting
from workbench.leaderboard.view_model import (
    BETTER,
    MAJORITY,
    MODELS,
    UNSURE,
    UNTRAINED,
    WORSE,
    Board,
    Row,
    RunView,
    languages,
    trained_and_base,
)
from workbench.shown import clean

LAYOUT: dict[str, Any] = {
    "title_justify": "left",
    "title_style": "bold",
    "header_style": "dim",
    "box": SIMPLE_HEAD,
    "padding": (0, 1),
    "pad_edge": False,
    "show_lines": False,
    "leading": 1,
}
STYLES = {BETTER: "bold green", WORSE: "bold red", UNSURE: "dim"}


def render(board: Board, label: str | None = None) -> RenderableType:
    """Return the run with this label in full (None: every run), after an overview if there are several."""
    blocks: list[RenderableType] = []
    if len(board.runs) > 1:
        blocks.append(_overview(board))
    for view in board.runs:
        if label is None or view.run.label == label:
            blocks += [_run(view), *_notes(view)]
    blocks += [
        Text(f"skipped {clean(file.path)}: {clean(file.reason)}", style="yellow") for file in board.skipped
    ]
    return Group(*blocks) if blocks else Text("no run has been scored yet")


def _overview(board: Board) -> Table:
    """Return one line per run: mean gain by language, and how many benchmarks got better or worse."""
    table = Table(title="all runs: base → trained", **LAYOUT)
    table.add_column("run", overflow="fold")
    for language in board.languages:
        table.add_column(formatting.language(language), justify="right", no_wrap=True)
    table.add_column("benchmarks", justify="right", no_wrap=True)
    for view in board.runs:
        means = [_gain(view, language) for language in board.languages]
        table.add_row(clean(view.run.label), *means, _counts(view))
    return table


def _gain(view: RunView, language: str) -> Text:
    """Return the means of base and trained model, with the difference below."""
    means, gain = view.means.get(language, {}), view.gains.get(language)
    shown = [formatting.number(means[name].value, True) for name in trained_and_base(means)]
    return _lines(" → ".join(shown), formatting.mean(gain, signed=True) if gain else "")


def _counts(view: RunView) -> Text:
    text = Text(f"{len(view.rows)}")
    for verdict in (BETTER, WORSE):
        if view.count(verdict):
            text.append(f"\n{view.count(verdict)} {verdict}", style=STYLES[verdict])
    return text


def _run(view: RunView) -> Table:
    models = [name for name in MODELS if any(name in row.scores for row in view.rows)]
    table = Table(title=f"{clean(view.run.label)} · {clean(view.run.base_model)}", **LAYOUT)
    table.add_column("benchmark", overflow="fold")
    for name in models:
        table.add_column(name, justify="right", no_wrap=True)
    if len(models) > 1:
        table.add_column("difference", justify="right", overflow="fold")
    for language in languages(view.rows):
        for row in view.rows:
            if row.language == language:
                table.add_row(*_cells(row, models))
        if any(mean.num_benchmarks > 1 for mean in view.means[language].values()):
            table.add_row(*_mean_cells(view, language, models), style="italic")
    return table


def _cells(row: Row, models: list[str]) -> list[Text]:
    score = row.any_score
    chance = (
        f"chance {formatting.number(score.chance, True)}" if score.chance is not None and row.is_share else ""
    )
    plain = row.same_rule and score.protocol == "default" and score.num_fewshot == 0
    asked = [f"{formatting.items(row)} items", *([] if plain else [formatting.protocol(row)])]
    about = [row.metric, chance] if chance else [row.metric]
    cells = [_lines(clean(row.benchmark), " · ".join(asked), " · ".join(about))]
    cells += [_score(row.scores.get(name), row.is_share) for name in models]
    return [*cells, _difference(row)] if len(models) > 1 else cells


def _score(score: Score | None, is_share: bool) -> Text:
    if score is None:
        return Text("")
    if score.note == UNTRAINED:
        majority = score.majority
        return _lines(
            "", "untrained", "" if majority is None else f"majority {formatting.number(majority, True)}"
        )
    return _lines(formatting.number(score.value, is_share), formatting.interval(score.interval, is_share))


def _difference(row: Row) -> Text:
    difference = row.difference
    if difference is None:
        return Text(clean(row.problem), style="yellow")
    text = _lines(
        f"{formatting.change(difference.value, row.is_share)}  "
        f"p {formatting.equal(difference.adjusted_p_value)}",
        formatting.interval(difference.interval, row.is_share, signed=True),
    )
    text.append(f"\n{difference.verdict}", style=STYLES[difference.verdict])
    if difference.reference == MAJORITY:
        text.append("\nvs majority class", style="dim")
    return text


def _mean_cells(view: RunView, language: str, models: list[str]) -> list[Text]:
    means, gain = view.means[language], view.gains.get(language)
    count = next((mean.num_benchmarks for mean in means.values()), 0)
    cells = [_lines(f"mean {formatting.language(language)}", f"{count} benchmark{'s' if count != 1 else ''}")]
    for model in models:
        mean = means.get(model)
        if mean is None:
            cells.append(Text(""))
        else:
            bounds = formatting.interval(mean.interval, True)
            cells.append(_lines(formatting.number(mean.value, True), bounds))
    if len(models) == 1:
        return cells
    if gain is None:
        return [*cells, Text("")]
    return [
        *cells,
        _lines(formatting.change(gain.value, True), formatting.interval(gain.interval, True, signed=True)),
    ]


def _notes(view: RunView) -> list[Text]:
    """Return notes below the table: flips of the merged model, answered letters, unpaired items."""
    notes = []
    for row in view.rows:
        if row.flips is not None and row.flips.answers:
            notes.append(
                f"{clean(row.benchmark)}: the merged model answers {row.flips.answers} of "
                f"{row.flips.num_items} items differently from the adapter ({row.flips.scores} other scores)"
            )
        notes += [
            f"{clean(row.benchmark)}: {name} answers {shown}"
            for name, score in row.scores.items()
            if (shown := formatting.letters(score))
        ]
        if dropped := row.any_score.num_shots_dropped:
            notes.append(f"{clean(row.benchmark)}: {dropped} few-shot examples left out of too long prompts")
        if row.difference is not None and row.problem:
            notes.append(f"{clean(row.benchmark)}: {clean(row.problem)}")
    compared = [row.flips for row in view.rows if row.flips is not None]
    if compared and not view.run.merge_problem and not any(flips.answers for flips in compared):
        items = sum(flips.num_items for flips in compared)
        notes.append(f"the merged model gives the same answers as the adapter to all {items} items")
    if any(row.difference is not None for row in view.rows):
        notes.append(
            f"{formatting.coverage(view.rows)} intervals; p of paired items, after Holm's correction over "
            "the benchmarks of the run"
        )
    remarks = [Text(clean(remark), style="yellow") for remark in view.run.remarks]
    return [*remarks, *(Text(note, style="dim") for note in notes)]


def _lines(first: str, *further: str) -> Text:
    """Return lines of text, all but the first dim."""
    text = Text(first)
    for line in further:
        if line:
            text.append(f"\n{line}" if text else line, style="dim")
    return text
