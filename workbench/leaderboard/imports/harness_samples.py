"""Reads the lines of a samples file of lm-evaluation-harness.

Source: lm_eval 0.4.13, `evaluator.evaluate` (fields of a sample) and
    `loggers/evaluation_tracker.EvaluationTracker.save_results_samples` (how they are written).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.field_checks import LARGEST
from workbench.evaluation.harness.item_scores import NO_FILTER
from workbench.evaluation.harness.sample_predictions import argument_text
from workbench.evaluation.records import prompt_hash
from workbench.files import parse_json
from workbench.leaderboard.imported_items import MOST_BYTES, MOST_ITEMS

LONGEST_LINE = 64 * 2**20
"""Largest line that is read, in bytes."""
SHARED_TEXT = 100
"""Documents that share a text of at least this many characters form a cluster."""
ENDING = 300
"""Number of characters at the end of a prompt that are kept to detect the language."""


@dataclass(frozen=True)
class Sample:
    """One document with the model's answer after one filter of the harness.

    A filter extracts the answer from the model's output.
    """

    number: int
    """Number of the document in its task (`doc_id`)."""
    filter: str
    prompt: str
    """Hash of the texts that the model read, as `ImportedItems.prompts`."""
    plain_prompt: str
    """Hash of the same texts, as `ImportedItems.plain_prompts`."""
    long_texts: tuple[str, ...]
    """Long fields of the document, each as name, zero character, text; documents that share one may form a
    cluster."""
    num_choices: int
    metrics: dict[str, Any]
    """Metric -> value as the harness wrote it."""
    target: Any
    """Right answer as the harness wrote it, often the index of a choice as text."""
    prediction: Any
    """Index of the likeliest choice, or the generated text after the filter; None without responses."""
    text: str
    """Text whose log-likelihood is scored, if the document is a single text; else empty."""
    ending: str
    """Last characters of the prompt, which tell its language."""


def read_samples(path: Path) -> list[Sample]:
    """Return all samples of a samples file, in its order.

    Raises:
        DataError: The file has no samples or can't be read, a line isn't a sample, or a document occurs twice
            with the same filter.
    """
    samples: list[Sample] = []
    lines: dict[tuple[int, str], int] = {}
    for number, values in sample_lines(path):
        sample = sample_of(values, f"{path}:{number}")
        key = sample.number, sample.filter
        if key in lines:
            raise DataError(
                f"{path}:{number}: document {sample.number} is there twice (first on line {lines[key]})"
            )
        lines[key] = number
        samples.append(sample)
    if not samples:
        raise DataError(f"{path}: has no samples")
    return samples


def sample_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number, from 1, and JSON object of each line of a samples file; empty lines are skipped.

    Raises:
        DataError: A line isn't a JSON object or is too long, or the file is too long or can't be read.
    """
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: not a file of at most {MOST_BYTES:,} bytes")
    try:
        with path.open("rb") as file:
            for number in range(1, MOST_ITEMS + 2):
                line = file.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{path}:{number}: longer than {LONGEST_LINE:,} bytes")
                if line.strip():
                    yield number, _object(line, f"{path}:{number}")
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error})") from error
    raise DataError(f"{path}: more than {MOST_ITEMS:,} lines")


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        values = parse_json(line.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{where}: not a sample of lm-evaluation-harness (no object)")
    return values


def sample_of(values: Mapping[str, Any], where: str) -> Sample:
    """Convert the JSON object of a line to a sample.

    Raises:
        DataError: A value is missing or of another type; the message starts with `where`.
    """
    number, metrics = values.get("doc_id"), values.get("metrics")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise DataError(f"{where}: doc_id is {number!r:.80} (a number from 0 on)")
    if not isinstance(metrics, list) or not all(isinstance(name, str) and name in values for name in metrics):
        raise DataError(f"{where}: metrics is {metrics!r:.80} (names of the sample's own values)")
    requests = asked(values, where)
    choices = choices_of(requests)
    return Sample(
        number=number,
        filter=str(values.get("filter", NO_FILTER)),
        prompt=prompt_hash([text for request in requests for text in request])[:16],
        plain_prompt=_plain_hash(requests, choices),
        long_texts=_long_texts(values.get("doc")),
        num_choices=len(choices),
        metrics={name: finite(values[name], name, number, where) for name in metrics},
        target=values.get("target"),
        prediction=_prediction(values, choices),
        text=requests[0][0] if len(requests) == 1 == len(requests[0]) else "",
        ending=requests[0][0][-ENDING:],
    )


def asked(values: Mapping[str, Any], where: str) -> list[list[str]]:
    """Return the texts of each request: [context, continuation], [whole text], or [context, settings].

    Requests without context, which the harness adds for acc_mutual_info, are left out.

    Raises:
        DataError: The sample has no requests.
    """
    requests = _in_order(values.get("arguments"))
    texts = [[argument_text(argument) for argument in _in_order(request)] for request in requests]
    if not texts or not all(texts):
        raise DataError(f"{where}: arguments is {values.get('arguments')!r:.80} (the texts that were asked)")
    metrics = values.get("metrics")
    is_twice = isinstance(metrics, list) and "acc_mutual_info" in metrics
    return texts[: len(texts) // 2] if is_twice and len(texts) > 1 else texts  # the rest has no context


def _in_order(value: Any) -> list[Any]:
    """Return arguments as a list; harness 0.4.4 and later write an object with `arg_0`, ... instead."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def choices_of(requests: Sequence[Sequence[str]]) -> list[str]:
    """Return the continuations among a document's requests (`asked`), one per choice.

    Empty for generated answers and single texts.
    """
    return [request[1] for request in requests if len(request) > 1] if len(requests) > 1 else []


def _plain_hash(requests: Sequence[Sequence[str]], choices: Sequence[str]) -> str:
    contexts = [request[0] for request in requests]
    if len(set(contexts)) == 1:
        contexts = contexts[:1]
    return prompt_hash([*contexts, *choices, ""])[:16]


def _long_texts(doc: Any) -> tuple[str, ...]:
    """Return each field of a document with at least `SHARED_TEXT` characters: name, zero character, text.

    Documents that share a long text may form a cluster.
    """
    if not isinstance(doc, dict):
        return ()
    return tuple(
        f"{name}\0{text}" for name, text in doc.items() if isinstance(text, str) and len(text) >= SHARED_TEXT
    )


def finite(value: Any, name: str, number: int, where: str) -> Any:
    """Return a metric's value of a document after checking it; a boolean becomes 0.0 or 1.0.

    Args:
        value: The value, or a list such as [log-likelihood, weight].
        name: Name of the metric, for the message.
        number: Number of the document, for the message.
        where: File and line, with which the message starts.

    Raises:
        DataError: The value, or a number in it, is NaN, infinite or too large to be a score.
    """
    if isinstance(value, bool):
        return float(value)
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(entry, int | float) and not abs(entry) < LARGEST for entry in numbers):
        raise DataError(f"{where}: {name} of document {number} is {value!r:.80} (finite numbers only)")
    return value


def _prediction(values: Mapping[str, Any], choices: Sequence[str]) -> Any:
    """Return the index of the likeliest continuation, or the filtered text; None without responses."""
    responses = values.get("filtered_resps")
    if not isinstance(responses, list) or not responses:
        return None
    if not choices:
        return str(responses[0])
    likelihoods = loglikelihoods(responses)[: len(choices)]
    return likelihoods.index(max(likelihoods)) if likelihoods else None


def loglikelihoods(responses: Any) -> list[float]:
    """Return the log-likelihood of each continuation, from the responses as the harness writes them.

    Empty if a response isn't a number, or is NaN.
    """
    numbers = []
    for response in responses if isinstance(responses, list) else []:
        while isinstance(response, list) and response:
            response = response[0]
        try:
            number = float(response)
        except (TypeError, ValueError):
            return []
        if number != number:
            return []
        numbers.append(number)
    return numbers


def clusters(samples: Sequence[Sample]) -> list[str]:
    """Return each sample's cluster: the hash of the longest text that it shares with another; else empty.

    A text that all samples share doesn't count.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        for text in sample.long_texts:
            counts[text] = counts.get(text, 0) + 1
    labels = []
    for sample in samples:
        shared = [text for text in sample.long_texts if 1 < counts[text] < len(samples)]
        labels.append(prompt_hash([max(shared, key=len)])[:16] if shared else "")
    return labels


def item_score(value: Any) -> float | None:
    """Return the score of one item from the harness's value; None if the value isn't an item's score.

    A value may be [log-likelihood, weight], whose score is the log-likelihood, or [right label, predicted
    label], whose score is 1 if they are equal.
    """
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list) and len(value) == 2:
        first, second = value
        if isinstance(first, float) and isinstance(second, int | float):
            return first
        if are_labels(value):
            return float(first == second)
    return None


def are_labels(value: Any) -> bool:
    """Return whether a metric's value is a pair [right label, predicted label]."""
    return isinstance(value, list) and len(value) == 2 and all(type(label) is int for label in value)
