"""Encodes the prompts of rows for generation and classification."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.chat.doubled_tokens import strip_added_tokens_of_pair
from workbench.data.chat.prepare_chat import prepared
from workbench.data.classification import labelled_text
from workbench.data.conversations import conversation
from workbench.data.formats import check_one_format, row_format
from workbench.data.rows import Row
from workbench.data.tokens.segments import encode_segments, ids_of, special_frame


@dataclass(frozen=True)
class Prompt:
    """Model input for one row: the text before the answer, or the text to classify."""

    text: str
    """The rendered text, with the chat template's control tokens; without those that encoding adds."""
    input_ids: list[int]
    where: str
    """File and line of the row."""
    asked: str
    """Text of the last turn, without what the chat template writes; for a classifier, as `text`."""


def prompts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, data: DataConfig, task: Task
) -> list[Prompt]:
    """Encode the prompts of rows, one for each row in order, without truncation; final answers are ignored.

    The ids equal those before the answer in the training row, unless training truncates it.

    Raises:
        DataError: A row can't be read or rendered, or files of one source have different formats.
    """
    check_one_format(rows, data, task, answered=False)
    encoded: list[Prompt] = []
    for source, source_rows in groupby(rows, key=lambda row: row.source):
        encoded += source_prompts(list(source_rows), tokenizer, data.of_source(source), task)
    return encoded


def source_prompts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, data: DataConfig, task: Task
) -> list[Prompt]:
    """Encode the prompts of the rows (at least one) of one source, which all have one data format.

    Raises:
        DataError: A row can't be read or rendered.
    """
    if task is Task.sequence_classification:
        texts = [strip_added_tokens_of_pair(labelled_text(row, answered=False), tokenizer)[0] for row in rows]
        prefix, suffix = special_frame(tokenizer)
        ids = ids_of([example.text for example in texts], tokenizer)
        return [
            Prompt(example.text, [*prefix, *text_ids, *suffix], example.where, example.text)
            for example, text_ids in zip(texts, ids, strict=True)
        ]
    shape = row_format(rows[0], data, task, answered=False)
    conversations = [conversation(row, shape, answered=False) for row in rows]
    chats = prepared(conversations, tokenizer, data, answers=True)
    render = chats.renderer
    segments = [render.prompt(example) for example in chats.conversations]
    encoded = encode_segments(segments, chats.encoder, render.prefix())
    return [
        Prompt(
            chats.shown("".join(segment.text for segment in prompt)),
            tokens.input_ids,
            example.where,
            example.turns[-1].text,
        )
        for prompt, tokens, example in zip(segments, encoded, chats.conversations, strict=True)
    ]
