"""Packs the items of one column: outcomes, answers, margins, questions, generated texts, likelihoods."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.leaderboard.board import Outcomes
from workbench.leaderboard.page.containers import RUNS, packed
from workbench.leaderboard.page.plain import column_of, shortened
from workbench.leaderboard.page.size_limit import Shelf
from workbench.leaderboard.page.texts import ColumnTexts
from workbench.shown import clean

OUTCOMES, CHOSEN, QUESTIONS, MARGINS, REST, TEXTS, LIKELIHOODS, MORE_TEXTS, MORE_LIKELIHOODS = range(9)
"""Priorities of chunks, highest first. QUESTIONS: those whose scores differ between models; REST: the other
questions. TEXTS, LIKELIHOODS: of items on which a score differs from the reference's; MORE_: the others."""

NO_CHOICE = 255
"""Code of a model's choice that is none of the options."""

MARGIN_STEP = 0.1
"""Nats per unit of packed margins, which are clipped at 12.7 nats."""

LIKELIHOOD_STEP = 0.01
"""Nats per unit of packed log-likelihoods; doubled until all log-likelihoods of a column fit into 16 bits."""

LONGEST_QUESTION, LONGEST_TEXT, LONGEST_CHOICE = 2000, 1200, 600
"""Longest text that is shown, in characters; a longer one loses its beginning."""

MOST_TEXT = 6_000_000
"""Characters of a column's generated texts from which on further texts are left out."""


def add_items(
    shelf: Shelf, number: int, outcomes: Outcomes, texts: ColumnTexts | None, reference: int
) -> None:
    """Pack the items of a column into chunks and add the chunks to `shelf`, which drops those that don't fit.

    Args:
        shelf: Collects the chunks, which are named after their kind and the column, as `chosen-3`.
        number: Index of the column on the board.
        outcomes: Item scores of the column.
        texts: Questions and answers; None if there are none.
        reference: Row of the model whose differing answers go first.
    """
    shelf.add(f"items-{number}", OUTCOMES, packed_outcomes(outcomes))
    if texts is None:
        return
    values = outcomes.values
    if texts.chosen is not None:
        shelf.add(f"chosen-{number}", CHOSEN, packed_chosen(texts.chosen))
    is_split = np.ptp(values, axis=0) > 0 if len(values) else np.zeros(len(outcomes.ids), bool)
    if shelf.left(QUESTIONS) > 0:
        shelf.add(f"questions-{number}", QUESTIONS, packed_questions(texts, is_split))
    if shelf.left(REST) > 0:
        shelf.add(f"more_questions-{number}", REST, packed_questions(texts, ~is_split))
    if texts.loglikelihoods is not None and texts.loglikelihoods.size and shelf.left(MARGINS) > 0:
        shelf.add(f"margins-{number}", MARGINS, packed_margins(texts.loglikelihoods, texts.targets))
    if len(values):
        add_answers(shelf, number, texts, differs_from(values, reference))


def differs_from(values: NDArray[np.float64], reference: int) -> NDArray[np.bool_]:
    """Mark, in each model's row, the items on which it scores otherwise than the reference.

    The reference's row marks the items on which any model scores otherwise.

    Returns:
        (num_models, num_items) booleans.
    """
    differs: NDArray[np.bool_] = values != values[reference]
    differs[reference] = differs.any(0)
    return differs


def add_answers(shelf: Shelf, number: int, texts: ColumnTexts, differs: NDArray[np.bool_]) -> None:
    """Add chunks of generated texts and log-likelihoods; those marked in `differs` get a higher priority.

    Args:
        shelf: Collects the chunks.
        number: Index of the column on the board.
        texts: Questions and answers of the column.
        differs: (num_models, num_items) booleans, from `differs_from`.
    """
    if texts.generations is not None:
        for priority, name, mask in ((TEXTS, "texts", differs), (MORE_TEXTS, "more_texts", ~differs)):
            if shelf.left(priority) > 0:
                shelf.add(f"{name}-{number}", priority, packed_generations(texts.generations, mask))
    if texts.loglikelihoods is not None and texts.loglikelihoods.size:
        pairs = ((LIKELIHOODS, "likelihoods", differs), (MORE_LIKELIHOODS, "more_likelihoods", ~differs))
        for priority, name, mask in pairs:
            if shelf.left(priority) > 0:
                shelf.add(f"{name}-{number}", priority, packed_likelihoods(texts.loglikelihoods, mask))


def packed_outcomes(outcomes: Outcomes) -> str:
    """Pack ids, subjects, clusters and scores of a column's items.

    A score is an index of 1, 8 or 16 bits into `levels`, the distinct scores; with more than 65,536 of these,
    a float32. Scores are ordered by item, then by model, which compresses better, as models agree more than
    items do.
    """
    names = list(dict.fromkeys(outcomes.subsets))
    code = {name: index for index, name in enumerate(names)}
    levels, inverse = np.unique(outcomes.values, return_inverse=True)
    scores = inverse.reshape(outcomes.values.shape).T
    arrays: dict[str, NDArray[Any]] = {
        "subsets": np.array([code[name] for name in outcomes.subsets], np.uint16)
    }
    values: dict[str, Any] = {
        "ids": [clean(name) for name in outcomes.ids],
        "subsets": [clean(name) for name in names],
    }
    if len(np.unique(outcomes.clusters)) < len(outcomes.ids):
        arrays["clusters"] = outcomes.clusters.astype(np.int32)
    if len(levels) <= 2:
        arrays["scores"] = np.packbits(scores.astype(np.uint8), bitorder="little")
        values |= {"bits": 1, "levels": column_of(levels)}
    elif len(levels) <= 2**16:
        arrays["scores"] = scores.astype(np.uint8 if len(levels) <= 2**8 else np.uint16)
        values |= {"bits": 8 * arrays["scores"].itemsize, "levels": column_of(levels)}
    else:
        arrays["scores"] = np.ascontiguousarray(outcomes.values.T, np.float32)
        values |= {"bits": 32, "levels": []}
    return packed(values, arrays)


