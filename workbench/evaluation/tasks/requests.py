"""Builds items with the exact prompts of a model: in its chat format, fitted to its context, hashed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig, TooLong, takes_chat_template
from workbench.data.templating.render import RenderingError, chat_text
from workbench.errors import DataError
from workbench.evaluation.records import Example, prompt_hash
from workbench.evaluation.tasks.shorten import shortened

_TEMPLATE_TOKENS = 256
"""Upper bound of the tokens that special tokens, delimiters and a chat template add to a question."""


@dataclass(frozen=True)
class Item:
    """Example with the exact texts that a model reads."""

    example: Example
    contexts: tuple[str, ...]
    """One context for all choices, or one per choice."""
    num_shots_dropped: int
    hash: str
    """SHA-256 of contexts, answers and unconditional prompt, 64 hex digits."""
    num_shared: int = 0
    """Characters of description and few-shot examples, with which every context starts; 0 in a chat."""
    is_truncated: bool = False
    """Whether the question was cut because it was too long for the model."""
    is_skipped: bool = False
    """Whether the item is too long for the model and isn't asked."""
    sample: int = 0
    """Number of the answer to draw, if the item gets several: 0, 1, ..."""

    def seed(self, fewshot_seed: int) -> str:
        """Return the seed of the item's sampled answer: `SEED/ID`, and `SEED/ID/k` for answer k from 1 on."""
        return f"{fewshot_seed}/{self.example.id}" + (f"/{self.sample}" if self.sample else "")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Context and continuation of each choice; the delimiter belongs to the continuation."""
        example = self.example
        continuations = [example.delimiter + text for text in example.continuations]
        contexts = self.contexts * (len(continuations) if len(self.contexts) == 1 else 1)
        return list(zip(contexts, continuations, strict=True))


class ChatFormat(Protocol):
    """How prompts are written as conversations."""

    @property
    def shots_as_turns(self) -> bool:
        """Whether few-shot examples are turns; else they precede the question in the user's turn."""

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Return the text of a conversation up to the answer.

        Raises:
            RenderingError: It can't be rendered.
        """


@dataclass(frozen=True)
class SentMessages:
    """Messages as JSON, for an endpoint that renders them by its own template."""

    shots_as_turns: bool = True
    """As in `ChatFormat`."""

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Return the messages as JSON."""
        return json.dumps(messages, ensure_ascii=False)


@dataclass(frozen=True)
class TemplateFormat:
    """Conversations in a tokenizer's chat template."""

    tokenizer: PreTrainedTokenizerBase
    """Tokenizer with the chat template."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, from `evaluate.template_arguments`."""
    shots_as_turns: bool = True
    """As in `ChatFormat`."""

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Return the text that the template makes of a conversation, up to the answer."""
        return chat_text(self.tokenizer, messages, arguments=self.arguments, add_generation_prompt=True)


def chat_format(
    tokenizer: PreTrainedTokenizerBase, benchmark: BenchmarkConfig, evaluate: EvaluateConfig
) -> ChatFormat | None:
    """Return the chat format of a benchmark's prompts; None for plain text."""
    if not takes_chat_template(benchmark, evaluate):
        return None
    return TemplateFormat(tokenizer, evaluate.template_arguments, evaluate.fewshot_as_turns)


def context(example: Example, question: str, dropped: int = 0) -> str:
    """Return a prompt as plain text: description, few-shot examples but the first `dropped`, question."""
    shots, end = example.shots[dropped:], example.fewshot_delimiter
    return example.description + "".join(shot.question + shot.answer + end for shot in shots) + question


def item(example: Example, dropped: int, chat: ChatFormat | None = None) -> Item:
    """Turn an example into an item: its prompts, without the first `dropped` few-shot examples.

    The prompt is rendered as a conversation; it is plain text if `chat` is None.

    Raises:
        DataError: The chat template refuses the conversation.
    """
    num_shared = 0
    if chat is None:
        contexts = tuple(context(example, question, dropped) for question in example.questions)
        num_shared = len(context(example, "", dropped))
    else:
        contexts = tuple(_rendered(chat, example, question, dropped) for question in example.questions)
        example = replace(example, delimiter="")  # the template separates them, as in lm-evaluation-harness
    answers = [example.delimiter + text for text in example.continuations]
    unconditional = [""] if example.unconditional is None else [example.unconditional, "unconditional"]
    return Item(example, contexts, dropped, prompt_hash([*contexts, *answers, *unconditional]), num_shared)


