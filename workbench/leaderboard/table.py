"""The leaderboard in the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.evaluation.records import Score
from workbench.leaderboard import wording
from workbench.leaderboard.board import (
    BETTER,
    MAJORITY,
    MODELS,
    UNSURE,
    UNTRAINED,
    WORSE,
    Board,
    Row,
    RunView,
)
from workbench.leaderboard.wording import clean

STYLES = {BETTER: "bold green", WORSE: "bold red", UNSURE: "dim"}


def render(board: Board, label: str | None = None) -> RenderableType:
    """The run called `label` in full (None: every run), and one line for each where there are several."""
    parts: list[RenderableType] = []
    if len(board.runs) > 1:
        parts.append(_overview(board))
    for view in board.runs:
        if label is None or view.run.label == label:
            parts += [_run(view), *_notes(view)]
    parts += [
        Text(f"skipped {clean(one.path)}: {clean(one.reason)}", style="yellow") for one in board.skipped
    ]
    return Group(*parts) if parts else Text("no run has been scored yet")


def _overview(board: Board) -> Table:
    """One line a run: mean gain by language, and how many benchmarks got better or worse."""
    table = Table(title="all runs", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    for language in board.languages:
        table.add_column(f"{language} base", justify="right")
        table.add_column("trained", justify="right")
        table.add_column("difference", justify="right")
    table.add_column("better / worse / not shown", justify="right")
    for view in board.runs:
        cells = [clean(view.run.label)]
        for language in board.languages:
            means, gain = view.means.get(language, {}), view.gains.get(language)
            trained = next((means[name] for name in MODELS[1:] if name in means), None)
            base = means.get(MODELS[0])
            cells.append(wording.number(base.value, True) if base else "")
            cells.append(wording.number(trained.value, True) if trained else "")
            cells.append(wording.mean(gain, signed=True) if gain else "")
        counts = [view.count(verdict) for verdict in (BETTER, WORSE, UNSURE)]
        table.add_row(*cells, " / ".join(map(str, counts)))
    return table


def _run(view: RunView) -> Table:
    models = [name for name in MODELS if any(name in row.scores for row in view.rows)]
    title = f"{clean(view.run.label)} · {clean(view.run.base_model)}"
    table = Table(title=title, title_justify="left", header_style="bold", expand=False, title_style="bold")
    table.add_column("benchmark", overflow="fold")
    for name in models:
        table.add_column(name, justify="right", no_wrap=True)
    if len(models) > 1:
        table.add_column("difference", justify="right", no_wrap=True)
        table.add_column("")
    for language in dict.fromkeys(row.language for row in view.rows):
        for row in view.rows:
            if row.language == language:
                table.add_row(*_cells(row, models), end_section=False)
        if language in view.means and len(models) > 1:
            table.add_row(*_mean_cells(view, language, models), style="italic")
        table.add_section()
    return table


def _cells(row: Row, models: list[str]) -> list[Text]:
    score = row.any_score
    about = f"{row.metric} · {score.num_items} items · {wording.protocol(row)}"
    if score.chance is not None and row.is_share:
        about += f" · chance {wording.number(score.chance, True)}"
    cells = [_two_lines(clean(row.benchmark), about)]
    cells += [_score(row.scores.get(name), row.is_share) for name in models]
    if len(models) > 1:
        cells += _difference(row)
    return cells


def _score(score: Score | None, is_share: bool) -> Text:
    if score is None:
        return Text("")
    if score.note == UNTRAINED:
        majority = f"majority {wording.number(score.majority, True)}" if score.majority is not None else ""
        return Text(f"{UNTRAINED}\n{majority}", style="dim")
    return _two_lines(wording.number(score.value, is_share), wording.interval(score.interval, is_share))


def _difference(row: Row) -> list[Text]:
    found = row.difference
    if found is None:
        return [Text(""), Text(clean(row.problem), style="yellow")]
    value = wording.change(found.value, row.is_share)
    bounds = wording.interval(found.interval, row.is_share, signed=True)
    verdict = Text(found.verdict, style=STYLES[found.verdict])
    if found.reference == MAJORITY:
        verdict.append(f"\nthan the {MAJORITY}", style="dim")
    verdict.append(f"\np {wording.equal(found.adjusted_p_value)}", style="dim")
    return [_two_lines(value, bounds), verdict]


def _mean_cells(view: RunView, language: str, models: list[str]) -> list[Text]:
    means, gain = view.means[language], view.gains.get(language)
    count = next((found.num_benchmarks for found in means.values()), 0)
    name = f"mean {wording.LANGUAGE_NAMES.get(language, clean(language))}"
    cells = [_two_lines(name, f"{count} benchmark{'s' if count != 1 else ''}, each counting the same")]
    for model in models:
        found = means.get(model)
        cells.append(
            _two_lines(wording.number(found.value, True), wording.interval(found.interval, True))
            if found
            else Text("")
        )
    if gain is None:
        return [*cells, Text(""), Text("")]
    bounds = wording.interval(gain.interval, True, signed=True)
    return [*cells, _two_lines(wording.change(gain.value, True), bounds), Text("")]


def _notes(view: RunView) -> list[Text]:
    """What the table has no room for: the merged model's answers, and items that found no partner."""
    notes = []
    for row in view.rows:
        if row.flips is not None and row.flips.answers:
            notes.append(
                f"{clean(row.benchmark)}: the merged model answers {row.flips.answers} of {row.flips.num_items} "
                f"items otherwise than the adapter, {row.flips.scores} with another score"
            )
        if row.difference is not None and row.problem:
            notes.append(f"{clean(row.benchmark)}: {clean(row.problem)}")
    compared = [row.flips for row in view.rows if row.flips is not None]
    if compared and not any(flips.answers for flips in compared):
        items = sum(flips.num_items for flips in compared)
        notes.append(f"the merged model gives the adapter's answer to each of {items} items")
    return [Text(note, style="dim") for note in notes]


def _two_lines(first: str, second: str) -> Text:
    text = Text(first)
    if second:
        text.append(f"\n{second}", style="dim")
    return text
