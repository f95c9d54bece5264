"""Compares training rows with the tokens and labels that they should have, before the first training step."""

import logging
import random
from collections import Counter
from dataclasses import dataclass, field

from workbench.config.data import CheckMask, DataConfig
from workbench.data.chat.prepare_chat import Chats
from workbench.data.chat.rewritten_turns import pieces
from workbench.data.conversations import Conversation
from workbench.data.mask_check.expected_rows import RowText, RowTokens, Spans
from workbench.data.mask_check.findings import Finding, Kind
from workbench.data.notices import say_once
from workbench.data.tokens.segments import Tokens
from workbench.errors import DataError

log = logging.getLogger("workbench")

ALL_ROWS = 500
"""Largest number of rows of which all are checked."""

SAMPLE = 200
"""Number of random rows that are checked if there are more; in addition, one row of each shape."""

MOST_SHAPES = 1000
"""Largest number of shapes of which a row is checked."""


@dataclass
class MaskCheck:
    """Checks tokens and labels of training rows against what their conversations should give.

    Call `read` once, then `compare` with each example, then `conclude`. All conversations are of one data
    format; of more than ALL_ROWS a sample is checked.
    """

    chats: Chats
    data: DataConfig
    seed: int
    """Seed of the sample."""
    findings: list[Finding] = field(default_factory=list)
    """Faults recorded so far."""
    expected: dict[tuple[int, int], Spans] = field(default_factory=dict)
    """(Index of a checked conversation, index of an example of it) -> the text that it should have."""
    num_rows: int = 0
    """Number of checked conversations."""

    def read(self) -> None:
        """Choose conversations, and check the texts that the chat template renders for them.

        Raises:
            DataError: A text has a fault, and `data.check_mask` is refuse.
        """
        self.tokens = RowTokens(self.chats)
        numbers = chosen(self.chats.conversations, self.seed)
        self.num_rows = len(numbers)
        for number in numbers:
            conversation = self.chats.conversations[number]
            for index, piece in enumerate(pieces(conversation, self.chats.renderer)):
                text = RowText(self.chats, piece, self.tokens)
                spans = text.spans()
                self.findings += text.findings
                if not any(finding.kind.is_refused for finding in text.findings):
                    self.expected[number, index] = spans
        self.refuse()

    def compare(self, number: int, piece: int, row: Tokens) -> None:
        """Record in `findings` where an example of conversation `number` first differs from the expected row.

        Examples of conversations outside of the sample are not compared.

        Args:
            number: Index of the conversation.
            piece: Index of the example among those of the conversation, see `pieces`.
            row: Ids and labels of the example, cut to `data.max_length`.
        """
        if (number, piece) not in self.expected:
            return
        expected = self.tokens.row(self.expected[number, piece])
        if len(expected.input_ids) > self.data.max_length:
            expected = self.tokens.shortened(expected, self.data)
        finding = self.tokens.compare(expected, row, self.chats.conversations[number].where)
        self.findings += [finding] if finding else []

    def conclude(self, noted: Counter[str]) -> None:
        """Log the first finding of each kind, and count in `noted` the rows with faults that spoil training.

        Raises:
            DataError: A row has a fault, and `data.check_mask` is refuse.
        """
        self.refuse()
        counts = Counter(kind for kind, _ in dict.fromkeys((each.kind, each.where) for each in self.findings))
        for kind, count in counts.items():
            first = next(finding for finding in self.findings if finding.kind is kind)
            message = f"{first} (so in {count:,} of {self.num_rows:,} checked rows)"
            if not kind.is_refused:
                say_once(message)  # the rows are encoded again for scoring
            else:
                log.warning("%s", message)
                noted[f"of {self.num_rows:,} checked: {kind.value}"] += count

    def refuse(self) -> None:
        """Raise the first fault that would spoil training; with `data.check_mask=warn`, do nothing.

        Raises:
            DataError: There is such a fault, and `data.check_mask` is refuse.
        """
        refused = [finding for finding in self.findings if finding.kind.is_refused]
        if not refused or self.data.check_mask is CheckMask.warn:
            return
        count = len({finding.where for finding in refused})
        remedy = REMEDIES.get(refused[0].kind, DEFAULT_REMEDY)
        if refused[0].kind.can_be_trained:
            remedy += ", or train anyway with data.check_mask=warn"
        raise DataError(f"{refused[0]} ({count} of {self.num_rows} checked rows fail; {remedy})")


DEFAULT_REMEDY = "choose another data.template, such as chatml"
REMEDIES = {
    Kind.trimmed: "remove from the answers what the template strips, such as white space",
    Kind.prompt_parts: "data.thoughts=strip, if the prompt writes a thought that the row has otherwise; "
    f"{DEFAULT_REMEDY}",
}
"""Kind of fault -> advice in the error message."""


def chosen(conversations: list[Conversation], seed: int) -> list[int]:
    """Return the sorted indices of the conversations to check: all of up to ALL_ROWS, else a random sample.

    The sample has SAMPLE conversations, and the first of each of up to MOST_SHAPES shapes, see `shape_of`.
    """
    if len(conversations) <= ALL_ROWS:
        return list(range(len(conversations)))
    first: dict[tuple[object, ...], int] = {}
    for number, conversation in enumerate(conversations):
        first.setdefault(shape_of(conversation), number)
    sample = random.Random(f"{seed} mask").sample(range(len(conversations)), SAMPLE)
    return sorted({*sample, *list(first.values())[:MOST_SHAPES]})


def shape_of(conversation: Conversation) -> tuple[object, ...]:
    """Return features of a conversation (such as roles and fields) that templates may treat differently."""
    turns = tuple(
        (turn.role, turn.trained, turn.text != turn.text.strip(), "</" in turn.text, *sorted(turn.extra))
        for turn in conversation.turns
    )
    return (conversation.tools is not None, conversation.is_chat, turns)
