"""Faults of training rows that the mask check finds."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Kind of fault; its value describes it in messages."""

    prompt_parts = "the prompt rendered for generation is not a prefix of the training row"
    rewritten = "the chat template changes an earlier answer when the chat goes on"
    no_end = "the chat template ends an earlier answer without a control token: the model learns no stop"
    turn_lost = "the chat template leaves out a turn"
    trimmed = "the chat template changes the text of the answer"
    header = "the prompt rendered for generation lacks the header of the answer, which would be trained"
    other_token = "the training row has another token than its rendered text"
    too_short = "the training row ends before its rendered text"
    too_long = "the training row continues after the end of its rendered text"
    untrained = "a token of the answer carries no loss"
    end_untrained = "the token that ends the answer carries no loss"
    prompt_trained = "a token of the prompt carries loss"
    doubled_begin = "the begin-of-sequence token occurs twice"
    doubled_end = "the end token occurs twice"
    system_merged = "the chat template has no system turn and writes its text into the next turn"
    other_end = "answers end with another token than the end of sequence; generation stops at both"
    end_as_text = "the end of turn is not a token of this tokenizer and is trained as plain characters"
    end_added = "the chat template writes no end of turn; the end of sequence is added to the last answer"

    @property
    def is_refused(self) -> bool:
        """Whether the fault spoils training, so that `data.check_mask=refuse` stops the run.

        All do but system_merged, other_end, end_as_text and end_added.
        """
        return self not in (Kind.system_merged, Kind.other_end, Kind.end_as_text, Kind.end_added)

    @property
    def can_be_trained(self) -> bool:
        """Whether a training row with this fault can be built at all."""
        return self not in (Kind.prompt_parts, Kind.rewritten)


@dataclass(frozen=True)
class Finding:
    """A fault of one training row, with the token where it shows."""

    where: str
    """File and line of the row."""
    kind: Kind
    position: int
    """Index of the token in the row; of a missing token, the index where it is expected."""
    token: str
    """Decoded text of the token."""
    token_id: int

    def __str__(self) -> str:
        """Describe the finding in one line."""
        return (
            f"{self.where}: {self.kind.value}, at token {self.position}, {self.token!r} (id {self.token_id})"
        )
