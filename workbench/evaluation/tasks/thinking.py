"""Generates texts whose thoughts end at a budget of tokens; the answer after a thought has its own limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import GenerationConfig
from workbench.data.chat.thoughts import CLOSED, OPENED
from workbench.evaluation.endpoint.endpoint_decoder import EndpointDecoder
from workbench.evaluation.extraction.thoughts import opens_thought
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.evaluation.inference.generated_text import GeneratedText
from workbench.evaluation.inference.stop_rules import INCOMPLETE

EARLY_STOP = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking "
    f"directly now.\n{CLOSED}\n\n"
)
"""Text that closes a thought whose budget is used up. Source: Qwen3's documentation of its thinking budget
(`early_stopping_text`); Qwen3 technical report, arXiv:2505.09388, section 4.3."""
_GROUP = 64
"""Largest number of prompts whose thoughts are decoded before their answers: what a kill loses at most."""
_SPARE = 2
"""Tokens of white space that a model may write before the opening tag of its thought."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as text and as tokens."""

    text: str
    tokens: list[int]


@dataclass(frozen=True)
class _Thought:
    """A thought that a model wrote after a prompt."""

    text: str
    """The thought as it stands before the answer, with its closing tag or `EARLY_STOP`."""
    prompt: list[int]
    """Tokens of the prompt and of the thought, which the answer continues."""
    is_cut: bool
    """Whether the budget ended the thought."""


def most_new_tokens(tokenizer: PreTrainedTokenizerBase, limits: GenerationConfig) -> int:
    """Return the largest number of tokens after a prompt: of the thought, of `EARLY_STOP`, and of the answer.

    Without a thinking budget, it is `max_new_tokens`.
    """
    if limits.thinking_budget is None:
        return limits.max_new_tokens
    return limits.thinking_budget + len(_encoded(tokenizer, EARLY_STOP)) + limits.max_new_tokens


class ThinkingDecoder:
    """Continues prompts by a thought of at most as many tokens as its budget, and then by an answer.

    A thought begins where the prompt ends with `<think>`, or where the text begins with it. It ends with
    `</think>`, or where the budget is used up: then `EARLY_STOP` closes it. Stop texts count in the answer
    only. A text without a thought is the one that the decoder writes without a budget.
    """

    def __init__(self, decoder: Decoder | EndpointDecoder, budget: int) -> None:
        """Create a decoder.

        Args:
            decoder: decoder with the limits of the answer.
            budget: largest number of tokens of a thought, its tags included.
        """
        self.decoder, self.tokenizer = decoder, decoder.lm.tokenizer
        limits = decoder.limits
        self._beginnings = _limited(
            decoder,
            replace(limits, max_new_tokens=len(_encoded(self.tokenizer, OPENED)) + _SPARE, stop=[]),
        )
        # An endpoint's text doesn't say which stop text ended it, so there the tag is searched afterwards.
        stop = [] if isinstance(decoder, EndpointDecoder) else [CLOSED]
        self._thoughts = _limited(decoder, replace(limits, max_new_tokens=budget, stop=stop))

    def texts(self, prompts: Sequence[Prompt], seeds: Sequence[str]) -> Iterator[tuple[int, GeneratedText]]:
        """Yield index and generated text of each prompt, thought included, group by group.

        Args:
            prompts: the prompts.
            seeds: seed of each text's sampling; the answer after a thought is drawn by `SEED/answer`.

        Raises:
            CheckpointError: The model's logits are NaN.
            EndpointError: The endpoint fails.
        """
        order = sorted(range(len(prompts)), key=lambda index: prompts[index].tokens)
        for start in range(0, len(order), _GROUP):
            group = {index: prompts[index] for index in order[start : start + _GROUP]}
            thinking = self._thinking(group, seeds)
            plain = {index: prompt.tokens for index, prompt in group.items() if index not in thinking}
            for index, text in self._answers(plain, seeds):
                yield index, text._replace(thought_cut=False)
            yield from self._thoughts_and_answers(thinking, seeds)

    def _thinking(self, prompts: Mapping[int, Prompt], seeds: Sequence[str]) -> dict[int, Prompt]:
        """Return the prompts that a thought follows; where a prompt opens none, a few tokens are decoded."""
        closed = {index: prompt for index, prompt in prompts.items() if not opens_thought(prompt.text)}
        begun = _written(self._beginnings, {i: prompt.tokens for i, prompt in closed.items()}, seeds)
        return {
            index: prompt
            for index, prompt in prompts.items()
            if index not in begun or begun[index].text.lstrip().startswith(OPENED)
        }

    def _thoughts_and_answers(
        self, prompts: Mapping[int, Prompt], seeds: Sequence[str]
    ) -> Iterator[tuple[int, GeneratedText]]:
        """Yield index and text of each prompt: a thought, and the answer after it.

        A text that the model ends within its thought has no answer.
        """
        written = _written(self._thoughts, {i: prompt.tokens for i, prompt in prompts.items()}, seeds)
        thoughts: dict[int, _Thought] = {}
        for index, thought in written.items():
            if CLOSED not in thought.text and thought.finish_reason == "stop":
                yield index, GeneratedText(thought.text, thought.finish_reason, thought_cut=False)
            else:
                thoughts[index] = self._ended(prompts[index], thought)
        continued = {index: ended.prompt for index, ended in thoughts.items()}
        for index, (text, reason, _) in self._answers(continued, [f"{seed}/answer" for seed in seeds]):
            yield index, GeneratedText(thoughts[index].text + text, reason, thoughts[index].is_cut)

    def _ended(self, prompt: Prompt, written: "_Written") -> _Thought:
        """Return a thought with its end, which is `EARLY_STOP` where the budget ended it."""
        thought, closing_tag, rest = written.text.partition(CLOSED)
        ending = closing_tag or EARLY_STOP
        if written.tokens is None:  # the answer begins anew after the tag
            text = thought + ending
            [tokens] = self.decoder.lm.encode([prompt.text + text])
            return _Thought(text, tokens, is_cut=not closing_tag)
        added = [] if closing_tag else _encoded(self.tokenizer, EARLY_STOP)
        text = thought + ending + rest
        return _Thought(text, [*prompt.tokens, *written.tokens, *added], is_cut=not closing_tag)

    def _answers(
        self, prompts: Mapping[int, list[int]], seeds: Sequence[str]
    ) -> Iterator[tuple[int, GeneratedText]]:
        """Yield index and text of each prompt, as the decoder without a budget writes it."""
        indices = list(prompts)
        stream = texts(self.decoder, list(prompts.values()), [seeds[index] for index in indices])
        yield from ((indices[position], text) for position, text in stream)


