"""Writes the leaderboard as Markdown."""

from workbench.leaderboard import formatting
from workbench.leaderboard.view_model import MODELS, UNTRAINED, Board, Row, RunView
from workbench.shown import clean


def text(board: Board) -> str:
    """Return the scores as Markdown, one table per run."""
    lines = ["# Leaderboard", ""]
    for view in board.runs:
        lines += [f"## {escaped(view.run.label)}", "", f"Base model: {escaped(view.run.base_model)}", ""]
        lines += [f"{escaped(remark)}\n" for remark in view.run.remarks]
        lines += [*table(view), ""]
    lines += [f"Skipped {escaped(file.path)}: {escaped(file.reason)}" for file in board.skipped]
    return "\n".join(lines).rstrip() + "\n"


def table(view: RunView) -> list[str]:
    """Return the scores of one run as the lines of a Markdown table."""
    models = [name for name in MODELS if any(name in row.scores for row in view.rows)]
    header = ["benchmark", "language", "metric", "items", *models, "difference", "p (Holm)", "verdict"]
    lines = [_line(header), _line(["---"] * len(header))]
    for row in view.rows:
        difference = row.difference
        cells = [
            escaped(row.benchmark),
            escaped(row.language),
            escaped(row.metric),
            formatting.items(row),
        ]
        cells += [_score(row, name) for name in models]
        if difference:
            bounds = formatting.interval(difference.interval, row.is_share, signed=True)
            value = formatting.change(difference.value, row.is_share)
            p_value = formatting.p_value(difference.adjusted_p_value)
            cells += [f"{value} ({bounds})" if bounds else value, p_value]
        cells += [difference.verdict] if difference else ["", "", escaped(row.problem)]
        lines.append(_line(cells))
    return lines


def _score(row: Row, model: str) -> str:
    """Return the cell of one model's score."""
    score = row.scores.get(model)
    if score is None or score.note == UNTRAINED:
        return score.note if score else ""
    bounds = formatting.interval(score.interval, row.is_share)
    value = formatting.number(score.value, row.is_share)
    return f"{value} ({bounds})" if bounds else value


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Escape a text so that it is neither markup nor the end of a cell."""
    text = " ".join(clean(text).split())
    for character in "\\&`*_[]<>|":
        escape = f"&#{ord(character)};" if character in "<>&" else f"\\{character}"
        text = text.replace(character, escape)
    return text
