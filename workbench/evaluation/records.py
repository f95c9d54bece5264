"""Defines the records of evaluation (items, answers, predictions, scores) and their files, without torch.

`predictions/<model>/<benchmark>.jsonl` has one Prediction per line, `results.json` all Scores of a run.
Neither contains a measured value (time, memory), so the same inputs give the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.field_checks import LATER, PREDICTION_TYPES
from workbench.evaluation.metric_directions import lower_is_better
from workbench.files import parse_json, read_json, write_atomic, write_json

SCHEMA_VERSION = 1

ITEM_ALONE = "of the item alone"
"""Suffix of a score's `item_score` if the score of an item is the metric of that single item."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Few-shot example shown before the question."""

    question: str
    answer: str
    """Answer, delimiter included."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """Item of a benchmark with all texts of its prompt, before tokenization."""

    id: str
    """The rendered `id`, or the index of the row in its split; with subsets, `SUBSET/` precedes it."""
    subset: str = ""
    language: str = ""
    """`language` of the benchmark; empty: not known, as for tasks of lm-evaluation-harness."""
    description: str = ""
    shots: tuple[Shot, ...] = ()
    fewshot_delimiter: str = ""
    delimiter: str = ""
    """Text between a question and its answer."""
    questions: tuple[str, ...]
    """One question for all choices, or one per choice."""
    continuations: tuple[str, ...] = ()
    """Text that is scored after question and delimiter, one per choice."""
    choices: tuple[str, ...] = ()
    target: int | str | tuple[int, ...] | tuple[str, ...]
    """Index of the right choice or label, a tuple of all right indices, or the text or texts to generate."""
    references: tuple[str, ...] = ()
    """Texts that a generated answer is compared with; the best one counts. Empty: the texts of `target`."""
    written_targets: tuple[str, ...] = ()
    """Texts to generate as the benchmark writes them, before normalization."""
    program: tuple[str, str] | None = None
    """Texts before and after the answer in the program that `pass@1` runs."""
    unconditional: str | None = None
    """Prompt without the question, for acc_pmi; None: the benchmark doesn't use acc_pmi."""
    rotations: tuple["Example", ...] = ()
    """The same question with its options moved by 1, 2, ... letters."""
    cluster: str = ""
    """Id that all items with a common text share; empty: the item is independent."""

    @property
    def reference_texts(self) -> tuple[str, ...]:
        """Texts that a generated answer is compared with: `references`, or if empty each target as text."""
        targets = self.target if isinstance(self.target, tuple) else (self.target,)
        return self.references or tuple(map(str, targets))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer of a model to one item before scoring, as the cache stores it."""

    loglikelihoods: tuple[float, ...] = ()
    """Log-likelihood of each choice, label or text, in nats."""
    num_tokens: tuple[int, ...] = ()
    """Number of scored tokens of each log-likelihood."""
    greedy: tuple[bool, ...] = ()
    """Whether all scored tokens of each log-likelihood are the argmax."""
    unconditional: tuple[float, ...] = ()
    """Log-likelihoods of the choices after the unconditional prompt, for acc_pmi."""
    generation: str | None = None
    """Generated text."""
    extracted: str | None = None
    """Answer extracted from the generated text."""
    finish_reason: str | None = None
    """Why a generated text ends: `stop` by an end token or text, `length` by the token limit."""
    thought_cut: bool | None = None
    """Whether the thinking budget ended the text's thought; None: there is no budget."""

    def differs(self, other: "Answer", allowed: Callable[[int], float]) -> bool:
        """Return whether another answer to the item has another text, or log-likelihoods too far from these.

        `allowed` returns the allowed difference of a log-likelihood of n tokens, in nats, from n.
        """
        if self.generation is not None or other.generation is not None:
            return self.generation != other.generation
        if len(self.loglikelihoods) != len(other.loglikelihoods):
            return True
        tokens = other.num_tokens or (1,) * len(other.loglikelihoods)
        triples = zip(self.loglikelihoods, other.loglikelihoods, tokens, strict=True)
        return any(abs(a - b) > allowed(count) for a, b, count in triples if a != b)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Answer of a model to one item, with its scores."""

    id: str
    subset: str = ""
    prompt_hash: str
    """First 16 hex digits of the SHA-256 of prompt and choices."""
    context: str
    choices: list[str] = field(default_factory=list)
    loglikelihoods: list[float] = field(default_factory=list)
    """Log-likelihood of each choice, or log-probability of each label of a head, in nats; if items were asked
    in several option orders, log-probabilities among the options, averaged over this item's orders."""
    generation: str | None = None
    """Generated text; None: the answer isn't generated, or the benchmark sets `plain_text: false`."""
    prediction: int | str | None
    """Index of the chosen choice or label, or the extracted text; None: there is no answer."""
    target: int | str | list[int] | list[str]
    """Index of the right choice or label, or the text to generate; a list if several are right."""
    scores: dict[str, float]
    """Metric -> score of this item."""
    num_shots_dropped: int = 0
    """Number of few-shot examples dropped from the left because the prompt was too long for the model."""
    cluster: str = ""
    """Id that all items with a common text share; empty, and not written: the item is independent."""
    finish_reason: str | None = None
    """Why the generated text ends: `stop` or `length`; None, and not written: unknown."""
    thought_cut: bool = False
    """Whether the thinking budget ended the text's thought; not written if not."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """All answers to the item, if it got several: generation, prediction, finish_reason, thought_cut and the
    scores of each. The fields above are those of the first, and `scores` of all."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score of one model on one benchmark by one metric, with its uncertainty and its settings."""

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
    """SHA-256 of the hashes of all prompts, in order."""
    chance: float | None = None
    """Expected score of guessing."""
    majority: float | None = None
    """Score of always giving the same choice, the one that is right most often."""
    average: str = "micro"
    subsets: dict[str, dict[str, float]] = field(default_factory=dict)
    """Subset -> value and num_items."""
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    """Group of subsets -> value and num_items."""
    num_shots_dropped: int = 0
    letters: dict[str, int] = field(default_factory=dict)
    """Letter -> number of questions in which it is the most likely one, for lettered questions."""
    permutations: int = 1
    """Number of option orders in which lettered questions were asked."""
    confidence: float = 0.95
    """Coverage of the interval."""
    rule: str = ""
    """Fingerprint of the rules of answering and scoring, 16 hex digits; only equal rules are comparable."""
    item_score: str = ""
    """Meaning of the items' scores if `value` is not their mean; paired comparisons use these scores."""
    note: str = ""
    """Remark of the caller of `evaluate`, such as that the model's head is untrained."""
    num_total: int | None = None
    """Number of items of the benchmark without a limit; None, and not written: unknown."""
    group_members: dict[str, list[str]] = field(default_factory=dict)
    """Group -> its subsets; not written where there is none."""
    higher_is_better: bool | None = None
    """Direction that the task declares if the name implies the opposite; else None, and not written."""
    num_truncated: int = 0
    """Number of items whose question was cut to fit the context; it and `num_skipped` aren't written if 0."""
    num_skipped: int = 0
    """Number of items that were too long and not asked; they aren't in `num_items`."""
    num_samples: int = 1
    """Number of answers to each item; 1 isn't written."""
    texts: dict[str, int] = field(default_factory=dict)
    """Numbers of generated `texts` (each of several answers to an item counts), and of those that end by
    `stop`, by `length` or `in_thought`, whose thought the budget ended (`thought_cut`), or without an answer
    to extract (`unextracted`); empty, and not written: none was generated."""

    @property
    def lower_is_better(self) -> bool:
        """Whether lower values are better: as the task declares, else by the metric's name."""
        told = self.higher_is_better
        return lower_is_better(self.metric) if told is None else not told