def texts(
    decoder: Decoder | EndpointDecoder, prompts: Sequence[list[int]], seeds: Sequence[str]
) -> Iterator[tuple[int, GeneratedText]]:
    """Yield index and generated text of each prompt, as soon as the text is known.

    Args:
        decoder: continues the prompts.
        prompts: token ids.
        seeds: seed of each text's sampling.
    """
    if isinstance(decoder, EndpointDecoder):
        yield from decoder.texts(prompts, seeds)
        return
    endings = decoder.endings
    for index, generated in tokens_within_memory(decoder, prompts, seeds):
        yield index, GeneratedText(endings.text(generated), endings.finish_reason(generated))


@dataclass(frozen=True)
class _Written:
    """What a model wrote after a prompt."""

    text: str
    """The text with its stop text, and with special tokens where the model is here."""
    tokens: list[int] | None
    """Its tokens; None: an endpoint wrote it."""
    finish_reason: str | None
    """As in GeneratedText."""


def _limited(decoder: Decoder | EndpointDecoder, limits: GenerationConfig) -> Decoder | EndpointDecoder:
    """Return a decoder of the same model with other limits."""
    if isinstance(decoder, EndpointDecoder):
        return EndpointDecoder(decoder.lm, limits, as_harness=False)
    return decoder.limited(limits)


def _written(
    decoder: Decoder | EndpointDecoder, prompts: Mapping[int, list[int]], seeds: Sequence[str]
) -> dict[int, _Written]:
    """Return index -> what the model writes after each prompt; `prompts` are token ids."""
    indices, chosen = list(prompts), [seeds[index] for index in prompts]
    if isinstance(decoder, EndpointDecoder):
        stream = decoder.texts(list(prompts.values()), chosen)
        return {indices[position]: _Written(text, None, reason) for position, (text, reason, _) in stream}
    endings, written = decoder.endings, {}
    for position, generated in tokens_within_memory(decoder, list(prompts.values()), chosen):
        text, reason = str(endings.tokenizer.decode(generated)), endings.finish_reason(generated)
        if reason == "stop" and CLOSED not in text:
            text = endings.text(generated)  # without the token that ended it
        written[indices[position]] = _Written(text.rstrip(INCOMPLETE), generated, reason)
    return written


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text within another, without special tokens around it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
