"""What evaluation writes down: an item, what a model answered, and the scores; without torch.

`predictions/<model>/<benchmark>.jsonl` holds one Prediction a line, `results.json` all Scores of a run.
Neither holds a measured value (time, memory), so the same inputs give the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.field_checks import (
    Check,
    are_scores,
    is_answer_or_none,
    is_count,
    is_likelihood,
    is_target,
    is_text,
    is_text_or_none,
    list_of,
)
from workbench.files import parse_json, read_json, write_atomic, write_json

SCHEMA_VERSION = 1

_LOSSES = ("perplexity", "bits_per_byte", "loss")
"""Ends of the names of metrics whose smaller values are the better ones."""
_ERRORS = ("wer", "cer", "ter", "mer", "mae", "mse", "rmse", "mape", "smape", "mase", "brier_score")
"""Names of such metrics of `evaluate` and of lm-evaluation-harness."""

ITEM_ALONE = "of the item alone"
"""End of a score's `item_score` where an item scores what the metric gives for this item by itself."""


def metric_name(metric: str) -> str:
    """A metric's bare name: without the folder or owner of a metric of `evaluate`, and a harness's filter."""
    return PurePath(PurePath(metric).name.partition(",")[0]).stem


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one."""
    name = metric_name(metric)
    return name.endswith(_LOSSES) or name in _ERRORS


@dataclass(frozen=True, kw_only=True)
class Shot:
    """An example shown before the question."""

    question: str
    answer: str
    """Delimiter included."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One item of a benchmark with everything about its prompt rendered, before any tokenizer is involved."""

    id: str
    """`subset/number`, or `number`; the number is the row's in the split, so `limit` doesn't change it."""
    subset: str = ""
    description: str = ""
    shots: tuple[Shot, ...] = ()
    fewshot_delimiter: str = ""
    delimiter: str = ""
    """Text between a question and its answer."""
    questions: tuple[str, ...]
    """One for all choices, or one a choice."""
    continuations: tuple[str, ...] = ()
    """What is scored after question and delimiter, one a choice."""
    choices: tuple[str, ...] = ()
    target: int | str | tuple[int, ...] | tuple[str, ...]
    """Number of the right choice or label (several: all right ones), or the text or texts to generate."""
    references: tuple[str, ...] = ()
    """The texts that a generated answer is compared with, the best one counts; empty: the target's own."""
    written_targets: tuple[str, ...] = ()
    """The texts to generate as the benchmark writes them, before any normalisation."""
    unconditional: str | None = None
    rotations: tuple["Example", ...] = ()
    """The same question with its options moved on by 1, 2, ... letters."""

    @property
    def reference_texts(self) -> tuple[str, ...]:
        """The texts that a generated answer is compared with."""
        targets = self.target if isinstance(self.target, tuple) else (self.target,)
        return self.references or tuple(map(str, targets))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model gave for one item, before it is judged; this is what the cache keeps."""

    loglikelihoods: tuple[float, ...] = ()
    """Natural logarithm, one a choice, label or text."""
    num_tokens: tuple[int, ...] = ()
    """Tokens that each of them is the sum of."""
    greedy: tuple[bool, ...] = ()
    """Whether each of these tokens was the likeliest one."""
    unconditional: tuple[float, ...] = ()
    """Log-likelihoods of the choices after the unconditional prompt, for acc_pmi."""
    generation: str | None = None
    """The generated text."""
    extracted: str | None = None
    """What of it is the answer."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model answered to one item, and what that scored."""

    id: str
    subset: str = ""
    prompt_hash: str
    """First 16 hex digits of the SHA-256 of the prompt's bytes, choices included."""
    context: str
    choices: list[str] = field(default_factory=list)
    loglikelihoods: list[float] = field(default_factory=list)
    """Natural logarithm, one a choice; for a classification head the log-probability of each label."""
    generation: str | None = None
    prediction: int | str | None
    target: int | str | list[int] | list[str]
    """Number of the right choice or label, or the text to generate; a list holds all right ones."""
    scores: dict[str, float]
    """Metric -> what this item scored."""
    num_shots_dropped: int = 0
    """Examples left out, from the left, because the prompt would not fit into the model's context."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one model on one benchmark, with how sure it is and what it was measured with."""

    model: str
    benchmark: str
    language: str
    metric: str
    value: float
    stderr: float | None
    interval: list[float] | None
    num_items: int
    num_fewshot: int
    protocol: str
    prompts: str
    """SHA-256 over the hashes of all prompts, in order."""
    chance: float | None = None
    """What guessing would score."""
    majority: float | None = None
    """What the most frequent answer would score."""
    average: str = "micro"
    subsets: dict[str, dict[str, float]] = field(default_factory=dict)
    """Subset -> value and num_items."""
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    """Group of subsets -> value and num_items."""
    num_shots_dropped: int = 0
    letters: dict[str, int] = field(default_factory=dict)
    """How often each letter was the likeliest one, for lettered questions."""
    permutations: int = 1
    """Orders that the options of lettered questions were asked in."""
    confidence: float = 0.95
    """Coverage of the interval."""
    rule: str = ""
    """Fingerprint of how answers were had and scored, 16 hex digits; scores of other rules don't compare."""
    item_score: str = ""
    """What an item scores in the predictions, where the score is not the mean of its items; pairs use it."""
    note: str = ""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one prediction a line, all or nothing."""
    write_atomic(path, "".join(prediction_line(prediction) for prediction in predictions))


def prediction_line(prediction: Prediction) -> str:
    """One line of a predictions file, newline included.

    Raises:
        DataError: the prediction has a value that `read_predictions` would refuse, such as an infinite score.
    """
    for name, is_valid in PREDICTION_TYPES.items():
        if not is_valid(value := getattr(prediction, name)):
            raise DataError(
                f"item {prediction.id}: {name} {str(value):.200} can't be kept (scores are finite numbers: "
                "leave such a metric out of the benchmark's metrics)"
            )
    return json.dumps({"schema_version": SCHEMA_VERSION, **vars(prediction)}, ensure_ascii=False) + "\n"


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of one model on one benchmark, in the file's order.

    Raises:
        DataError: a line is no prediction of a schema that this version knows.
    """
    # Not splitlines: a text may hold other line ends, such as U+2028, which JSON leaves as they are.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_prediction(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line]


