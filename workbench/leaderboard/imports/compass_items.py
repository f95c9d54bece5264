"""Reads an OpenCompass predictions file, and whether each item is right from the results file.

Source: OpenCompass 0.5.4, `openicl/icl_inferencer/icl_base_inferencer.py` (the output handlers),
    `tasks/openicl_eval.py` (`_load_predictions`, `format_details`) and `openicl/icl_evaluator`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.harness.item_scores import item_id
from workbench.evaluation.records import Prediction, prompt_hash
from workbench.files import read_json
from workbench.leaderboard.imported_items import MOST_ITEMS, ImportedItems

LABEL = "label: "
CORRECT = ("correct", "is_correct", "cascade_correct")
"""Keys by which OpenCompass's evaluators tell whether an item is right."""
TOTALS = {"accuracy": "acc", "acc": "acc", "exact_match": "exact_match", "score": "score"}
"""Key of a total in percent -> name of its metric."""
PERCENT_TOLERANCE = 0.006
"""Difference between totals in percent that counts as rounding to two digits."""

Entry = Mapping[str, Any]


def read_items(paths: Sequence[Path], results: Path, subset: str) -> ImportedItems:
    """Return the items of one OpenCompass dataset.

    Args:
        paths: The dataset's predictions file, or the files of its parts in order.
        results: The dataset's results file, which needn't exist.
        subset: Subject of the dataset in its benchmark, which the ids start with; empty: the dataset is the
            benchmark.

    Raises:
        DataError: A file is damaged, or the items' scores are missing or contradict the reported total.
    """
    entries = _entries(paths)
    values = _json(results) if results.is_file() else {}
    correct = _correct(entries, values.get("details"))
    metric = _metric(correct, values, results)
    contexts = [_texts(entry) for entry in entries]
    prompts = [prompt_hash([*texts])[:16] for texts in contexts]
    counts = Counter(prompts)
    choices = [_choices(entry) for entry in entries]
    return ImportedItems(
        ids=[item_id(subset, number) for number in range(len(entries))],
        subsets=[subset] * len(entries),
        prompts=prompts,
        plain_prompts=[
            _plain_hash(texts, len(found)) for texts, found in zip(contexts, choices, strict=True)
        ],
        clusters=[prompt if counts[prompt] > 1 else "" for prompt in prompts],
        num_choices=[len(found) for found in choices],
        values={metric: correct},
        meanings={},
        weights={},
        targets=[_target(entry, found) for entry, found in zip(entries, choices, strict=True)],
        predictions=[_answer(entry, found) for entry, found in zip(entries, choices, strict=True)],
        texts=[""] * len(entries),
        read=lambda: _predictions(paths, subset, metric, correct),
    )


def has_examples(paths: Sequence[Path]) -> bool:
    """Return whether the first prompt in a dataset's predictions files has few-shot examples.

    Raises:
        DataError: The first file is damaged.
    """
    first = _entries(paths[:1])[0]
    prompt = first.get("origin_prompt")
    if isinstance(prompt, list):
        questions = [turn for turn in prompt if isinstance(turn, dict) and turn.get("role") == "HUMAN"]
        return len(questions) > 1
    return bool(first.get("in-context examples"))


def _json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not a file of OpenCompass (no object)")
    return values


def _entries(paths: Sequence[Path]) -> list[Entry]:
    """Return the entries of all predictions files of a dataset: file by file, in each by number from 0.

    Raises:
        DataError: A file's numbers aren't 0, 1, 2, ..., or an entry has no prediction.
    """
    entries: list[Entry] = []
    for path in paths:
        values = _json(path)
        if not values or len(values) > MOST_ITEMS:
            raise DataError(f"{path}: has {len(values):,} items (1 to {MOST_ITEMS:,})")
        for number in range(len(values)):
            entry = values.get(str(number))
            if not isinstance(entry, dict) or "prediction" not in entry:
                raise DataError(f"{path}: item {number} has no prediction (items are numbered from 0)")
            entries.append(entry)
    return entries


def _correct(entries: Sequence[Entry], details: Any) -> list[float]:
    """Return 1.0 for each right and 0.0 for each wrong item.

    OpenCompass's details say which are right; without details, the chosen and the right label do.

    Raises:
        DataError: There are neither details nor labels, or the details have another number of items.
    """
    told = _rightness(details)
    replicas, rest = divmod(len(entries), len(told)) if told else (0, 0)
    if told and rest == 0 and all(len(flags) == replicas for flags in told):
        # Samples of a question are written replica after replica.
        return [float(flags[replica]) for replica in range(replicas) for flags in told]
    if told:
        raise DataError(f"details of {len(told):,} items, predictions of {len(entries):,}")
    if all(_choices(entry) and "gold" in entry for entry in entries):
        return [float(str(_chosen(entry)) == str(entry["gold"])) for entry in entries]
    raise DataError("which items are right isn't told (evaluate with --dump-eval-details)")


