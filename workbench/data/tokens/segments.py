"""Segments as token ids, with boundaries that are the same in training and in generation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from workbench.config.data import Truncation
from workbench.labels import IGNORED


class Encoder(Protocol):
    """A tokenizer as far as segments need it: transformers' own, or a LiteralTokenizer."""

    def __call__(self, texts: Any, /, *, add_special_tokens: bool) -> Any:
        """The ids of each text under the key `input_ids`."""


@dataclass(frozen=True)
class Segment:
    """A piece of an example's text."""

    text: str
    trained: bool


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """Neighbours of one kind joined, empty ones left out."""
    joined: list[Segment] = []
    for segment in segments:
        if joined and joined[-1].trained == segment.trained:
            joined[-1] = Segment(joined[-1].text + segment.text, segment.trained)
        elif segment.text:
            joined.append(segment)
    return joined


@dataclass(frozen=True)
class Tokens:
    """One example as the model sees it."""

    input_ids: list[int]
    labels: list[int]
    """The id itself where it is trained, else -100."""

    @property
    def has_answer(self) -> bool:
        """Whether a loss falls on any token; it never does on the first, which nothing stands before."""
        return any(label != IGNORED for label in self.labels[1:])


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and behind a text, such as beginning and end of sequence."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return list(whole[:start]), list(whole[start + len(bare) :])


def encode_segments(
    examples: Sequence[Sequence[Segment]], tokenizer: Encoder, prefix: Sequence[int]
) -> list[Tokens]:
    """Ids and labels of many examples, in two calls of the tokenizer.

    The ids of a segment depend on itself and on the segment before it, never on what follows: a prompt has
    the same ids whether or not an answer stands behind it, so a model generates from what it was trained on.

    Args:
        examples: The segments of each example.
        tokenizer: It is called without special tokens.
        prefix: Ids put before every example.
    """
    alone = ids_of([segment.text for segments in examples for segment in segments], tokenizer)
    joint = ids_of([a.text + b.text for segments in examples for a, b in pairwise(segments)], tokenizer)
    return [assembled(segments, alone, joint, tokenizer, prefix) for segments in examples]


def assembled(
    segments: Sequence[Segment],
    alone: Iterator[list[int]],
    joint: Iterator[list[int]],
    tokenizer: Encoder,
    prefix: Sequence[int],
) -> Tokens:
    """One example from the ids of its segments, each encoded alone and behind the one before it."""
    input_ids, labels = list(prefix), [IGNORED] * len(prefix)
    before: list[int] | None = None
    for segment in segments:
        ids = own = next(alone)
        if before is not None:
            both = next(joint)
            follows = both[: len(before)] == before
            ids = both[len(before) :] if follows else ids_behind("\n", segment.text, tokenizer)
        input_ids += ids
        labels += ids if segment.trained else [IGNORED] * len(ids)
        before = own
    return Tokens(input_ids, labels)


def ids_behind(anchor: str, text: str, tokenizer: Encoder) -> list[int]:
    """The ids of a text that begins no line, where a token would otherwise reach over the boundary.

    SentencePiece tokenizers put a space before a text that stands alone; behind an anchor they don't.
    """
    before, both = ids_of([anchor, anchor + text], tokenizer)
    return both[len(before) :] if both[: len(before)] == before else next(ids_of([text], tokenizer))


def ids_of(texts: list[str], tokenizer: Encoder) -> Iterator[list[int]]:
    """The ids of each text, without special tokens."""
    return iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])


def shortened(tokens: Tokens, max_length: int, policy: Truncation, num_prefix: int) -> Tokens | None:
    """The example within `max_length` tokens, or None where it is to be dropped.

    Args:
        tokens: The example.
        max_length: Tokens that may be left.
        policy: What is cut away.
        num_prefix: Special tokens at the beginning, which stay.
    """
    excess = len(tokens.input_ids) - max_length
    if excess <= 0:
        return tokens
    if policy is Truncation["drop"]:
        return None
    if policy is Truncation["cut-end"]:
        kept = Tokens(tokens.input_ids[:max_length], tokens.labels[:max_length])
    else:
        start = num_prefix + excess
        ids, labels = tokens.input_ids[start:], tokens.labels[start:]
        if tokens.labels[start - 1] != IGNORED:
            # The cut went through an answer: its rest would be learned without its beginning.
            whole = next((i for i, label in enumerate(labels) if label == IGNORED), len(labels))
            labels = [IGNORED] * whole + labels[whole:]
        kept = Tokens(tokens.input_ids[:num_prefix] + ids, tokens.labels[:num_prefix] + labels)
    return kept if kept.has_answer else None
