"""Computes the objective value that a sweep optimizes."""

import math
from pathlib import Path
from typing import Any

from workbench.config import Config, Step
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.evaluation.records import Score, read_results
from workbench.files import read_json
from workbench.run_dir import RunDir

MODEL_ORDER = (ADAPTER, TRAINED, MERGED, BASE)
"""Models of a run; the objective is that of the first one that has scores."""


def objective(config: Config, run_dir: RunDir) -> float | None:
    """Return the run's mean score if its steps evaluate, or else its validation loss in nats per token.

    The mean is that of `mean_score`, over the benchmarks of the configuration. If for some more is better and
    for others less (accuracy and perplexity), there is no mean, and the validation loss counts. Whether a
    higher value is better is not returned: it depends on the metrics.

    Returns:
        None if the run has neither.

    Raises:
        DataError: results.json is damaged.
        OSError: It can't be read.
    """
    if Step.evaluate in config.steps and run_dir.results_json.is_file():
        scores = read_results(run_dir.results_json)[1]
        mean = mean_score([score for score in scores if score.benchmark in config.benchmarks])
        if mean is not None:
            return mean
    loss = training_report(run_dir).get("validation_loss")
    return float(loss) if isinstance(loss, int | float) else None


def mean_score(scores: list[Score]) -> float | None:
    """Return the mean, over benchmarks, of the first metric's score of one model of a run.

    The model is the first of MODEL_ORDER that has scores. None without scores, or if lower is better for some
    metrics and higher for others.
    """
    models = {score.model for score in scores}
    model = next((name for name in MODEL_ORDER if name in models), None)
    first = {score.benchmark: score for score in reversed(scores) if score.model == model}
    if not first or len({score.lower_is_better for score in first.values()}) > 1:
        return None
    return math.fsum(score.value for score in first.values()) / len(first)


def training_report(run_dir: RunDir) -> dict[str, Any]:
    """Return the fields of the `TrainReport` in run.json: losses, steps, time; {} if nothing was trained."""
    report = read_mapping(run_dir.run_json).get("train")
    return report if isinstance(report, dict) else {}


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file of the run as a dict; {} if it is missing, damaged, or not an object.

    The step that needs a damaged file reports it. A file that can't be read raises OSError.
    """
    try:
        values = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
