"""Detects the end of a generated answer: end tokens, the end of a chat turn, and stop texts."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from workbench.data.templating.render import RenderingError, chat_text

INCOMPLETE = "\ufffd"
"""Character that decoding puts in place of a character whose bytes are incomplete."""
_ANSWER = "an answer"
"""Rendered as the assistant's turn, to find the token that a chat template puts after it."""


class Endings:
    """Detects the end of an answer by tokens and texts, and decodes the answer without them.

    Stop texts are searched in the newest tokens, decoded with special tokens, so a stop text may be a special
    token. The answer is decoded without special tokens and ends before the first stop text. Source:
    lm-evaluation-harness 0.4.13 with one prompt at a time, `models/utils_hf.py`, MultiTokenEOSCriteria.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str],
        as_harness: bool = False,
    ) -> None:
        """Collect the tokens and texts that end an answer.

        Args:
            model: model whose generation_config may name end tokens.
            tokenizer: tokenizer with an end token, and a chat template with a token at the end of a turn.
            stop: further texts that end an answer.
            as_harness: ignore the end of a chat turn, and keep the replacement of an incomplete character, as
                lm-evaluation-harness does.
        """
        self.tokenizer = tokenizer
        self.keeps_incomplete = as_harness
        self._set_stop(stop)
        self.turn_end = None if as_harness else turn_end_token(tokenizer)
        self.tokens = end_tokens(model, tokenizer)
        if self.turn_end is not None:
            self.tokens.add(self.turn_end)

    def _set_stop(self, stop: Sequence[str]) -> None:
        eos = self.tokenizer.eos_token
        self.stop = list(dict.fromkeys([*stop, *([str(eos)] if eos else [])]))
        # A stop text ends with the newest token, and a token has at least one byte.
        self._window = max((len(text.encode("utf-8")) for text in self.stop), default=0) + 2

    def with_stop(self, stop: Sequence[str]) -> "Endings":
        """Return endings with the same end tokens and other stop texts."""
        endings = copy(self)
        endings._set_stop(stop)
        return endings

    def reached(self, generated: Sequence[int]) -> bool:
        """Return whether the newest token is an end token, or a stop text occurs in the newest tokens.

        `generated` has all tokens of the answer so far, at least one.
        """
        if generated[-1] in self.tokens:
            return True
        newest = str(self.tokenizer.decode(list(generated[-self._window :]), skip_special_tokens=False))
        return any(text in newest for text in self.stop)

    def finished(self, generated: Sequence[int], max_new_tokens: int) -> bool:
        """Return whether an answer has ended, or has as many tokens as it may have."""
        return len(generated) >= max_new_tokens or self.reached(generated)

    def finish_reason(self, generated: Sequence[int]) -> str:
        """Return `stop` if an end token or stop text ended the answer, else `length`: the token limit did."""
        return "stop" if generated and self.reached(generated) else "length"

    def text(self, generated: Sequence[int]) -> str:
        """Decode generated tokens without special tokens, and return the text before the first stop text.

        If the token limit ended the answer inside a character, the incomplete character is left out, except
        with `as_harness`.
        """
        is_cut = bool(generated) and not self.keeps_incomplete and not self.reached(generated)
        if generated and generated[-1] == self.turn_end:
            generated = generated[:-1]  # the token may be an ordinary one, which decoding keeps
        text = str(self.tokenizer.decode(list(generated), skip_special_tokens=True))
        text = self.before_stop(text)
        return text.rstrip(INCOMPLETE) if is_cut else text

    def before_stop(self, text: str) -> str:
        """Return the part of a text before the first stop text."""
        for stop in self.stop:
            text = text.split(stop)[0]
        return text


def stable_prefix(text: str, stop: Sequence[str]) -> str:
    """Return the part of a growing text that further tokens can't change.

    Spaces, an incomplete character, and what may be the beginning of a stop text, are cut off its end.
    """
    text = text.rstrip(INCOMPLETE + " ")
    prefixes = [stop_text[:length] for stop_text in stop for length in range(1, len(stop_text))]
    incomplete = [prefix for prefix in prefixes if text.endswith(prefix)]
    return text.removesuffix(max(incomplete, key=len, default=""))


class EndingCriteria(StoppingCriteria):
    """Tells transformers' `generate` by `Endings` when an answer ends; the batch is a single prompt."""

    def __init__(
        self,
        endings: Endings,
        num_prompt: int,
        on_token: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        """Create the criteria.

        Args:
            endings: tokens and texts that end an answer.
            num_prompt: number of tokens of the prompt.
            on_token: called with the generated tokens after each new token.
        """
        self.endings = endings
        self.num_prompt = num_prompt
        self.on_token = on_token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return whether each row has ended, (rows,)."""
        rows = [row[self.num_prompt :].tolist() for row in input_ids]
        if self.on_token is not None:
            self.on_token(rows[0])
        return torch.tensor([self.endings.reached(generated) for generated in rows], device=input_ids.device)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of the end tokens (EOS) of the tokenizer and of the model's generation_config."""
    config = getattr(model, "generation_config", None)
    configured = getattr(config, "eos_token_id", None)
    ends = set(configured) if isinstance(configured, list) else {configured}
    return {int(token) for token in ends | {tokenizer.eos_token_id} if token is not None}


def turn_end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the special token that the chat template puts after an assistant's turn, or None."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        rendered = chat_text(tokenizer, messages)
    except RenderingError:
        return None  # rendering a prompt reports such a template
    _, answer, suffix = rendered.rpartition(_ANSWER)
    if not answer or not suffix.strip():
        return None
    first = int(tokenizer(suffix.lstrip(), add_special_tokens=False)["input_ids"][0])
    return first if first in tokenizer.all_special_ids or first in _added_tokens(tokenizer) else None


def _added_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of the tokens that were added to the tokenizer's vocabulary, such as `<|im_end|>`."""
    return set(getattr(tokenizer, "added_tokens_decoder", {}))
