"""Generates texts one by one with transformers' `generate`, for models that can't share prefixes."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from workbench.contexts import forked_random_state
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.stop_rules import EndingCriteria


class GenerateAlone:
    """Continues each prompt alone, by calls of `generate`."""

    def __init__(self, settings: DecodingSettings) -> None:
        """Create it for a model."""
        self.lm, self.limits, self.endings = settings.lm, settings.limits, settings.endings
        self.on_token = settings.on_token

    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield each row with its `generated` tokens.

        A text that grows beyond the short frequencies of longrope is continued by a second call, which
        computes the text again.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        for row in rows:
            self.lm.rope.reset()
            self._generate(row)
            yield row

    @torch.no_grad()
    def _generate(self, row: Row) -> None:
        model: Any = self.lm.model
        original_config = model.generation_config
        model.generation_config = self._generation_config()
        try:
            with forked_random_state():
                torch.manual_seed(row.sampler.initial_seed())
                most_new = self.limits.max_new_tokens
                short = (self.lm.rope.longest_short or 0) + 1 - len(row.prompt)
                if 0 < short < most_new:
                    self._call_generate(row, short)
                if not row.generated or not self.endings.finished(row.generated, most_new):
                    self._call_generate(row, most_new - len(row.generated))
        finally:
            model.generation_config = original_config

    def _call_generate(self, row: Row, most_new: int) -> None:
        """Append at most `most_new` tokens to the row's `generated`."""
        model: Any = self.lm.model
        ids = torch.tensor([row.tokens], device=self.lm.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most_new,
            stopping_criteria=[EndingCriteria(self.endings, len(row.prompt), self.on_token)],
        )
        if any(bool(logits.isnan().any()) for logits in output.logits):
            raise not_numbers(f"after a prompt of {len(row.prompt)} tokens")
        row.generated = output.sequences[0, len(row.prompt) :].tolist()
        self.lm.computed_tokens += ids.shape[1]

    def _generation_config(self) -> transformers.GenerationConfig:
        """Return the limits as a configuration for transformers' `generate`.

        Settings of the checkpoint's generation_config, such as a repetition penalty, are not in it.
        """
        do_sample = self.limits.temperature > 0
        sampling = {name: getattr(self.limits, name) for name in ("temperature", "top_k", "top_p")}
        return transformers.GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.limits.max_new_tokens,
            do_sample=do_sample,
            **(sampling if do_sample else {}),
            repetition_penalty=self.limits.repetition_penalty,
            eos_token_id=sorted(self.endings.tokens) or None,
            pad_token_id=min(self.endings.tokens, default=0),
            return_dict_in_generate=True,
            output_logits=True,
        )
