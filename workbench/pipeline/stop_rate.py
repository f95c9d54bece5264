"""Counts sampled answers that end by themselves or repeat themselves, before and after a training."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.train import TrainConfig
from workbench.contexts import evaluation_mode, forked_random_state
from workbench.data.rows import Row
from workbench.distributed import is_sharded
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.models.adapters import attach
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.held_out.encoded_rows import HeldOutRow, context_length, encoded_rows, turn_ends
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.progress import Progress
from workbench.training.arguments import total_steps

log = logging.getLogger("workbench")

MOST_PROMPTS = 16
"""Largest number of prompts if `train.sample_answers` is null."""

FEWEST_TOKENS, MOST_TOKENS = 32, 256
"""Bounds of an answer's length limit, which is twice the longest answer of the rows."""

NGRAM, REPEATED_SHARE = 4, 0.5
"""An answer repeats itself if more than this share of its 4-grams are repetitions of earlier ones.

Source: seq-rep-4 of Welleck et al., Neural text generation with unlikelihood training, arXiv:1908.04319."""

Endings = dict[str, int]
"""Numbers of answers that end by themselves (`stopped`) and that repeat themselves (`repeating`)."""


@dataclass(frozen=True)
class PromptSample:
    """Prompts that the model answers before and after the training, with limits of its answers."""

    rows: list[HeldOutRow]
    """At least one row; its prompt is what is before the last answer."""
    origin: str
    """`held-out` or `training`: which rows the prompts come from."""
    max_new_tokens: int
    stop: list[str]
    """Texts that end an answer."""


def draw_prompts(
    run: Run, held_out: Sequence[Row], training: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> PromptSample | None:
    """Draw `train.sample_answers` prompts from the held-out rows, or else from the training rows.

    Returns:
        The prompts that fit into the context; None if no answers are wanted, no prompt fits or exists, or
        the model is a classifier or sharded.

    Raises:
        DataError: A drawn row can't be read, or training would drop all of them.
    """
    count = num_prompts(run.config.train, len(training or held_out))
    origin = "held-out" if held_out else "training"
    rows = held_out or training
    if not count or not rows or is_classifier(run.config) or run.config.train.fsdp or is_sharded():
        return None
    drawn_rows = random.Random(run.config.seed).sample(rows, min(count, len(rows)))
    encoded, _ = encoded_rows(drawn_rows, run, tokenizer)
    with_prompt = [row for row in encoded if row.spans[-1][0] > 1]  # plain text has no prompt
    longest = max((row.num_answer_tokens for row in with_prompt), default=0)
    max_new_tokens = min(MOST_TOKENS, max(FEWEST_TOKENS, 2 * longest))
    longest_prompt = context_length(run, tokenizer) - max_new_tokens
    fitting = [row for row in with_prompt if row.spans[-1][0] <= longest_prompt]
    return PromptSample(fitting, origin, max_new_tokens, turn_ends(fitting, tokenizer)) if fitting else None


def num_prompts(train: TrainConfig, num_rows: int) -> int:
    """Return `train.sample_answers`; if it is null, the number of training steps, at most `MOST_PROMPTS`.

    So a short trial run asks few prompts.

    Args:
        train: Batches and steps.
        num_rows: Training rows, before packing.
    """
    if train.sample_answers is not None:
        return train.sample_answers
    return min(MOST_PROMPTS, total_steps(math.ceil(num_rows / train.per_device_batch_size), train))


def count_endings(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: PromptSample,
    evaluate: EvaluateConfig,
    name: str,
) -> Endings:
    """Count how many of a model's greedy answers end by themselves, and how many repeat themselves.

    Returns {"stopped": number, "repeating": number}. The random state and the model are not changed. An
    adapter that the model has stays active.

    Args:
        model: The model to ask.
        tokenizer: The model's tokenizer.
        prompts: The prompts to answer.
        evaluate: The evaluate section.
        name: Name of the model in the log, such as base.
    """
    plain = attach.base_model(model) if isinstance(model, PeftModel) else model
    limits = GenerationConfig(max_new_tokens=prompts.max_new_tokens, stop=prompts.stop)
    prompt_ids = [list(row.input_ids[: row.spans[-1][0]]) for row in prompts.rows]
    log.info(
        "answers: the %s model answers %d prompts (train.sample_answers=0 leaves this out)",
        name,
        len(prompt_ids),
    )
    progress = Progress(
        f"answers of the {name} model", limits.max_new_tokens * len(prompt_ids), unit="tokens"
    )
    with forked_random_state(), prepacked(), evaluation_mode(plain), progress:
        decoder = Decoder(TransformersLM(plain, tokenizer, evaluate), limits)
        decoder.on_token = lambda _: progress.advance(1)
        answers = [
            tokens
            for _, tokens in tokens_within_memory(decoder, prompt_ids, [row.id for row in prompts.rows])
        ]
    return {
        "stopped": sum(decoder.endings.reached(tokens) for tokens in answers),
        "repeating": sum(repeats(tokens) for tokens in answers),
    }


def repeats(tokens: Sequence[int]) -> bool:
    """Return whether most 4-grams of an answer are repetitions of earlier ones."""
    ngrams = [tuple(tokens[start : start + NGRAM]) for start in range(len(tokens) - NGRAM + 1)]
    return bool(ngrams) and 1 - len(set(ngrams)) / len(ngrams) > REPEATED_SHARE


def answer_report(prompts: PromptSample, endings: Mapping[str, Endings]) -> dict[str, Any]:
    """Log each model's counts, and return them for train.json.

    Args:
        prompts: The prompts that were answered.
        endings: Model -> its counts.
    """
    count = len(prompts.rows)
    for name, counts in endings.items():
        log.info(
            "answers: of %d answers of the %s model to %s prompts, %d end by themselves within %d tokens, %d "
            "repeat themselves",
            count,
            name,
            prompts.origin,
            counts["stopped"],
            prompts.max_new_tokens,
            counts["repeating"],
        )
    sample = {"prompts": count, "of": prompts.origin, "max_new_tokens": prompts.max_new_tokens}
    return {**sample, "models": {name: dict(counts) for name, counts in endings.items()}}