def packed_chosen(chosen: NDArray[np.int16]) -> str:
    """Pack the index of the option that each model chose for each item, ordered by item, then by model."""
    codes = np.where((chosen < 0) | (chosen >= NO_CHOICE), NO_CHOICE, chosen)
    return packed({}, {"chosen": np.ascontiguousarray(codes.T, np.uint8)}, RUNS)


def packed_questions(texts: ColumnTexts, mask: NDArray[np.bool_]) -> str:
    """Pack question, options and right answers of the items that `mask` (num_items,) marks."""
    places = np.flatnonzero(mask).tolist()
    values = {
        "questions": [shortened(texts.questions[place], LONGEST_QUESTION) for place in places],
        "choices": [[shortened(text, LONGEST_CHOICE) for text in texts.choices[place]] for place in places],
        "targets": [[_target(target) for target in texts.targets[place]] for place in places],
    }
    return packed(values, {"places": np.array(places, np.uint32)})


def _target(target: int | str) -> int | str:
    return int(target) if isinstance(target, int | np.integer) else shortened(str(target), LONGEST_TEXT)


def packed_margins(loglikelihoods: NDArray[np.float32], targets: Any) -> str:
    """Pack the margins of `margins_of` as int8, in steps of 0.1 nats; -128 stands for NaN."""
    margins = margins_of(loglikelihoods, targets)
    steps = np.clip(np.round(margins / MARGIN_STEP), -127, 127)
    codes = np.where(np.isnan(steps), -128, steps).astype(np.int8)
    return packed({"step": MARGIN_STEP}, {"margins": np.ascontiguousarray(codes.T)}, RUNS)


def margins_of(loglikelihoods: NDArray[np.float32], targets: Any) -> NDArray[np.float32]:
    """Return the log-likelihood of the likeliest right option minus that of the likeliest wrong one.

    Returns:
        (num_models, num_items) in nats; NaN where right or wrong options have no likelihood.
    """
    _, num_items, num_choices = loglikelihoods.shape
    is_right = np.zeros((num_items, num_choices), bool)
    for item, indices in enumerate(targets):
        known_indices = [i for i in indices if isinstance(i, int | np.integer) and 0 <= i < num_choices]
        is_right[item, np.array(known_indices, int)] = True
    unknown = np.float32(-np.inf)
    right = wrong = np.full(loglikelihoods.shape[:2], unknown)
    for choice in range(num_choices):  # far faster than a maximum over the short last axis
        likelihoods = loglikelihoods[:, :, choice]
        right = np.fmax(right, np.where(is_right[:, choice], likelihoods, unknown))
        wrong = np.fmax(wrong, np.where(is_right[:, choice], unknown, likelihoods))
    is_known = np.isfinite(right) & np.isfinite(wrong)
    margins: NDArray[np.float32] = np.full(right.shape, np.nan, np.float32)
    np.subtract(right, wrong, out=margins, where=is_known)
    return margins


def packed_generations(generations: Any, mask: NDArray[np.bool_]) -> str:
    """Pack the generated texts that `mask` (num_models, num_items) marks, each distinct text once.

    A code is the number of a text, counted from 1; 0: no text, not marked, or left out by `MOST_TEXT`.
    """
    codes = np.zeros(mask.T.shape, np.uint32)
    known: dict[str, int] = {}
    room = MOST_TEXT
    for item, row in np.argwhere(mask.T).tolist():
        text = generations[row][item]
        if text is None:
            continue
        code = known.get(text)
        if code is None:
            room -= min(len(text), LONGEST_TEXT)
            if room < 0:
                break
            code = known[text] = len(known) + 1
        codes[item, row] = code
    return packed({"texts": [shortened(text, LONGEST_TEXT) for text in known]}, {"codes": codes})


def packed_likelihoods(loglikelihoods: NDArray[np.float32], mask: NDArray[np.bool_]) -> str:
    """Pack all options' log-likelihoods where `mask` (num_models, num_items) is true, ordered by item."""
    chosen = loglikelihoods.transpose(1, 0, 2)[mask.T]
    largest = float(np.max(np.abs(chosen), initial=0.0, where=np.isfinite(chosen)))
    step = LIKELIHOOD_STEP
    while largest / step > 32767:
        step *= 2
    steps = np.where(np.isfinite(chosen), np.round(chosen / step), -32768).astype(np.int16)
    arrays: dict[str, NDArray[Any]] = {"mask": np.packbits(mask.T, bitorder="little"), "values": steps}
    return packed({"step": step, "choices": loglikelihoods.shape[2]}, arrays, RUNS)