def _prediction(line: str, where: str) -> Prediction:
    try:
        values = parse_json(line)
        version = values.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(f"{where}: schema_version is {version!r} (known: {SCHEMA_VERSION})")
        found = Prediction(**values)
        for name, is_valid in PREDICTION_TYPES.items():
            if not is_valid(getattr(found, name)):
                raise TypeError(f"{name} is {getattr(found, name)!r:.80}")
        return found
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a prediction of this project ({error})") from error


PREDICTION_TYPES: dict[str, Check] = {
    "id": is_text,
    "subset": is_text,
    "prompt_hash": is_text,
    "context": is_text,
    "choices": list_of(is_text),
    "loglikelihoods": list_of(is_likelihood),
    "generation": is_text_or_none,
    "prediction": is_answer_or_none,
    "target": is_target,
    "scores": are_scores,
    "num_shots_dropped": is_count,
}
"""Field of a prediction -> whether a value can stand there."""


def write_results(path: Path, run: dict[str, Any], scores: Iterable[Score]) -> None:
    """Write results.json: `run` (its keys run, recipe, task, base_model, models), then the scores."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **run, "scores": [asdict(score) for score in scores]})


def read_results(path: Path) -> tuple[dict[str, Any], list[Score]]:
    """What results.json says about the run, and its scores.

    Raises:
        DataError: the file is no results.json of a schema that this version knows.
    """
    try:
        values = read_json(path)
        version = values.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(f"{path}: schema_version is {version!r} (known: {SCHEMA_VERSION})")
        scores = [Score(**score) for score in values.pop("scores")]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the results of a run of this project ({error!r})") from error
    return values, scores


def context(example: Example, question: str, dropped: int = 0) -> str:
    """The text before the answer, without the first `dropped` examples."""
    shots = "".join(s.question + s.answer + example.fewshot_delimiter for s in example.shots[dropped:])
    return example.description + shots + question


def prompt_hash(texts: list[str]) -> str:
    """SHA-256 of all texts that a model is shown for an item, 64 hex digits."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