def fit(
    examples: Sequence[Example],
    lengths: Callable[[Sequence[Item]], Sequence[int]],
    longest: int,
    chat: ChatFormat | None = None,
    too_long: TooLong = TooLong.refuse,
) -> list[Item]:
    """Return items whose prompts fit: few-shot examples are dropped from the left, then `too_long` decides.

    There is one item per example, in order; those that are skipped are marked by `is_skipped`.

    Args:
        examples: examples to ask.
        lengths: returns the number of tokens of each item's longest prompt with answer.
        longest: largest number of tokens that fits.
        chat: how prompts are rendered as conversations; None for plain text.
        too_long: what becomes of an item whose question is too long even without few-shot examples.

    Raises:
        DataError: A question is too long even without few-shot examples, and `too_long` is `refuse`; or the
            chat template refuses a conversation.
    """
    items = [item(example, 0, chat) for example in examples]
    excessive = list(range(len(items)))
    while excessive:
        num_tokens = lengths([items[i] for i in excessive])
        excessive = [i for i, length in zip(excessive, num_tokens, strict=True) if length > longest]
        for i in [i for i in excessive if items[i].num_shots_dropped == len(examples[i].shots)]:
            excessive.remove(i)
            items[i] = _without_excess(examples[i], lengths, longest, chat, too_long)
        for i in excessive:
            items[i] = item(examples[i], items[i].num_shots_dropped + 1, chat)
    return items


def _without_excess(
    example: Example,
    lengths: Callable[[Sequence[Item]], Sequence[int]],
    longest: int,
    chat: ChatFormat | None,
    policy: TooLong,
) -> Item:
    """Return the item of an example that is too long without few-shot examples: cut, or marked as skipped."""
    num_shots = len(example.shots)
    if policy is TooLong.refuse:
        raise DataError(
            f"item {example.id}: the question without examples is longer than the {longest:,} tokens that "
            "fit (use a model with a longer context, raise evaluate.max_length, or set evaluate.too_long to "
            "truncate-left, truncate-middle or skip)"
        )

    def num_tokens(cut: Example) -> int:
        return lengths([item(cut, num_shots, chat)])[0]

    cut = None if policy is TooLong.skip else shortened(example, num_tokens, longest, policy)
    if cut is None:
        return replace(item(example, num_shots, chat), is_skipped=True)
    return replace(item(cut, num_shots, chat), is_truncated=True)


def possibly_too_long(examples: Sequence[Example], longest: int) -> list[Example]:
    """Return copies of the examples whose question may have more than `longest` tokens.

    The copies are without few-shot examples and other orders of the options. A text has at most as many
    tokens as bytes, so all other questions fit and needn't be encoded.
    """
    return [
        replace(example, shots=(), rotations=())
        for example in examples
        if _num_bytes(example) + _TEMPLATE_TOKENS > longest
    ]


def _num_bytes(example: Example) -> int:
    """Return the UTF-8 bytes of description, longest question and longest continuation together."""
    sizes = [
        max((len(text.encode("utf-8")) for text in texts), default=0)
        for texts in ((example.description,), example.questions, example.continuations)
    ]
    return sum(sizes)


def _rendered(chat: ChatFormat, example: Example, question: str, dropped: int) -> str:
    """Render a prompt with the chat template: description as system message, few-shot examples as turns.

    Without `shots_as_turns`, the examples and the question are a single turn, as in plain text. The first
    `dropped` few-shot examples are left out.
    """
    messages: list[dict[str, Any]] = []
    if example.description.strip():
        messages.append({"role": "system", "content": example.description.strip()})
    for shot in example.shots[dropped:] if chat.shots_as_turns else ():
        messages.append({"role": "user", "content": shot.question})
        messages.append({"role": "assistant", "content": shot.answer.strip()})
    turn = question if chat.shots_as_turns else context(replace(example, description=""), question, dropped)
    messages.append({"role": "user", "content": turn})
    try:
        return chat.render(messages)
    except RenderingError as error:
        raise DataError(
            f"item {example.id}: {error.of_chat_template()} "
            "(evaluate.chat_template=false, or model.tokenizer)"
        ) from error
