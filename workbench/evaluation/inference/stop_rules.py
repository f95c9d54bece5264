"""Where a generated answer ends: end tokens, the end of a chat turn, and stop texts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from workbench.data.templating.render import RenderingError, chat_text

_ANSWER = "an answer"
"""Rendered as the assistant's turn, to see what a chat template puts after it."""


class Endings:
    """The tokens and texts that end an answer, and the text of an answer without them.

    A stop text is looked for in the newest tokens, decoded with special tokens, so it may be a special token.
    The answer's text is decoded without special tokens and ends before the first stop text. Source:
    lm-evaluation-harness 0.4.13 with one prompt at a time, `models/utils_hf.py`, MultiTokenEOSCriteria.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str],
        as_harness: bool = False,
    ) -> None:
        """Take what names the ends.

        Args:
            model: its generation_config may name end tokens.
            tokenizer: its end token ends an answer, and the token that its chat template ends a turn with.
            stop: further texts that end an answer.
            as_harness: without the chat template's end of a turn, which lm-evaluation-harness ignores.
        """
        self.tokenizer = tokenizer
        eos = tokenizer.eos_token
        self.stop = list(dict.fromkeys([*stop, *([str(eos)] if eos else [])]))
        self.turn_end = None if as_harness else turn_end_token(tokenizer)
        self.tokens = end_tokens(model, tokenizer)
        if self.turn_end is not None:
            self.tokens.add(self.turn_end)
        # A stop text ends with the newest token, so only the last tokens, of at least a byte each, hold it.
        self._longest = max((len(text.encode("utf-8")) for text in self.stop), default=0) + 2

    def reached(self, made: Sequence[int]) -> bool:
        """Whether the newest of the generated tokens ends the answer."""
        if made[-1] in self.tokens:
            return True
        newest = str(self.tokenizer.decode(list(made[-self._longest :]), skip_special_tokens=False))
        return any(text in newest for text in self.stop)

    def text(self, made: Sequence[int]) -> str:
        """The text of generated tokens before the first stop text, special tokens left out."""
        if made and made[-1] == self.turn_end:
            made = made[:-1]  # it need not be a special token
        text = str(self.tokenizer.decode(list(made), skip_special_tokens=True))
        for stop in self.stop:
            text = text.split(stop)[0]
        return text


class EndingCriteria(StoppingCriteria):
    """The same for the model's own `generate`, which is given one prompt."""

    def __init__(
        self,
        endings: Endings,
        num_prompt: int,
        on_token: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        """Take the endings, the number of tokens of the prompt, and what hears the answer grow."""
        self.endings = endings
        self.num_prompt = num_prompt
        self.on_token = on_token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Whether each row is at its end, (rows,)."""
        rows = [row[self.num_prompt :].tolist() for row in input_ids]
        if self.on_token is not None:
            self.on_token(rows[0])
        return torch.tensor([self.endings.reached(made) for made in rows], device=input_ids.device)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokenizer's end token and those that the model's generation_config names."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ends = set(named) if isinstance(named, list) else {named}
    return {int(token) for token in ends | {tokenizer.eos_token_id} if token is not None}


def turn_end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the chat template puts after an assistant's turn; None without one."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        rendered = chat_text(tokenizer, messages)
    except RenderingError:
        return None  # such a template is refused where prompts are rendered with it
    _, answer, rest = rendered.rpartition(_ANSWER)
    if not answer or not rest.strip():
        return None
    first = int(tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"][0])
    return first if first in tokenizer.all_special_ids or first in _added(tokenizer) else None


def _added(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that were added to the vocabulary whole, such as `<|im_end|>`."""
    return set(getattr(tokenizer, "added_tokens_decoder", {}))