LATER_FIELDS: dict[str, Any] = {"num_total": None, "group_members": {}, "higher_is_better": None} | {
    **{"num_truncated": 0, "num_skipped": 0, "texts": {}, "num_samples": 1}
}
"""Field of a Score that earlier versions didn't have -> its default, with which the field isn't written."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one prediction per line, atomically; `prediction_line` may raise before anything is written."""
    write_atomic(path, "".join(prediction_line(prediction) for prediction in predictions))


def prediction_line(prediction: Prediction) -> str:
    """Return the line of a prediction, newline included.

    Raises:
        DataError: The prediction has a value that `read_predictions` refuses, such as an infinite score.
    """
    for name, is_valid in PREDICTION_TYPES.items():
        if not is_valid(value := getattr(prediction, name)):
            raise DataError(
                f"item {prediction.id}: {name} {str(value):.200} can't be written (scores are finite "
                "numbers: remove such a metric from the benchmark's metrics)"
            )
    values = {name: value for name, value in vars(prediction).items() if value or name not in LATER}
    return json.dumps({"schema_version": SCHEMA_VERSION, **values}, ensure_ascii=False) + "\n"


def read_predictions(path: Path) -> list[Prediction]:
    """Read the predictions of one model on one benchmark, in the order of the file.

    Raises:
        DataError: A line is not a prediction of a known schema version.
        OSError, UnicodeDecodeError: The file can't be read.
    """
    # Not splitlines: a text may contain other line ends, such as U+2028, which JSON doesn't escape.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_prediction(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line]


def _prediction(line: str, where: str) -> Prediction:
    try:
        values = parse_json(line)
        version = values.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(f"{where}: schema_version is {version!r} (known: {SCHEMA_VERSION})")
        prediction = Prediction(**values)
        for name, is_valid in PREDICTION_TYPES.items():
            if not is_valid(getattr(prediction, name)):
                raise TypeError(f"{name} is {getattr(prediction, name)!r:.80}")
        return prediction
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a prediction of this project ({error})") from error


def write_results(path: Path, run: dict[str, Any], scores: Iterable[Score]) -> None:
    """Write results.json: `run` (its keys run, recipe, task, base_model, models), then the scores."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **run, "scores": list(map(score_values, scores))})


def score_values(score: Score) -> dict[str, Any]:
    """Convert a score to its entry in results.json, without those `LATER_FIELDS` that have their default."""
    values = asdict(score)
    omitted = {name for name, default in LATER_FIELDS.items() if values[name] == default}
    return {name: value for name, value in values.items() if name not in omitted}


def read_results(path: Path) -> tuple[dict[str, Any], list[Score]]:
    """Read the facts about the run and the scores of a results.json.

    Raises:
        DataError: The file is not a results.json of a known schema version. OSError: It can't be read.
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


def prompt_hash(texts: list[str]) -> str:
    """Return the SHA-256 of all texts that a model reads for an item, 64 hex digits."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
