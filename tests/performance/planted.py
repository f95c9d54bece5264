"""Planted truth: boards of models whose true differences are known, and how often the board tells them.

    python tests/performance/planted.py MODE BOARDS [--to FILE.jsonl]

    equal       6 equal models on 4 benchmarks of 300 items: boards with any verdict, at most 67 of 1,000
    clusters    the same with five questions on each text
    seeds       the same with a base and five seeds of one recipe, which is a row of two verdicts
    detectable  the difference that a board prints as detectable: 767 to 832 of 1,000 found
    ranks       12 models of different skill: at least 463 of 500 boards hold all true ranks
    forgetting  an adapter loses 2 points on 7 x 1,000 items at 14% discordance: at least 90% found
    damage      the printed detectable damage in one of 10 subjects: found 4 times out of 5
    collapsed   a classifier that always answers the frequent class is worse in F1 and MCC than a good one

Each board is written as files of lm-evaluation-harness (seeds: as run folders), collected and built with the
defaults. "false" counts the boards that report what isn't so. With --to, each board is a line of the file,
and the same command goes on where it stopped.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planted_files import Layout, write_harness, write_seeds
from scipy.stats import binomtest
from sklearn.metrics import f1_score, matthews_corrcoef

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.board import BETTER, UNSURE, WORSE, Board
from workbench.leaderboard.build import build
from workbench.leaderboard.imported_runs import collect_all

SEED = 20261
Rng = np.random.Generator
Right = NDArray[np.bool_]
"""(models, items) whether the answer is right."""


@dataclass(frozen=True)
class Outcome:
    """What a board says of its planted truth."""

    found: bool
    """Of boards without differences: whether it reports any."""
    false: bool = False
    """Whether it reports something that isn't so."""
    width: float | None = None
    """Mean width of the rank intervals."""


def board_of(answers: dict[str, Any], layout: Layout, **config: Any) -> Board:
    """Return the board of these answers, through files."""
    with tempfile.TemporaryDirectory() as folder:
        write_harness(Path(folder), answers, layout)
        return build(collect_all(Path(folder)), LeaderboardConfig(**config))


def numbers(board: Board) -> dict[str, int]:
    """Return key of a row -> number of its model."""
    return {model.key: int(model.sources[0]) for model in board.models}


def reports_any(board: Board) -> bool:
    """Return whether any verdict of the board shows a difference."""
    verdicts = [shown.verdict for shown in (*board.differences, *board.subjects, *board.forgetting)]
    verdicts += [verdict for row in board.seeds for verdict in (row.checkpoints_verdict, row.recipe_verdict)]
    return any(verdict in (BETTER, WORSE) for verdict in verdicts)


def alike(rng: Rng, models: int, items: int) -> Right:
    """Return answers of equal models to items of different difficulty."""
    return rng.random((models, items)) < rng.uniform(0.3, 0.8, items)


def changed(rng: Rng, right: Right, lost: float, gained: float) -> Right:
    """Return answers of which shares `lost` and `gained` of all items flip."""
    share = right.mean()
    chances = np.where(right, lost / share, gained / (1 - share))
    flips: Right = rng.random(right.shape) < chances
    return right ^ flips


def equal(rng: Rng) -> Outcome:
    """Build a board of equal models."""
    return Outcome(reports_any(board_of({f"task{n}": alike(rng, 6, 300) for n in range(4)}, Layout())))


def clusters(rng: Rng) -> Outcome:
    """Build the same where five questions share a text, which a model understands or not."""
    answers = {}
    for number in range(4):
        luck = rng.integers(0, 2, (6, 60)).repeat(5, axis=1)
        guesses = rng.integers(0, 2, (6, 300))
        answers[f"task{number}"] = np.where(rng.random((6, 300)) < 0.7, luck, guesses) > 0
    return Outcome(reports_any(board_of(answers, Layout(questions_per_text=5))))


def seeds(rng: Rng) -> Outcome:
    """Build a board of a base and five seeds of one recipe, which are all equal."""
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder), {f"task{n}": alike(rng, 6, 300) for n in range(4)})
        board = build(collect_all(Path(folder)), LeaderboardConfig())
    assert len(board.seeds) == 4 and all(row.recipe_verdict for row in board.seeds)
    return Outcome(reports_any(board))


def detectable(rng: Rng) -> Outcome:
    """Plant the difference that a board prints as detectable, into another board."""
    [printed] = board_of({"quiz": alike(rng, 2, 2000)}, Layout()).differences
    assert printed.detectable is not None
    discordance = (printed.gained + printed.lost) / printed.num_pairs
    gained = (discordance + printed.detectable) / 2
    drawn, first = rng.random(2000), rng.random(2000) < 0.5
    up, down = drawn < gained, (drawn >= gained) & (drawn < discordance)
    answers = np.array([np.where(up | down, down, first), np.where(up | down, up, first)])
    [found] = board_of({"quiz": answers}, Layout()).differences
    return Outcome(found.verdict == BETTER, found.verdict == WORSE)


