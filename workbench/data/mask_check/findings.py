"""What can be wrong with the mask of a training row, in words."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What is wrong, as the sentence that is said of a row."""

    prompt_parts = "the prompt rendered for generation is not the beginning of the training row"
    rewritten = "the chat template writes an earlier answer anew as the chat goes on"
    no_end = "the chat template ends an earlier answer without a control token, so that nothing says stop"
    turn_lost = "the chat template leaves out a system or user turn"
    trimmed = "the chat template does not write the answer as it stands"
    header = "the header of the answer is not in the prompt rendered for generation and would be trained"
    other_token = "the training row has another token than its rendered text"
    too_short = "the training row ends before its rendered text does"
    too_long = "the training row goes on behind its rendered text"
    untrained = "a token of the answer carries no loss"
    end_untrained = "the token that ends the answer carries no loss"
    prompt_trained = "a token of the prompt carries loss"
    doubled_begin = "the beginning token is written twice"
    doubled_end = "the end token is written twice"
    system_merged = "the chat template has no system turn and writes its text into the next turn"
    other_end = "answers end with another token than the tokenizer's end of sequence; generation ends at both"

    end_as_text = "the end of turn is no token of this tokenizer and is trained as plain characters"

    end_added = "the chat template writes no end of turn; the end of sequence is put behind the last answer"

    @property
    def is_refused(self) -> bool:
        """Whether a training with such rows would go wrong; else it is only said."""
        return self not in (Kind.system_merged, Kind.other_end, Kind.end_as_text, Kind.end_added)

    @property
    def can_be_trained(self) -> bool:
        """Whether a row can be built at all where this is wrong."""
        return self not in (Kind.prompt_parts, Kind.rewritten)


@dataclass(frozen=True)
class Finding:
    """Something wrong with one row, and the token where it is seen."""

    where: str
    kind: Kind
    position: int
    """Of the token in the row; of one that is missing, where it would be."""
    token: str
    token_id: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.where}: {self.kind.value}, at token {self.position}, {self.token!r} (id {self.token_id})"
        )
