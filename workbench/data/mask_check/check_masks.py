"""Rows held against what they have to be, before the first step: loss falls on what generation must say."""

import logging
import random
from collections import Counter
from dataclasses import dataclass, field

from workbench.config.data import CheckMask, DataConfig
from workbench.data.chat.prepare_chat import Chats
from workbench.data.conversations import Conversation
from workbench.data.mask_check.expected_rows import Pieces, RowText, RowTokens
from workbench.data.mask_check.findings import Finding, Kind
from workbench.data.notices import say_once
from workbench.data.tokens.segments import Tokens
from workbench.errors import DataError

log = logging.getLogger("workbench")

ALL_ROWS = 500
"""Up to so many rows, each one is looked at."""
SAMPLE = 200
"""Of more rows, so many by chance, and one of each shape besides."""
MOST_SHAPES = 1000
"""Shapes that are told apart."""


@dataclass
class MaskCheck:
    """Looks at conversations of one format and at the rows that they become."""

    chats: Chats
    data: DataConfig
    seed: int
    findings: list[Finding] = field(default_factory=list)
    wanted: dict[int, Pieces] = field(default_factory=dict)
    """Number of a conversation that is looked at -> the text that its row has to have."""
    num_rows: int = 0
    """Conversations that are looked at."""

    def read(self) -> None:
        """Look at the texts of the conversations.

        Raises:
            DataError: One is wrong, and `data.check_mask` is refuse.
        """
        self.tokens = RowTokens(self.chats)
        numbers = chosen(self.chats.conversations, self.seed)
        self.num_rows = len(numbers)
        for number in numbers:
            text = RowText(self.chats, self.chats.conversations[number], self.tokens)
            pieces = text.pieces()
            self.findings += text.findings
            if not any(finding.kind.is_refused for finding in text.findings):
                self.wanted[number] = pieces
        self.refuse()

    def compare(self, number: int, row: Tokens) -> None:
        """Hold the row of a conversation, as it will be trained, against what it has to be."""
        if number not in self.wanted:
            return
        wanted = self.tokens.row(self.wanted[number])
        if len(wanted.input_ids) > self.data.max_length:
            wanted = self.tokens.shortened(wanted, self.data)
        finding = self.tokens.compare(wanted, row, self.chats.conversations[number].where)
        self.findings += [finding] if finding else []

    def conclude(self, noted: Counter[str]) -> None:
        """Say what was found, and count it.

        Raises:
            DataError: A row is wrong, and `data.check_mask` is refuse.
        """
        self.refuse()
        counts = Counter(finding.kind for finding in self.findings)
        for kind, count in counts.items():
            first = next(finding for finding in self.findings if finding.kind is kind)
            words = f"{first} ({count:,} of {self.num_rows:,} rows looked at are so)"
            if not kind.is_refused:
                say_once(words)  # the rows are encoded again where they are scored
            else:
                log.warning("%s", words)
                noted[f"of {self.num_rows:,} looked at: {kind.value}"] += count

    def refuse(self) -> None:
        """End the run at the first row that is wrong.

        Raises:
            DataError: There is one, and `data.check_mask` is refuse.
        """
        wrong = [finding for finding in self.findings if finding.kind.is_refused]
        if not wrong or self.data.check_mask is CheckMask.warn:
            return
        count = len({finding.where for finding in wrong})
        remedy = REMEDY.get(wrong[0].kind, OTHERWISE)
        if wrong[0].kind.can_be_trained:
            remedy += ", or data.check_mask=warn trains all the same"
        raise DataError(f"{wrong[0]} ({count} of {self.num_rows} rows looked at fail; {remedy})")


OTHERWISE = "choose another data.template, such as chatml"
REMEDY = {Kind.trimmed: "take the white space or what else is lost out of the answers"}
"""The way out, by what is wrong."""


def chosen(conversations: list[Conversation], seed: int) -> list[int]:
    """The numbers of the conversations that are looked at: all of a few, else a sample and each shape."""
    if len(conversations) <= ALL_ROWS:
        return list(range(len(conversations)))
    first: dict[tuple[object, ...], int] = {}
    for number, conversation in enumerate(conversations):
        first.setdefault(shape_of(conversation), number)
    sample = random.Random(f"{seed} mask").sample(range(len(conversations)), SAMPLE)
    return sorted({*sample, *list(first.values())[:MOST_SHAPES]})


def shape_of(conversation: Conversation) -> tuple[object, ...]:
    """What may make a template or a tokenizer treat rows differently."""
    turns = tuple(
        (turn.role, turn.trained, turn.text != turn.text.strip(), "</" in turn.text, *sorted(turn.extra))
        for turn in conversation.turns
    )
    return (conversation.tools is not None, conversation.is_chat, turns)