def _rightness(details: Any) -> list[list[bool]]:
    """Return, for each item in OpenCompass's details, one boolean per answer: whether it is right.

    Empty if an item of the details has no such boolean.
    """
    if isinstance(details, dict):
        details = [details[str(number)] for number in range(len(details)) if str(number) in details]
    told = []
    for detail in details if isinstance(details, list) else []:
        flags = (
            next((detail[key] for key in CORRECT if key in detail), None)
            if isinstance(detail, dict)
            else None
        )
        flags = flags if isinstance(flags, list) else [flags]
        if not all(isinstance(flag, bool) or flag in (0, 1) for flag in flags):
            return []
        told.append([bool(flag) for flag in flags])
    return told


def _metric(correct: Sequence[float], values: Mapping[str, Any], path: Path) -> str:
    """Return the metric whose reported total equals the share of right items; `acc` without a total.

    Raises:
        DataError: All reported totals differ from that share.
    """
    percent = 100 * sum(correct) / len(correct)
    totals = {key: value for key in TOTALS if isinstance(value := values.get(key), int | float)}
    for key, value in totals.items():
        if abs(value - percent) <= PERCENT_TOLERANCE:
            return TOTALS[key]
    if totals:
        key, value = next(iter(totals.items()))
        raise DataError(f"{path.name} says {key} {value:.6g}, the items {percent:.6g}")
    return "acc"


def _choices(entry: Entry) -> list[str]:
    """Return the labels whose likelihoods were compared; empty for a generated answer."""
    if isinstance(entry.get("choices"), list):
        return [str(choice) for choice in entry["choices"]]
    return [key.removeprefix(LABEL) for key in entry if key.startswith(LABEL)]


def _chosen(entry: Entry) -> Any:
    if isinstance(entry.get("choices"), list):
        label = entry.get("pred_label")
        is_index = isinstance(label, int) and 0 <= label < len(entry["choices"])
        return entry["choices"][label] if is_index else None
    return entry["prediction"]


def _texts(entry: Entry) -> list[str]:
    """Return the texts that the model read: one prompt per label, or the one prompt of a generated answer."""
    labels = [entry[key] for key in entry if key.startswith(LABEL)]
    if labels:
        return [_text(label.get("prompt") if isinstance(label, dict) else label) for label in labels]
    return [_text(entry.get("prompt", entry.get("origin_prompt", "")))]


def _text(prompt: Any) -> str:
    """Return a prompt as one text; a chat's prompt has one line per turn."""
    if isinstance(prompt, list):
        turns = [turn.get("prompt", turn) if isinstance(turn, dict) else turn for turn in prompt]
        return "\n".join(_text(turn) for turn in turns)
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)


def _context(texts: Sequence[str], num_choices: int) -> tuple[str, list[str]]:
    """Split the scored texts into their common beginning, the context, and the rest of each, its choice.

    For a generated answer: the prompt, and no choices.
    """
    if len(texts) < 2 or len(texts) != num_choices:
        return texts[0], []
    context = commonprefix(list(texts))
    return context, [text[len(context) :] for text in texts]


def _plain_hash(texts: Sequence[str], num_choices: int) -> str:
    context, answers = _context(texts, num_choices)
    return prompt_hash([context, *answers, ""])[:16]


def _answer(entry: Entry, choices: Sequence[str]) -> int | str | None:
    chosen = _chosen(entry)
    if choices:
        return choices.index(str(chosen)) if str(chosen) in choices else None
    return chosen if isinstance(chosen, str) else _text(chosen)


def _target(entry: Entry, choices: Sequence[str]) -> int | str | list[str]:
    gold = entry.get("gold")
    if choices:
        return choices.index(str(gold)) if str(gold) in choices else str(gold)
    return [str(text) for text in gold] if isinstance(gold, list) else str(gold)


def _predictions(
    paths: Sequence[Path], subset: str, metric: str, correct: Sequence[float]
) -> list[Prediction]:
    """Read the files again and return the items as predictions with all texts.

    Raises:
        DataError: The files were changed since the items were read.
    """
    entries = _entries(paths)
    if len(entries) != len(correct):
        raise DataError(f"{paths[0]}: was changed while it was read")
    predictions = []
    for number, (entry, value) in enumerate(zip(entries, correct, strict=True)):
        choices, texts = _choices(entry), _texts(entry)
        context, answers = _context(texts, len(choices))
        likelihoods = [entry[key].get("Loglikelihood") for key in entry if key.startswith(LABEL)]
        is_known = likelihoods and all(isinstance(one, float) and one == one for one in likelihoods)
        predictions.append(
            Prediction(
                id=item_id(subset, number),
                subset=subset,
                prompt_hash=prompt_hash(texts)[:16],
                context=context,
                choices=answers or choices,
                loglikelihoods=likelihoods if is_known else [],
                generation=None if choices else _text(entry["prediction"]),
                prediction=_answer(entry, choices),
                target=_target(entry, choices),
                scores={metric: value},
            )
        )
    return predictions
