"""Items as a certain model is asked them: in its chat format, cut to its context, hashed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.data.templating.render import RenderingError, chat_text
from workbench.errors import DataError
from workbench.evaluation.records import Example, context, prompt_hash

_TEMPLATE_TOKENS = 256
"""More than special tokens, delimiters and a chat template add to a question."""


@dataclass(frozen=True)
class Item:
    """An example with the exact texts that a model is shown."""

    example: Example
    contexts: tuple[str, ...]
    """One for all choices, or one a choice."""
    num_shots_dropped: int
    hash: str
    """SHA-256 of contexts, answers and unconditional prompt, 64 hex digits."""
    num_shared: int = 0
    """Characters of description and examples at the beginning of every context; 0 in a chat."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Context and continuation, delimiter included, of each choice."""
        example = self.example
        texts = [example.delimiter + text for text in example.continuations]
        contexts = self.contexts * (len(texts) if len(self.contexts) == 1 else 1)
        return list(zip(contexts, texts, strict=True))


def item(example: Example, dropped: int, tokenizer: PreTrainedTokenizerBase | None = None) -> Item:
    """The item without its first `dropped` examples; in the chat format of `tokenizer` where one is given."""
    num_shared = 0
    if tokenizer is None:
        contexts = tuple(context(example, question, dropped) for question in example.questions)
        num_shared = len(context(example, "", dropped))
    else:
        contexts = tuple(_chat(tokenizer, example, question, dropped) for question in example.questions)
        example = replace(example, delimiter="")  # the template stands there, as in lm-evaluation-harness
    answers = [example.delimiter + text for text in example.continuations]
    free = [""] if example.unconditional is None else [example.unconditional, "unconditional"]
    return Item(example, contexts, dropped, prompt_hash([*contexts, *answers, *free]), num_shared)


def fit(
    examples: Sequence[Example],
    lengths: Callable[[Sequence[Item]], Sequence[int]],
    longest: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Item]:
    """Items whose prompts fit: examples are dropped from the left, one at a time, and never the question.

    Args:
        examples: what to ask.
        lengths: number of tokens of the longest prompt of each item, answer included.
        longest: how many tokens fit.
        tokenizer: whose chat template to use, or None for plain text.

    Raises:
        DataError: a question without examples is still too long.
    """
    items = [item(example, 0, tokenizer) for example in examples]
    waiting = list(range(len(items)))
    while waiting:
        found = lengths([items[i] for i in waiting])
        waiting = [i for i, length in zip(waiting, found, strict=True) if length > longest]
        for i in waiting:
            if items[i].num_shots_dropped == len(examples[i].shots):
                raise DataError(
                    f"item {examples[i].id}: its question alone is longer than the {longest:,} tokens "
                    "that fit (a model with a longer context, or evaluate.max_length)"
                )
            items[i] = item(examples[i], items[i].num_shots_dropped + 1, tokenizer)
    return items


def long_ones(examples: Sequence[Example], longest: int) -> list[Example]:
    """Those whose question alone might be more than `longest` tokens, without the examples before it.

    A text has at most as many tokens as bytes, so all others are short enough, and needn't be encoded.
    """
    return [
        replace(example, shots=(), rotations=())
        for example in examples
        if _num_bytes(example) + _TEMPLATE_TOKENS > longest
    ]


def _num_bytes(example: Example) -> int:
    """Bytes of the longest prompt with its answer, without examples."""
    longest = [
        max((len(text.encode("utf-8")) for text in texts), default=0)
        for texts in ((example.description,), example.questions, example.continuations)
    ]
    return sum(longest)


def _chat(tokenizer: PreTrainedTokenizerBase, example: Example, question: str, dropped: int) -> str:
    """The context as a conversation: description as system message, examples as earlier turns."""
    messages: list[dict[str, Any]] = []
    if example.description.strip():
        messages.append({"role": "system", "content": example.description.strip()})
    for shot in example.shots[dropped:]:
        messages.append({"role": "user", "content": shot.question})
        messages.append({"role": "assistant", "content": shot.answer.strip()})
    messages.append({"role": "user", "content": question})
    try:
        return chat_text(tokenizer, messages, add_generation_prompt=True)
    except RenderingError as error:
        raise DataError(
            f"item {example.id}: {error.of_chat_template()} "
            "(evaluate.chat_template=false, or model.tokenizer)"
        ) from error
