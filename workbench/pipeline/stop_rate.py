"""After a training: how many answers end by themselves, and how many go round in circles."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.data.rows import Row
from workbench.distributed import is_sharded
from workbench.evaluation.inference.causal_lm import TransformersLM, evaluation_mode
from workbench.evaluation.inference.decoder import Decoder
from workbench.models.adapters import attach
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.held_out.encoded_rows import HeldOutRow, context_length, encoded_rows, turn_ends
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier

log = logging.getLogger("workbench")

FEWEST_TOKENS, MOST_TOKENS = 32, 256
"""Bounds of an answer's length; between them it may be twice as long as the longest of the rows' own."""

NGRAM, REPEATED = 4, 0.5
"""An answer repeats itself where more than this share of its runs of four tokens has come before in it.

Source: seq-rep-4 of Welleck et al., Neural text generation with unlikelihood training, arXiv:1908.04319."""


@dataclass(frozen=True)
class Sample:
    """Prompts to be answered."""

    rows: list[HeldOutRow]
    origin: str
    """`held-out` or `training`: the rows that the prompts are of."""
    max_new_tokens: int
    stop: list[str]


def sample(
    run: Run, held_out: Sequence[Row], training: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> Sample | None:
    """Prompts of held-out rows, else of training rows; None where rows have no answers or none is wanted."""
    count, origin = run.config.train.sample_answers, "held-out" if held_out else "training"
    rows = held_out or training
    if not count or not rows or is_classifier(run.config) or is_sharded():
        return None
    chosen = random.Random(run.config.seed).sample(rows, min(count, len(rows)))
    found, _ = encoded_rows(chosen, run, tokenizer)
    answered = [row for row in found if row.spans[-1][0] > 1]  # plain text is trained from its beginning
    longest = max((row.num_answer_tokens for row in answered), default=0)
    budget = min(MOST_TOKENS, max(FEWEST_TOKENS, 2 * longest))
    room = context_length(run, tokenizer) - budget
    fitting = [row for row in answered if row.spans[-1][0] <= room]
    return Sample(fitting, origin, budget, turn_ends(fitting, tokenizer)) if fitting else None


def counted(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sample,
    evaluate: EvaluateConfig,
) -> dict[str, int]:
    """How many of a model's greedy answers end by themselves (`stopped`) and repeat themselves (`repeating`).

    The random state is afterwards as it was, and so is the model.
    """
    bare = attach.base_model(model) if isinstance(model, PeftModel) else model
    limits = GenerationConfig(max_new_tokens=asked.max_new_tokens, stop=asked.stop)
    prompts = [list(row.input_ids[: row.spans[-1][0]]) for row in asked.rows]
    with torch.random.fork_rng(), prepacked(), evaluation_mode(bare):
        decoder = Decoder(TransformersLM(bare, tokenizer, evaluate), limits)
        answers = [made for _, made in decoder.tokens(prompts, [row.id for row in asked.rows])]
    return {
        "stopped": sum(decoder.endings.reached(made) for made in answers),
        "repeating": sum(repeats(made) for made in answers),
    }


def repeats(tokens: Sequence[int]) -> bool:
    """Whether most runs of four tokens of an answer have come before in it."""
    runs = [tuple(tokens[start : start + NGRAM]) for start in range(len(tokens) - NGRAM + 1)]
    return bool(runs) and 1 - len(set(runs)) / len(runs) > REPEATED


def account(asked: Sample, models: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What train.json says: the sample, and of each model its counts; said in the log, too."""
    count = len(asked.rows)
    for name, found in models.items():
        log.info(
            "answers: %s ends %d of %d by itself within %d tokens, and repeats itself in %d (%s prompts)",
            name,
            found["stopped"],
            count,
            asked.max_new_tokens,
            found["repeating"],
            asked.origin,
        )
    about = {"prompts": count, "of": asked.origin, "max_new_tokens": asked.max_new_tokens}
    return {**about, "models": {name: dict(found) for name, found in models.items()}}
