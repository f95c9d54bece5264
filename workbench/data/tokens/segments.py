"""Encodes segments of text so that prompts have the same token ids in training and in generation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from workbench.config.data import Truncation
from workbench.config.names import IGNORED


class Encoder(Protocol):
    """Protocol of what encodes texts to ids: a tokenizer of transformers, or a LiteralTokenizer."""

    def __call__(self, texts: Any, /, *, add_special_tokens: bool) -> Any:
        """Encode texts; the result maps `input_ids` to a list of ids for each text."""


@dataclass(frozen=True)
class Segment:
    """A part of an example's text, all of which carries loss, or none of it."""

    text: str
    trained: bool
    """Whether the loss is computed on the tokens of this text."""
    joins: bool = True
    """False keeps the segment apart from the one before, so that no token crosses their boundary."""


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """Join adjacent segments that both carry loss, or both carry none, into new ones; leave out empty ones.

    A segment with `joins=False` is not joined to the segment before it.
    """
    joined: list[Segment] = []
    for segment in segments:
        if joined and segment.joins and joined[-1].trained == segment.trained:
            joined[-1] = replace(joined[-1], text=joined[-1].text + segment.text)
        elif segment.text:
            joined.append(segment)
    return joined


@dataclass(frozen=True)
class Tokens:
    """Input ids and labels of one example."""

    input_ids: list[int]
    labels: list[int]
    """For each token its id if it carries loss, else -100."""

    @property
    def has_answer(self) -> bool:
        """Whether any token carries loss; the first token doesn't count, because nothing predicts it."""
        return any(label != IGNORED for label in self.labels[1:])


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer adds before a text and after it, such as ([bos], [eos])."""
    framed, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return list(framed[:start]), list(framed[start + len(bare) :])


def encode_segments(
    examples: Sequence[Sequence[Segment]], tokenizer: Encoder, prefix: Sequence[int]
) -> list[Tokens]:
    """Encode many examples into ids and labels, with two calls of the tokenizer.

    The ids of a segment depend on itself and on the segment before it, never on what follows. So a prompt
    has the same ids with and without an answer after it, and generation starts from ids seen in training.

    Args:
        examples: The segments of each example.
        tokenizer: Called without special tokens.
        prefix: Ids to put before every example.
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
    """Concatenate the ids of one example's segments, with their labels.

    Args:
        segments: The segments.
        alone: Gives the ids of each segment, encoded alone; as many are taken as there are segments.
        joint: Gives the ids of each segment but the first, encoded together with the segment before.
        tokenizer: Encodes a segment again if its first token in `joint` contains the end of the one before.
        prefix: Ids to put before the example.
    """
    input_ids, labels = list(prefix), [IGNORED] * len(prefix)
    before: list[int] | None = None
    for segment in segments:
        ids = own = next(alone)
        if before is not None:
            both = next(joint)
            follows = both[: len(before)] == before
            ids = both[len(before) :] if follows else ids_after("\n", segment.text, tokenizer)
        input_ids += ids
        labels += ids if segment.trained else [IGNORED] * len(ids)
        before = own
    return Tokens(input_ids, labels)


def ids_after(anchor: str, text: str, tokenizer: Encoder) -> list[int]:
    """Encode `anchor + text`, and return the ids of `text`; if a token crosses the boundary, encode it alone.

    SentencePiece tokenizers add a space before a text that is encoded alone; after an anchor they don't.
    """
    before, both = ids_of([anchor, anchor + text], tokenizer)
    return both[len(before) :] if both[: len(before)] == before else next(ids_of([text], tokenizer))


def ids_of(texts: list[str], tokenizer: Encoder) -> Iterator[list[int]]:
    """Yield the ids of each text, without special tokens."""
    return iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])


def shortened(tokens: Tokens, max_length: int, policy: Truncation, num_prefix: int) -> Tokens | None:
    """Cut an example to `max_length` tokens; None if `policy` drops long examples, or no answer is left.

    An example that is short enough is returned itself. If the start of an answer is cut off, the rest of the
    answer carries no loss.

    Args:
        tokens: The example.
        max_length: Most tokens of the result.
        policy: The side to cut, or to drop the example.
        num_prefix: Number of leading special tokens, which `cut-start` keeps.
    """
    excess = len(tokens.input_ids) - max_length
    if excess <= 0:
        return tokens
    if policy is Truncation["drop"]:
        return None
    if policy is Truncation["cut-end"]:
        shorter = Tokens(tokens.input_ids[:max_length], tokens.labels[:max_length])
    else:
        start = num_prefix + excess
        ids, labels = tokens.input_ids[start:], tokens.labels[start:]
        if tokens.labels[start - 1] != IGNORED:
            # The cut is inside an answer: mask its rest, which would be learned without its start.
            num_rest = next((i for i, label in enumerate(labels) if label == IGNORED), len(labels))
            labels = [IGNORED] * num_rest + labels[num_rest:]
        shorter = Tokens(tokens.input_ids[:num_prefix] + ids, tokens.labels[:num_prefix] + labels)
    return shorter if shorter.has_answer else None
