"""Encodes rows into data sets of token ids, and counts what was truncated and dropped."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, DataFormat, Thoughts
from workbench.config.model import Task
from workbench.data.chat.doubled_tokens import strip_added_tokens, strip_added_tokens_of_pair
from workbench.data.chat.prepare_chat import prepared
from workbench.data.chat.render_turns import Renderer, RewrittenError
from workbench.data.chat.rewritten_turns import SPLIT, pieces
from workbench.data.chat.saved_template import ChatForm, chat_form
from workbench.data.classes import has_hidden_ends
from workbench.data.classification import (
    HIDDEN_ENDS,
    label_names,
    label_number,
    labelled_text,
    target,
    text_ids,
)
from workbench.data.conversations import Conversation, conversation, with_shuffled_answers
from workbench.data.encoded import Encoded, as_dataset
from workbench.data.example import Example
from workbench.data.formats import row_format, text, unread_columns
from workbench.data.mask_check.check_masks import MaskCheck
from workbench.data.packing import check_packed, packed
from workbench.data.pretraining import blocks, document_ids
from workbench.data.pretraining import pieces as text_pieces
from workbench.data.readers.row_store import by_source
from workbench.data.row_counts import Account
from workbench.data.rows import Row
from workbench.data.tokens.control_tokens import ControlTokens, control_tokens, written_once
from workbench.data.tokens.literal_tokens import LiteralTokenizer, split_up
from workbench.data.tokens.segments import Segment, encode_segments, shortened, special_frame
from workbench.errors import DataError

BATCH = 1000
"""Rows per call of the tokenizer."""

NOTHING_TRAINED = "no unmasked answer: its weight is 0, or it has no prompt"
"""Reason for dropping a chat."""


@dataclass(frozen=True)
class Encoding:
    """Everything, besides the rows, that decides how rows become token ids and labels."""

    tokenizer: PreTrainedTokenizerBase
    """The model's tokenizer."""
    data: DataConfig
    """The section `data` of the configuration: format, template, lengths."""
    task: Task
    """Whether the loss is on answers (causal model) or on classes (classifier)."""
    seed: int = 0
    """Seed of `data.shuffle_answers` and of the choice of rows whose masks are checked."""
    names: Sequence[str] = ()
    """Class names in the order of their indices; empty: those of `label_names`, from `data` or the rows."""


def encode(rows: Sequence[Row], encoding: Encoding) -> Encoded:
    """Encode rows to the Trainer's data set, and count what was cut and dropped.

    The loss is on the answers of chats, on all tokens of plain texts, and on the class of labelled texts.

    Raises:
        DataError: A row can't be read, its loss mask is wrong, or no row is left to train on.
    """
    account = Account(num_rows=len(rows))
    examples = examples_of(rows, encoding, account)
    return Encoded(as_dataset(examples, encoding.data, account), account)


def examples_of(rows: Sequence[Row], encoding: Encoding, account: Account) -> list[Example]:
    """Encode rows to examples, in the order of the rows unless `data.packing` packs them.

    Cut, dropped and changed rows are counted in `account`; its number of rows must already be set.

    Raises:
        DataError: A row can't be read, or its loss mask is wrong.
    """
    examples: list[Example] = []
    for source, part in by_source(rows):
        of_source = replace(encoding, data=encoding.data.of_source(source))
        examples += source_examples(part, of_source, account)
    if encoding.data.packing and encoding.task is Task.causal_lm:
        together = list(packed(examples, encoding.data.max_length))
        check_packed(examples, together)
        return together
    return examples


