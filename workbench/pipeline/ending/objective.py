"""The number by which a sweep judges a run."""

import math
from pathlib import Path
from typing import Any

from workbench.config import Config, Step
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.evaluation.records import Score, lower_is_better, read_results
from workbench.files import read_json
from workbench.run_dir import RunDir

JUDGED = (ADAPTER, TRAINED, MERGED, BASE)
"""Models of a run; the first one that has scores is judged."""


def objective(config: Config, run_dir: RunDir) -> float | None:
    """The mean score of the trained model, else its validation loss in nats a token.

    The mean is over the benchmarks that the run names and scores, by the first metric of each. Benchmarks of
    which some want more and others less (accuracy and perplexity) have no mean. None: the run has no such
    number.
    """
    if Step.evaluate in config.steps and run_dir.results_json.is_file():
        scores = read_results(run_dir.results_json)[1]
        score = mean_score([each for each in scores if each.benchmark in config.benchmarks])
        if score is not None:
            return score
    loss = training_report(run_dir).get("validation_loss")
    return float(loss) if isinstance(loss, int | float) else None


def mean_score(scores: list[Score]) -> float | None:
    """The mean of the first metrics of the judged model; None: no score, or metrics without a mean."""
    models = {score.model for score in scores}
    judged = next((name for name in JUDGED if name in models), None)
    first = {score.benchmark: score for score in reversed(scores) if score.model == judged}
    if not first or len({lower_is_better(score.metric) for score in first.values()}) > 1:
        return None
    return math.fsum(score.value for score in first.values()) / len(first)


def training_report(run_dir: RunDir) -> dict[str, Any]:
    """What run.json says of the training: losses, steps, time; empty where nothing was trained."""
    report = mapping_in(run_dir.run_json).get("train")
    return report if isinstance(report, dict) else {}


def mapping_in(path: Path) -> dict[str, Any]:
    """What a JSON file of the run says; empty where there is none or it is damaged, which its step tells."""
    try:
        values = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
