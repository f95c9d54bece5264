"""Answers requests by a model: prompts to token ids, decoding, log-probabilities."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.config.benchmark import GenerationConfig
from workbench.config.data import DataConfig, Template
from workbench.config.model import Task
from workbench.config.serving.serve import ServeConfig
from workbench.data.inference_prompts import prompts as chat_prompts
from workbench.data.readers.row import Row
from workbench.data.tokens.segments import special_frame
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.evaluation.inference.layer_checks import checked_layers
from workbench.evaluation.inference.stop_rules import stable_prefix
from workbench.evaluation.inference.token_scores import token_scores
from workbench.evaluation.inference.token_texts import TokenTexts
from workbench.serving.refusal import Refusal
from workbench.serving.requests import Request
from workbench.serving.responses import Choice, Scores, Usage, choice_fields

MOST_LOGPROBS = 1 << 20
"""Log-probabilities in an answer, which has about 30 bytes for each."""
MOST_CACHED_TOKENS = 1 << 14
"""Tokens of prompts and answers that are decoded at once, but for a single prompt."""


class ServedModels(Protocol):
    """The models that a server answers with."""

    def answering(self, name: str) -> AbstractContextManager[Decoder]:
        """Return a context that yields the decoder of the model `name`, for use within the context."""


@dataclass(frozen=True)
class Answers:
    """All answers to a request: those to the first prompt, then those to the next."""

    choices: list[dict[str, Any]]
    """The answers as objects of OpenAI's interface; empty in a stream, whose texts went to `Work.on_text`."""
    usage: Usage
    """Numbers of tokens of all prompts and answers."""


@dataclass(frozen=True)
class _Prompt:
    tokens: list[int]
    num_added: int = 0
    """Number of special tokens in front, which the prompt's text doesn't have."""


@dataclass
class Work:
    """A request to answer, and the functions that are called while its answers are computed."""

    request: Request
    check: Callable[[], None]
    """Called before each layer of a forward pass, and for each token; raises an error when nobody waits for
    the answer anymore."""
    on_text: Callable[[int, str], None]
    """Called with an answer's index and its next characters, in a stream only."""
    on_end: Callable[[int, str], None]
    """Called with an answer's index and its finish reason, stop or length, in a stream only."""
    seed: int = field(default_factory=lambda: secrets.randbits(63))
    """Seed of drawn tokens if the request has none."""


