"""Held-out rows in the tokens that training would give them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from workbench.config.names import IGNORED
from workbench.data.conversations import conversation
from workbench.data.encode import Encoding, encode
from workbench.data.formats import row_format
from workbench.data.rows import Row
from workbench.pipeline.run_state import Run


@dataclass(frozen=True)
class HeldOutRow:
    """A row in the tokens that it would be trained in."""

    id: str
    input_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """First and one-past-last position of each answer."""
    prompt: str
    """What stands before the last answer, special tokens included."""
    ending: str
    """The last answer as it is trained, with its end."""
    answer: str
    """The last answer as the row has it; empty for plain text, and where it was cut."""

    @property
    def num_answer_tokens(self) -> int:
        """Of the last answer, its end included."""
        first, end = self.spans[-1]
        return end - first


def encoded_rows(
    rows: Sequence[Row], run: Run, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[HeldOutRow], dict[str, int]]:
    """The rows as training encodes them, and how many are left out, by reason.

    Left out are those without a token of an answer, and those longer than the model's context.
    """
    data = replace(run.config.data, packing=False, shuffle_answers=False)
    encoded = encode(rows, Encoding(tokenizer, data, run.config.model.task))
    said = last_answers(rows, run)
    room = context_length(run, tokenizer)
    found, ids = [], unique()
    for row in encoded.dataset:
        input_ids, spans = tuple(row["input_ids"]), answer_spans(row["labels"])
        if len(input_ids) > room or not spans:
            continue
        first, end = spans[-1]
        answer = said[row["where"]]
        ending = str(tokenizer.decode(list(input_ids[first:end])))
        found.append(
            HeldOutRow(
                id=ids(row["where"]),
                input_ids=input_ids,
                spans=spans,
                prompt=str(tokenizer.decode(list(input_ids[:first]))),
                ending=ending,
                answer=answer if answer.strip() and answer.strip() in ending else "",
            )
        )
    lost = {reason: count for reason, count in encoded.account.dropped.items() if count}
    if longer := len(encoded.dataset) - len(found):
        lost[f"longer than the {room:,} tokens that the model can hold"] = longer
    return found, lost


def unique() -> Callable[[str], str]:
    """A function that makes a short name of a row's place, each another one."""
    seen: dict[str, int] = {}

    def name(where: str) -> str:
        short = where.rsplit("/", 1)[-1]
        seen[short] = seen.get(short, 0) + 1
        return short if seen[short] == 1 else f"{short} #{seen[short]}"

    return name


def last_answers(rows: Sequence[Row], run: Run) -> dict[str, str]:
    """Place of each row -> its last answer as text; empty for plain text."""
    found: dict[str, str] = {}
    for source, part in groupby(rows, key=lambda row: row.source):
        some = list(part)
        shape = row_format(some[0], run.config.data.of_source(source), run.config.model.task)
        for row in some:
            is_text = shape.name == "text"
            found[row.where] = "" if is_text else conversation(row, shape).turns[-1].text
    return found


def answer_spans(labels: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """First and one-past-last position of each run of tokens that a loss falls on."""
    spans, start = [], 0
    for is_trained, part in groupby(labels, key=lambda label: label != IGNORED):
        end = start + sum(1 for _ in part)
        if is_trained:
            spans.append((start, end))
        start = end
    return tuple(spans)


def context_length(run: Run, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model can read, or that `evaluate.max_length` allows."""
    held = model_length(run, tokenizer)
    return min(held, run.config.evaluate.max_length or held)


def model_length(run: Run, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model can read."""
    length = getattr(run.model_config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else min(int(tokenizer.model_max_length), 2048)


def turn_ends(rows: Sequence[HeldOutRow], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that the rows' last answers end with."""
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    last = {str(tokenizer.convert_ids_to_tokens(row.input_ids[row.spans[-1][1] - 1])) for row in rows}
    return sorted(last & special)
