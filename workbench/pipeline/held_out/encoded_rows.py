"""Encodes held-out rows as training does, and finds their answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from workbench.config.names import IGNORED
from workbench.data.conversations import conversation
from workbench.data.encode import Encoding, encode
from workbench.data.formats import row_format, text
from workbench.data.rows import Row
from workbench.pipeline.run_state import Run


@dataclass(frozen=True)
class HeldOutRow:
    """A held-out row, encoded as if it were trained on."""

    id: str
    """File name and line, see `unique_names`."""
    input_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """First and one-past-last position in `input_ids` of each answer, at least one."""
    text: str
    """Texts of the user's and model's turns, without the system message and what the template adds."""
    prompt: str
    """Decoded ids before the last answer, with special tokens."""
    ending: str
    """Decoded ids of the last answer, with its end token."""
    answer: str
    """The last answer as the row has it; empty for plain text, and if the answer was truncated."""

    @property
    def num_answer_tokens(self) -> int:
        """Number of tokens of the last answer, with its end token."""
        first, end = self.spans[-1]
        return end - first


def encoded_rows(
    rows: Sequence[Row], run: Run, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[HeldOutRow], dict[str, int]]:
    """Encode rows as training does, except rows without an answer and rows longer than the model's context.

    Returns:
        (The encoded rows in order, reason -> number of rows left out.)

    Raises:
        DataError: A row can't be read, or training would drop all of them.
    """
    data = replace(run.config.data, packing=False, shuffle_answers=False)
    encoded = encode(rows, Encoding(tokenizer, data, run.config.model.task))
    texts = own_texts(rows, run)
    context = context_length(run, tokenizer)
    held_out, short_name = [], unique_names()
    for row in encoded.dataset:
        input_ids, spans = tuple(row["input_ids"]), answer_spans(row["labels"])
        if len(input_ids) > context or not spans:
            continue
        first, end = spans[-1]
        spoken, answer = texts[row["where"]]
        ending = str(tokenizer.decode(list(input_ids[first:end])))
        held_out.append(
            HeldOutRow(
                id=short_name(row["where"]),
                input_ids=input_ids,
                spans=spans,
                text=spoken,
                prompt=str(tokenizer.decode(list(input_ids[:first]))),
                ending=ending,
                answer=answer if answer.strip() and answer.strip() in ending else "",
            )
        )
    left_out = {reason: count for reason, count in encoded.account.dropped.items() if count}
    if num_longer := len(encoded.dataset) - len(held_out):
        left_out[f"longer than the model's context of {context:,} tokens"] = num_longer
    return held_out, left_out


def unique_names() -> Callable[[str], str]:
    """Return a function that shortens `folder/file:line` to `file:line`, with ` #2` for a repeated name."""
    counts: dict[str, int] = {}

    def name(where: str) -> str:
        short = where.rsplit("/", 1)[-1]
        counts[short] = counts.get(short, 0) + 1
        return short if counts[short] == 1 else f"{short} #{counts[short]}"

    return name


def own_texts(rows: Sequence[Row], run: Run) -> dict[str, tuple[str, str]]:
    """Return file and line of each row -> (texts of its user and assistant turns, its last answer).

    The turns are joined by newlines. A row of plain text gives (its text, "").

    Raises:
        DataError: A row can't be read.
    """
    texts: dict[str, tuple[str, str]] = {}
    for source, group in groupby(rows, key=lambda row: row.source):
        source_rows = list(group)
        shape = row_format(source_rows[0], run.config.data.of_source(source), run.config.model.task)
        for row in source_rows:
            if shape.name == "text":
                texts[row.where] = text(row, "text"), ""
                continue
            turns = conversation(row, shape).turns
            spoken = "\n".join(turn.text for turn in turns if turn.role in ("user", "assistant"))
            texts[row.where] = spoken, turns[-1].text
    return texts


def answer_spans(labels: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (first, one-past-last position) of each run of labels that aren't -100."""
    spans, start = [], 0
    for is_unmasked, group in groupby(labels, key=lambda label: label != IGNORED):
        end = start + sum(1 for _ in group)
        if is_unmasked:
            spans.append((start, end))
        start = end
    return tuple(spans)


def context_length(run: Run, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens in the model's context, at most `evaluate.max_length`."""
    length = model_length(run, tokenizer)
    return min(length, run.config.evaluate.max_length or length)


def model_length(run: Run, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens in the model's context.

    If the model's config has none, it is the tokenizer's limit, at most 2,048.
    """
    length = getattr(run.model_config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else min(int(tokenizer.model_max_length), 2048)


def turn_ends(rows: Sequence[HeldOutRow], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the special or added tokens that the rows' last answers end with, sorted."""
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    last = {str(tokenizer.convert_ids_to_tokens(row.input_ids[row.spans[-1][1] - 1])) for row in rows}
    return sorted(last & special)
