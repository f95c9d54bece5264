"""Continues prompts token by token, with the ways of decoding that a model and its prompts allow."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from itertools import chain

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoding.generate_alone import GenerateAlone
from workbench.evaluation.inference.decoding.padded_batches import PaddedBatches
from workbench.evaluation.inference.decoding.prefix_store import PrefixStore
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings
from workbench.evaluation.inference.decoding.slot_decoding import SlotDecoding
from workbench.evaluation.inference.sampling import sampler
from workbench.evaluation.inference.stop_rules import Endings


class Decoder:
    """Continues prompts, greedily or by sampling.

    In float32 an answer doesn't depend on the rest of its batch. In other dtypes it may, if two tokens are
    about equally likely, unless `invariant` decodes each prompt alone.
    """

    def __init__(self, lm: TransformersLM, limits: GenerationConfig, as_harness: bool = False) -> None:
        """Create a decoder.

        Args:
            lm: model and tokenizer.
            limits: sampling and end of an answer.
            as_harness: end an answer exactly where lm-evaluation-harness ends it; otherwise an answer also
                ends at the end of a turn in the tokenizer's chat template.
        """
        self.lm = lm
        self.limits = limits
        self.endings = Endings(lm.model, lm.tokenizer, limits.stop, as_harness)
        self.on_token: Callable[[Sequence[int]], None] | None = None
        """Called with the generated tokens of an answer, after each new token."""
        self.most_cached: int | None = None
        """Largest number of tokens in the slots of several prompts, except shared prefixes; None: 256 MiB of
        keys and values on a CPU, 4 GiB on a GPU, or a quarter of the weights' size."""
        self._prefixes = PrefixStore(lm)

    def limited(self, limits: GenerationConfig) -> "Decoder":
        """Return a decoder of the same model with other limits; its answers end at the same tokens."""
        decoder = copy(self)
        decoder.limits, decoder.endings = limits, self.endings.with_stop(limits.stop)
        decoder.on_token, decoder._prefixes = None, PrefixStore(self.lm)
        return decoder

    def stream(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield index and answer of each prompt, as soon as it is known; it ends before a stop text.

        Args:
            prompts: token ids.
            seeds: seed of each answer's sampling; not used where the temperature is 0.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        for index, generated in self.tokens(prompts, seeds):
            yield index, self.endings.text(generated)

    def tokens(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """Yield index and generated tokens of each prompt, including the token that ended the answer.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        most_new = self.limits.max_new_tokens - 1  # the last one is not an input
        rows = [Row(index, prompt, sampler(seeds[index])) for index, prompt in enumerate(prompts)]
        settings = DecodingSettings(self.lm, self.limits, self.endings, self.on_token, self.most_cached)
        if not self.lm.shares_prefixes:
            ended = GenerateAlone(settings).run(rows)
        else:
            can_share = [self.lm.can_share(len(row.prompt) + most_new) for row in rows]
            sharing = [row for row, can in zip(rows, can_share, strict=True) if can]
            others = [row for row, can in zip(rows, can_share, strict=True) if not can]
            ended = chain(
                SlotDecoding(settings, self._prefixes).run(sharing),
                PaddedBatches(settings).run(others),
            )
        yield from ((row.index, row.generated) for row in ended)