def source_examples(rows: Sequence[Row], encoding: Encoding, account: Account) -> Iterator[Example]:
    """Yield the examples of the rows (at least one) of one source, which all have one data format.

    Rows are counted in `account` while the iterator runs.

    Raises:
        DataError: As for `examples_of`; a key about answers is set for rows without answers.
    """
    shape = row_format(rows[0], encoding.data, encoding.task)
    account.noted.update(unread_columns(rows, shape))
    if shape in (DataFormat["labelled"], DataFormat["text"]):
        refuse_chat_keys(encoding.data, rows[0].where, shape.name)
    if shape is DataFormat["labelled"]:
        return classified(rows, encoding, account)
    if shape is DataFormat["text"]:
        return documents(rows, encoding.tokenizer, encoding.data, account)
    return answers(rows, encoding, shape, account)


def refuse_chat_keys(data: DataConfig, where: str, shape: str) -> None:
    """Refuse keys about answers for rows of plain text and of labelled text.

    Args:
        data: The section `data` of the rows' source.
        where: File and line of a row, for the message.
        shape: Name of the rows' data format, for the message.

    Raises:
        DataError: `data.thoughts` or `data.template_arguments` is set.
    """
    is_set = {"thoughts": data.thoughts is not Thoughts.train, "template_arguments": data.template_arguments}
    for key in (key for key, value in is_set.items() if value):
        raise DataError(
            f"data.{key}: {where} is {shape!r}, and such rows have no answers of a chat (leave it out, or "
            "write it into the data.sources.NAME that are chats)"
        )


def answers(
    rows: Sequence[Row], encoding: Encoding, shape: DataFormat, account: Account
) -> Iterator[Example]:
    """Yield the examples of conversations, with loss on the answers; count rows in `account`.

    Examples without an answer (within `data.max_length`) are dropped. `MaskCheck` compares a sample of the
    examples with what they should be.

    Raises:
        DataError: A row can't be read or rendered, or `MaskCheck` refuses a loss mask.
    """
    data, seed = encoding.data, encoding.seed
    conversations = [conversation(row, shape) for row in rows]
    if data.shuffle_answers:
        conversations = with_shuffled_answers(conversations, seed)
    chats = prepared(conversations, encoding.tokenizer, data)
    conversations, render = chats.conversations, chats.renderer
    prefix = render.prefix()
    for example in conversations:
        account.unwritten.update(render.unwritten(example))
        account.noted.update(example.notes)
        account.count_control(render.control, [turn.text for turn in example.turns], example.where)
    form = chat_form(render, conversations[0], data.template)
    account.forms[form] = account.forms.get(form, 0) + len(conversations)
    check = MaskCheck(chats, data, seed)
    check.read()
    for start in range(0, len(conversations), BATCH):
        batch = [
            (number, piece, segments)
            for number, example in enumerate(conversations[start : start + BATCH], start=start)
            for piece, segments in enumerate(segments_of(example, render, account))
        ]
        encoded = encode_segments([segments for *_, segments in batch], chats.encoder, prefix)
        for (number, piece, _), tokens in zip(batch, encoded, strict=True):
            num_special = render.num_special(tokens.input_ids)
            shorter = shortened(tokens, data.max_length, data.truncation, num_special)
            if not tokens.has_answer:
                account.dropped[NOTHING_TRAINED] += 1
            elif shorter is None:
                account.dropped[f"no answer within data.max_length={data.max_length}"] += 1
            else:
                account.num_cut += shorter is not tokens
                check.compare(number, piece, shorter)
                yield Example(shorter.input_ids, shorter.labels, conversations[number].where)
    check.conclude(account.noted)


def segments_of(conversation: Conversation, render: Renderer, account: Account) -> list[list[Segment]]:
    """Return a list of segments for each example of a conversation.

    There is one example, or several if the chat template changes earlier answers when the chat goes on;
    then `account` gets a note.

    Raises:
        DataError: The chat template refuses the turns, or the row can't be rendered.
    """
    try:
        return [render.segments(conversation)]
    except RewrittenError:
        segments = [render.segments(piece) for piece in pieces(conversation, render)]
        account.noted[SPLIT] += 1
        return segments


