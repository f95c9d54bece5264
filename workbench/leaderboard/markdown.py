"""The leaderboard as Markdown."""

from workbench.config.names import MODELS, UNTRAINED
from workbench.leaderboard import formatting
from workbench.leaderboard.view_model import Board, Row, RunView
from workbench.shown import clean


def text(board: Board) -> str:
    """The scores as Markdown tables, one a run."""
    lines = ["# Leaderboard", ""]
    for view in board.runs:
        lines += [f"## {escaped(view.run.label)}", "", f"Base model: {escaped(view.run.base_model)}", ""]
        lines += [f"{escaped(remark)}\n" for remark in view.run.remarks]
        lines += [*table(view), ""]
    lines += [f"Skipped {escaped(one.path)}: {escaped(one.reason)}" for one in board.skipped]
    return "\n".join(lines).rstrip() + "\n"


def table(view: RunView) -> list[str]:
    """The scores of one run as the lines of a Markdown table."""
    models = [name for name in MODELS if any(name in row.scores for row in view.rows)]
    header = ["benchmark", "language", "metric", "items", *models, "difference", "p (Holm)", "verdict"]
    lines = [_line(header), _line(["---"] * len(header))]
    for row in view.rows:
        found = row.difference
        cells = [
            escaped(row.benchmark),
            escaped(row.language),
            escaped(row.metric),
            formatting.items(row),
        ]
        cells += [_score(row, name) for name in models]
        if found:
            bounds = formatting.interval(found.interval, row.is_share, signed=True)
            value = formatting.change(found.value, row.is_share)
            cells += [f"{value} ({bounds})" if bounds else value, formatting.p_value(found.adjusted_p_value)]
        cells += [found.verdict] if found else ["", "", escaped(row.problem)]
        lines.append(_line(cells))
    return lines


def _score(row: Row, model: str) -> str:
    score = row.scores.get(model)
    if score is None or score.note == UNTRAINED:
        return score.note if score else ""
    bounds = formatting.interval(score.interval, row.is_share)
    value = formatting.number(score.value, row.is_share)
    return f"{value} ({bounds})" if bounds else value


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """A text that neither ends a cell nor becomes markup."""
    text = " ".join(clean(text).split())
    for sign in "\\&`*_[]<>|":
        text = text.replace(sign, f"&#{ord(sign)};" if sign in "<>&" else f"\\{sign}")
    return text
