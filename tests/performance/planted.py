"""Planted truth through the import: boards of lm-evaluation-harness folders with known differences.

    python tests/performance/planted.py equal 1000       # boards of equal models with any verdict: at most 67
    python tests/performance/planted.py clusters 1000    # the same with five questions on each text
    python tests/performance/planted.py detectable 1000  # the printed detectable difference: 767 to 832 found
    python tests/performance/planted.py ranks 500        # intervals hold all true ranks: at least 463

Each board is written as sample files, collected, and built with the defaults; nothing else is told.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.board import BETTER, WORSE, Board
from workbench.leaderboard.build import build
from workbench.leaderboard.imported_runs import collect_all

DATE = "2026-01-02T03-04-05.678901"
PASSAGE = (
    "A long text about the river and the two towns on its banks, which several questions ask about. " * 2
)
Answers = dict[str, NDArray[np.bool_]]
"""Benchmark -> right answers, (models, items)."""


def write(folder: Path, answers: Answers, questions_per_text: int = 1) -> None:
    """Write each model's results file and samples files."""
    for model in range(len(next(iter(answers.values())))):
        place = folder / f"model{model}"
        place.mkdir(parents=True)
        results = {}
        for name, right in answers.items():
            lines = [
                _line(name, number, bool(value), questions_per_text)
                for number, value in enumerate(right[model])
            ]
            (place / f"samples_{name}_{DATE}.jsonl").write_text("".join(lines), encoding="utf-8")
            results[name] = {"acc,none": float(right[model].mean())}
        values = {"results": results, "lm_eval_version": "0.4.13", "model_name": f"org/model{model}"}
        (place / f"results_{DATE}.json").write_text(json.dumps(values), encoding="utf-8")


def _line(task: str, number: int, right: bool, questions_per_text: int) -> str:
    context = f"{task}: question {number}?"
    text = f', "passage": "{PASSAGE} {number // questions_per_text}"' if questions_per_text > 1 else ""
    chosen = [("-1.0" if (index == 0) == right else "-2.0") for index in range(2)]
    asked = ", ".join(
        f'"gen_args_{index}": {{"arg_0": "{context}", "arg_1": " {letter}"}}'
        for index, letter in enumerate("AB")
    )
    responses = ", ".join(f'["{value}", "False"]' for value in chosen)
    return (
        f'{{"doc_id": {number}, "doc": {{"question": "{context}"{text}}}, "target": "0", '
        f'"arguments": {{{asked}}}, "resps": [[{responses.replace("], [", "]], [[")}]], '
        f'"filtered_resps": [{responses}], "filter": "none", "metrics": ["acc"], "acc": {float(right)}}}\n'
    )


def board_of(answers: Answers, questions_per_text: int = 1) -> Board:
    """Return the board of these answers, through files."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), answers, questions_per_text)
        return build(collect_all(Path(folder)), LeaderboardConfig())


def verdicts(board: Board) -> int:
    """Return how many differences of the board are shown, on columns, means and subjects."""
    shown = [*board.differences, *board.subjects]
    return sum(difference.verdict in (BETTER, WORSE) for difference in shown)


def answers(rng: np.random.Generator, models: int, items: int, shift: float = 0.0) -> NDArray[np.bool_]:
    """Return right answers to items of different difficulty; the last model is better by `shift`."""
    skill = np.tile(rng.uniform(0.3, 0.8, items), (models, 1))
    skill[-1] += shift
    return rng.random((models, items)) < np.clip(skill, 0, 1)


def equal(rng: np.random.Generator) -> bool:
    """Return whether a board of 6 equal models on 4 benchmarks of 300 items shows any difference."""
    return verdicts(board_of({f"task{n}": answers(rng, 6, 300) for n in range(4)})) > 0


def clusters(rng: np.random.Generator) -> bool:
    """Return the same where five questions share a text, which a model understands or not."""
    found = {}
    for number in range(4):
        luck = rng.integers(0, 2, (6, 60)).repeat(5, axis=1).astype(bool)
        found[f"task{number}"] = np.where(rng.random((6, 300)) < 0.7, luck, rng.integers(0, 2, (6, 300)) > 0)
    return verdicts(board_of(found, questions_per_text=5)) > 0


def detectable(rng: np.random.Generator) -> bool:
    """Return whether a difference as large as the board prints as detectable is found on another board."""
    skill = rng.uniform(0.3, 0.8, 2000)
    before = rng.random((2, 2000)) < skill
    [printed] = board_of({"quiz": before}).differences
    assert printed.detectable is not None
    discordance = (printed.gained + printed.lost) / printed.num_pairs
    gained = (discordance + printed.detectable) / 2
    drawn, first = rng.random(2000), rng.random(2000) < 0.5
    flips = np.where(drawn < gained, 1, np.where(drawn < discordance, -1, 0))
    second = np.where(flips == 0, first, flips > 0)
    first = np.where(flips == 0, first, flips < 0)
    [found] = board_of({"quiz": np.array([first, second])}).differences
    return found.verdict == BETTER


def ranks(rng: np.random.Generator) -> bool:
    """Return whether the rank intervals of 12 models hold all true ranks."""
    shares = np.sort(rng.uniform(0.4, 0.7, 12))[::-1]
    right = rng.random((12, 1000)) < np.clip(shares[:, None] + rng.normal(0, 0.1, 1000), 0, 1)
    board = board_of({"quiz": right})
    names = {model.key: int(model.facts["path"].removeprefix("org/model")) for model in board.models}
    cells = {names[cell.model]: cell for cell in board.cells}
    WIDTHS.extend(cell.worst_rank - cell.best_rank + 1 for cell in cells.values())
    return all(cell.best_rank <= true + 1 <= cell.worst_rank for true, cell in cells.items())


WIDTHS: list[int] = []
MODES: dict[str, Callable[[np.random.Generator], bool]] = {
    "equal": equal,
    "clusters": clusters,
    "detectable": detectable,
    "ranks": ranks,
}


def main() -> None:
    """Simulate boards and print how many had the outcome that the mode counts."""
    mode, count = sys.argv[1], int(sys.argv[2])
    rng, start = np.random.default_rng(20261), time.perf_counter()
    found = sum(MODES[mode](rng) for _ in range(count))
    width = f", mean width {np.mean(WIDTHS):.2f}" if WIDTHS else ""
    seconds = (time.perf_counter() - start) / count
    print(f"{mode}: {found} of {count}{width} ({seconds:.2f} s a board)", flush=True)


if __name__ == "__main__":
    main()