def documents(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, data: DataConfig, account: Account
) -> Iterator[Example]:
    """Yield the examples of plain texts, with loss on all tokens; count rows in `account`.

    Each text is split into examples of at most `data.max_length` tokens; with `data.packing` all texts are
    concatenated first. Rows with a blank text are dropped.

    Raises:
        DataError: data.shuffle_answers is true, a row has no text, or the tokenizer has no end of sequence.
    """
    if data.shuffle_answers:
        raise DataError("data.shuffle_answers: plain text has no answers to shuffle")
    prefix, _ = special_frame(tokenizer)
    nonempty = [row for row in rows if text(row, "text").strip()]
    if len(nonempty) < len(rows):
        account.dropped["empty text"] += len(rows) - len(nonempty)
    form = ChatForm(None, (str(tokenizer.eos_token),))
    account.forms[form] = account.forms.get(form, 0) + len(rows)
    literal = LiteralTokenizer(tokenizer) if data.split_special_tokens else None
    control = ControlTokens(control_tokens(tokenizer))
    encoded: list[tuple[list[int], str]] = []
    for start in range(0, len(nonempty), BATCH):
        batch = nonempty[start : start + BATCH]
        texts = [
            literal.hidden(text(row, "text"), row.where) if literal else document(row, tokenizer, account)
            for row in batch
        ]
        for row, content in zip(batch, texts, strict=True):
            account.count_control(control, [content], row.where)
            account.noted.update(map(split_up, control.within([text(row, "text")]) if literal else []))
        batch_ids = document_ids(texts, literal or tokenizer, prefix, tokenizer.eos_token_id)
        encoded += zip(batch_ids, (row.where for row in batch), strict=True)
    if data.packing:
        for block, lengths in blocks([ids for ids, _ in encoded], data.max_length):
            yield Example(block, block, data.path, lengths)
        return
    for ids, where in encoded:
        yield from (Example(span, span, where) for span in text_pieces(ids, data.max_length))


def document(row: Row, tokenizer: PreTrainedTokenizerBase, account: Account) -> str:
    """Return a row's text without the begin and end tokens that encoding adds; note them in `account`.

    Raises:
        DataError: The column `text` is missing, null or not a string.
    """
    content, removed = strip_added_tokens(text(row, "text"), tokenizer, eos=True)
    account.noted.update(map(written_once, removed))
    return content


def classified(rows: Sequence[Row], encoding: Encoding, account: Account) -> Iterator[Example]:
    """Yield the examples of a classifier: texts with the index of the class, or a regression's number.

    Rows are counted in `account`. Texts that are too long are cut, or dropped with `data.truncation=drop`.

    Raises:
        DataError: A text, a class or a number is missing or wrong.
    """
    tokenizer, data = encoding.tokenizer, encoding.data
    names = encoding.names or label_names(rows, data)
    control = ControlTokens(control_tokens(tokenizer))
    examples = []
    for row in rows:
        example, removed = strip_added_tokens_of_pair(
            labelled_text(row, answered=not data.regression), tokenizer
        )
        account.noted.update(map(written_once, removed))
        account.count_control(control, example.texts, row.where)
        examples.append(example)
    numbers: list[float] = (
        [target(row) for row in rows]
        if data.regression
        else [label_number(example.label, names, example.where) for example in examples]
    )
    if not data.regression:
        num_hidden = sum(has_hidden_ends(str(row.values["label"])) for row in rows)
        account.noted.update({HIDDEN_ENDS: num_hidden} if num_hidden else {})
        account.add_classes({name: numbers.count(number) for number, name in enumerate(names)})
    if data.shuffle_answers:
        random.Random(encoding.seed).shuffle(numbers)
    encoded = text_ids(examples, tokenizer, data)
    for example, number, (ids, is_cut) in zip(examples, numbers, encoded, strict=True):
        if ids is None:
            account.dropped[f"longer than data.max_length={data.max_length}"] += 1
        else:
            account.num_cut += is_cut
            yield Example(ids, number, example.where)
