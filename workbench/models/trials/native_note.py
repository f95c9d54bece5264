"""Chooses faster attention for a model of transformers' own class; describes for the log what it lacks."""

import logging
from functools import cache

import torch
from transformers import PreTrainedModel

from workbench.config.model import Attention, ModelConfig, Task
from workbench.models.adapters.targets import fused_experts
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.trials.blocked_attention import use_blocked_attention

logger = logging.getLogger("workbench")

COST = "each layer has LoRA products and norms of its own, which takes more time than Open-Llama's joint ones"


@cache
def log_once(line: str) -> None:
    """Log `line` as info, unless this function has logged the same line in this process."""
    logger.info("%s", line)


def native_note(loaded: PreTrainedModel, model: ModelConfig, reason: str) -> str:
    """Switch a loaded model to attention in blocks, if a trial finds that exact; return a line for the log.

    The line says why the model runs in transformers' own class, and what is slower there.

    Args:
        loaded: The model of transformers' own class; it is put into eval mode, and its attention may be
            changed.
        model: Section `model` of the configuration.
        reason: Why Open-Llama doesn't run the model, as the beginning of the line.
    """
    loaded.train(False)
    words = [f"{reason}: transformers' own {type(loaded).__name__} runs the model", COST]
    if fused_experts(loaded):
        words.append("adapters leave out its experts")
    if _wants_blocks(loaded, model) and (difference := use_blocked_attention(loaded)):
        words.append(f"attention computes masked scores, too ({difference})")
    return "; ".join(words)


def _wants_blocks(loaded: PreTrainedModel, model: ModelConfig) -> bool:
    """Return whether attention in blocks may be faster: bfloat16 on a CPU that multiplies it."""
    is_free = model.fused and model.task is Task.causal_lm and model.attention is Attention.auto
    is_half = loaded.device.type == "cpu" and loaded.dtype == torch.bfloat16 and multiplies_bfloat16()
    return is_free and is_half