class Answerer:
    """Answers requests by the models of a server, in the thread that owns them."""

    def __init__(self, models: ServedModels, data: DataConfig, limits: ServeConfig) -> None:
        """Create an answerer.

        Args:
            models: The models of the server.
            data: The data section, whose chat template renders the messages of a chat.
            limits: The serve section, with the limits on requests.
        """
        self.models, self.data, self.limits = models, data, limits
        self._texts: dict[str, TokenTexts] = {}

    def answer(self, work: Work) -> Answers:
        """Compute and return all answers to a request; in a stream, texts are handed to `work` as they grow.

        Raises:
            Refusal: The request can't be answered, for example because it doesn't fit into the context.
            WorkbenchError: The chat can't be rendered, or the model's logits are NaN.
            Exception: What `work.check` raises, when nobody waits for the answer anymore.
        """
        request = work.request
        with (
            self.models.answering(request.model) as decoder,
            checked_layers(decoder.lm.model, work.check),
        ):
            if request.model not in self._texts:
                self._texts[request.model] = TokenTexts(decoder.lm.tokenizer)
            texts = self._texts[request.model]
            prompts = self._prompts(request, decoder)
            most_new = self._most_new(request, decoder, prompts)
            seed = work.seed if request.seed is None else request.seed
            seeds = [f"{seed}/{index}" for index in range(len(prompts) * request.n)]
            limited = decoder.limited(
                GenerationConfig(
                    max_new_tokens=max(most_new, 1),
                    stop=request.stop,
                    temperature=request.temperature,
                    top_k=request.top_k,
                    top_p=request.top_p,
                    repetition_penalty=request.repetition_penalty,
                )
            )
            limited.most_cached = MOST_CACHED_TOKENS
            generated = self._generate(work, limited, prompts, seeds, texts, most_new)
            choices = [
                choice_fields(
                    request,
                    index,
                    self._choice(work, limited, prompts[index // request.n], tokens, texts),
                    texts,
                )
                for index, tokens in enumerate([] if request.stream else generated)
            ]
        num_prompt, num_new = sum(len(p.tokens) for p in prompts), sum(len(tokens) for tokens in generated)
        return Answers(choices, Usage(num_prompt, num_new))

    def _prompts(self, request: Request, decoder: Decoder) -> list[_Prompt]:
        """Return the token ids of a request's prompts."""
        lm = decoder.lm
        if request.is_chat:
            if self.data.template == Template["auto"].name and not lm.tokenizer.chat_template:
                raise Refusal(
                    400,
                    f"messages: {request.model!r} has no chat template (/v1/completions continues a text; "
                    "the server's data.template gives it one)",
                    "messages",
                )
            row = Row({"messages": request.messages}, "messages")
            (chat,) = chat_prompts([row], lm.tokenizer, self.data, Task.causal_lm)
            return [_Prompt(chat.input_ids)]
        return [self._continued(prompt, decoder) for prompt in request.prompts]

    def _continued(self, prompt: str | list[int], decoder: Decoder) -> _Prompt:
        """Return the token ids of a text or of token ids to continue."""
        lm = decoder.lm
        if not isinstance(prompt, str):
            if all(0 <= token < lm.vocabulary for token in prompt):
                return _Prompt(prompt)
            raise Refusal(400, f"prompt: a token id is not from 0 to {lm.vocabulary - 1:,}", "prompt")
        tokens = lm.encode([prompt])[0]
        added, bos = list(special_frame(lm.tokenizer)[0]), str(lm.tokenizer.bos_token or "")
        is_framed = tokens[: len(added)] == added and not (bos and prompt.startswith(bos))
        return _Prompt(tokens, len(added) if is_framed else 0) if tokens else _Prompt([lm.start_token], 1)

    def _most_new(self, request: Request, decoder: Decoder, prompts: Sequence[_Prompt]) -> int:
        """Return the largest number of new tokens, after checking that all of them fit into the context."""
        longest, context = max(len(prompt.tokens) for prompt in prompts), decoder.lm.max_length
        most_new = request.max_tokens
        if most_new is None:
            most_new = max(1, min(self.limits.max_new_tokens, context - longest))
        if longest + most_new > context:
            raise Refusal(
                400,
                f"the prompt's {longest:,} tokens and {most_new:,} new ones don't fit into the model's "
                f"context of {context:,} (shorten the prompt, or lower max_tokens)",
                code="context_length_exceeded",
            )
        if request.logprobs is not None:
            num_echoed = sum(len(prompt.tokens) for prompt in prompts) if request.echo else 0
            num_tokens = request.n * (num_echoed + len(prompts) * most_new)
            if num_tokens * (1 + request.logprobs) > MOST_LOGPROBS:
                raise Refusal(
                    400,
                    f"logprobs: of {num_tokens:,} tokens, more than {MOST_LOGPROBS:,} in an answer (ask for "
                    "fewer prompts, answers or tokens at a time)",
                    "logprobs",
                )
        return most_new

    def _generate(
        self,
        work: Work,
        decoder: Decoder,
        prompts: Sequence[_Prompt],
        seeds: Sequence[str],
        texts: TokenTexts,
        most_new: int,
    ) -> list[list[int]]:
        """Return the generated tokens of each answer; in a stream, one answer after the other.

        `seeds` has one seed for each answer, so that a prompt that is in the list twice has two answers.
        """
        request = work.request
        rows = [prompt.tokens for prompt in prompts for _ in range(request.n)]
        if request.stream:
            generated = []
            for index, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
                prompt = prompts[index // request.n]
                shown = prompt.tokens[prompt.num_added :] if request.echo else []
                if request.echo:
                    work.on_text(index, "".join(texts.parts(shown)))
                generated.append(
                    _stream_answer(work, decoder, index, row, seed, texts, shown) if most_new else []
                )
                work.on_end(index, decoder.endings.finish_reason(generated[-1]))
            return generated
        if not most_new:
            return [[] for _ in rows]
        decoder.on_token = lambda _: work.check()
        if request.temperature == 0:  # the answers to a prompt are all the same
            unique = [prompt.tokens for prompt in prompts]
            generated_by_prompt = dict(tokens_within_memory(decoder, unique, seeds[:: request.n]))
            return [generated_by_prompt[index] for index in range(len(prompts)) for _ in range(request.n)]
        generated_by_row = dict(tokens_within_memory(decoder, rows, seeds))
        return [generated_by_row[index] for index in range(len(rows))]

    def _choice(
        self, work: Work, decoder: Decoder, prompt: _Prompt, generated: list[int], texts: TokenTexts
    ) -> Choice:
        """Return an answer with its text and, if asked for, log-probabilities.

        They are those of one forward pass over prompt and answer, as in the evaluate step.
        """
        request, shown = work.request, prompt.tokens[prompt.num_added :]
        text = decoder.endings.text(generated) if generated else ""
        if request.echo:
            space = texts.dropped_space(shown, generated, text)
            text = "".join(texts.parts(shown)) + space + text
        reason = decoder.endings.finish_reason(generated)
        if request.logprobs is None:
            return Choice(text, reason)
        tokens, num_prompt = [*prompt.tokens, *generated], len(prompt.tokens)
        first = 1 if request.echo else num_prompt
        scores = token_scores(decoder.lm, tokens, first, request.logprobs, work.check)
        if not request.echo:
            parts = texts.parts(tokens, num_prompt)
            if texts.dropped_space(shown, generated, text):
                parts[0] = parts[0][1:]
            return Choice(text, reason, Scores(generated, parts, [*scores]))
        parts = [*[""] * prompt.num_added, *texts.parts([*shown, *generated])]
        return Choice(text, reason, Scores(tokens, parts, [None, *scores]))


def _stream_answer(
    work: Work,
    decoder: Decoder,
    index: int,
    prompt: list[int],
    seed: str,
    texts: TokenTexts,
    shown: Sequence[int],
) -> list[int]:
    """Return the tokens of an answer, whose text is handed on as it grows, after the text of `shown`."""
    sent, endings = "", decoder.endings

    def hand_on(tokens: Sequence[int], text: str) -> None:
        space = texts.dropped_space(shown, tokens, text) if shown and not sent else ""
        work.on_text(index, space + text[len(sent) :])

    def on_token(tokens: Sequence[int]) -> None:
        nonlocal sent
        work.check()
        text = stable_prefix(endings.text(tokens), endings.stop)
        if len(text) > len(sent) and text.startswith(sent):
            hand_on(tokens, text)
            sent = text

    decoder.on_token = on_token
    ((_, generated),) = tokens_within_memory(decoder, [prompt], [seed])
    text = endings.text(generated)
    if not text.startswith(sent):
        raise Refusal(500, "a later token changed the text that was sent (ask without stream)")
    if len(text) > len(sent):
        hand_on(generated, text)
    return generated