def ranks(rng: Rng) -> Outcome:
    """Rank 12 models, whose true order is that of their numbers."""
    skill = np.sort(rng.uniform(0.4, 0.7, 12))[::-1]
    right = rng.random((12, 1000)) < np.clip(skill[:, None] + rng.normal(0, 0.1, 1000), 0, 1)
    board = board_of({"quiz": right}, Layout())
    number_of = numbers(board)
    held, widths = [], []
    for cell in board.cells:
        assert cell.best_rank is not None and cell.worst_rank is not None
        held.append(cell.best_rank <= number_of[cell.model] + 1 <= cell.worst_rank)
        widths.append(cell.worst_rank - cell.best_rank + 1)
    return Outcome(all(held), not all(held), float(np.mean(widths)))


def forgetting(rng: Rng) -> Outcome:
    """Plant a loss of 2 points into the first of two adapters; the other one only flips as many items."""
    answers = {}
    for number in range(7):
        base = alike(rng, 1, 1000)[0]
        answers[f"task{number}"] = np.array(
            [base, changed(rng, base, 0.08, 0.06), changed(rng, base, 0.07, 0.07)]
        )
    base = alike(rng, 1, 1000)[0]
    answers["target"] = np.array([base, changed(rng, base, 0.07, 0.07), changed(rng, base, 0.07, 0.07)])
    board = board_of(answers, Layout(has_base=True), trained_for=["target"])
    number_of = numbers(board)
    verdicts = {number_of[row.model]: row.verdict for row in board.forgetting}
    target = next(column.key for column in board.columns if column.benchmark == "target")
    is_false = verdicts[2] != UNSURE or any(
        _is_false(number_of[row.first], number_of[row.second], row.verdict, row.column == target)
        for row in board.differences
    )
    return Outcome(verdicts[1] == WORSE, is_false)


def _is_false(first: int, second: int, verdict: str, is_target: bool) -> bool:
    """Return whether a verdict is wrong where only model 1 has lost, and not on the target."""
    if is_target or 1 not in (first, second):
        return verdict in (BETTER, WORSE)
    return verdict == (BETTER if second == 1 else WORSE)


def damage(rng: Rng) -> Outcome:
    """Plant the damage that a board prints as detectable in one of 10 subjects, into another board."""
    layout = Layout(has_base=True, group="exam")

    def drawn(loss: float) -> Board:
        answers = {}
        for number in range(10):
            base = alike(rng, 1, 200)[0]
            extra = loss if number == 3 else 0.0
            answers[f"subject{number}"] = np.array([base, changed(rng, base, 0.05 + extra, 0.05)])
        return board_of(answers, layout)

    printed = next(row for row in drawn(0.0).subjects if row.subject == "subject3")
    assert printed.detectable is not None
    board = drawn(printed.detectable)
    verdicts = {row.subject: row.verdict for row in board.subjects}
    is_found = verdicts.pop("subject3") == WORSE
    is_false = any(verdict != UNSURE for verdict in verdicts.values())
    return Outcome(is_found, is_false or any(row.verdict == BETTER for row in board.differences))


def collapsed(rng: Rng) -> Outcome:
    """Compare a classifier of 85% with one that always answers the frequent class, of 70%."""
    right = (rng.random(400) < 0.3).astype(int)
    predicted = [np.where(rng.random(400) < 0.85, right, 1 - right), np.zeros(400, dtype=int)]
    labels = np.array([np.stack([right, own], axis=1) for own in predicted])
    totals = {
        "f1": [float(f1_score(right, own, zero_division=0.0)) for own in predicted],
        "mcc": [float(matthews_corrcoef(right, own)) for own in predicted],
    }
    board = board_of(dict.fromkeys(totals, labels), Layout(totals=totals))
    verdicts = [row.verdict for row in board.differences]
    assert len(verdicts) == 2 and numbers(board)[board.differences[0].first] == 0
    return Outcome(verdicts == [WORSE, WORSE], BETTER in verdicts)


MODES: dict[str, Callable[[Rng], Outcome]] = {
    "equal": equal,
    "clusters": clusters,
    "seeds": seeds,
    "detectable": detectable,
    "ranks": ranks,
    "forgetting": forgetting,
    "damage": damage,
    "collapsed": collapsed,
}


def simulated(mode: str, count: int, path: Path | None) -> list[Outcome]:
    """Return the outcomes of boards 0, 1, ... of a mode; boards that the file has aren't built again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines[:count]]
    for number in range(len(outcomes), count):
        rng = np.random.default_rng([SEED, list(MODES).index(mode), number])
        outcomes.append(MODES[mode](rng))
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcomes[-1])) + "\n")
    return outcomes


def main() -> None:
    """Simulate boards and print how many had the outcome that the mode counts, with its exact interval."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("boards", type=int)
    parser.add_argument("--to", type=Path)
    asked = parser.parse_args()
    start = time.process_time()
    outcomes = simulated(asked.mode, asked.boards, asked.to)
    found = sum(outcome.found for outcome in outcomes)
    interval = binomtest(found, len(outcomes)).proportion_ci(0.95)
    widths = [outcome.width for outcome in outcomes if outcome.width is not None]
    width = f", mean width {np.mean(widths):.2f}" if widths else ""
    print(
        f"{asked.mode}: {found} of {len(outcomes)} "
        f"({100 * interval.low:.1f}% to {100 * interval.high:.1f}% with 95% confidence); "
        f"false: {sum(outcome.false for outcome in outcomes)}{width}; "
        f"{time.process_time() - start:.0f} s of processor time",
        flush=True,
    )


if __name__ == "__main__":
    main()
