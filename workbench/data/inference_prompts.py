"""A row's prompt as the model is given it, for answers instead of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.chat.doubled_tokens import labelled_once
from workbench.data.chat.prepare_chat import prepared
from workbench.data.classification import labelled_text
from workbench.data.conversations import conversation
from workbench.data.formats import check_one_format, row_format
from workbench.data.rows import Row
from workbench.data.tokens.segments import encode_segments, ids_of, special_frame


@dataclass(frozen=True)
class Prompt:
    """What stands before an answer, or the text to be classified."""

    text: str
    input_ids: list[int]
    where: str


def prompts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, data: DataConfig, task: Task
) -> list[Prompt]:
    """The prompts of rows that have no answer yet (one that they have is left out), none of them cut.

    The ids are exactly those that training puts before the answer of the same row, where it cuts nothing.

    Raises:
        DataError: A row that can't be read.
    """
    check_one_format(rows, data, task, answered=False)
    found: list[Prompt] = []
    for source, part in groupby(rows, key=lambda row: row.source):
        found += source_prompts(list(part), tokenizer, data.of_source(source), task)
    return found


def source_prompts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, data: DataConfig, task: Task
) -> list[Prompt]:
    """The prompts of rows of one source."""
    if task is Task.sequence_classification:
        texts = [labelled_once(labelled_text(row, answered=False), tokenizer)[0] for row in rows]
        prefix, suffix = special_frame(tokenizer)
        ids = ids_of([each.text for each in texts], tokenizer)
        return [Prompt(t.text, [*prefix, *own, *suffix], t.where) for t, own in zip(texts, ids, strict=True)]
    shape = row_format(rows[0], data, task, answered=False)
    conversations = [conversation(row, shape, answered=False) for row in rows]
    chats = prepared(conversations, tokenizer, data, answers=True)
    render = chats.renderer
    segments = [render.prompt(example) for example in chats.conversations]
    encoded = encode_segments(segments, chats.encoder, render.prefix())
    return [
        Prompt(chats.shown("".join(segment.text for segment in parts)), tokens.input_ids, example.where)
        for parts, tokens, example in zip(segments, encoded, chats.conversations, strict=True)
    ]
