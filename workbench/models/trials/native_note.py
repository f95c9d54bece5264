"""Chooses faster attention and norms for a model of transformers' own class; says in a line what it lacks."""

import torch
from transformers import PreTrainedModel

from workbench.config.model import Attention, ModelConfig, Task
from workbench.models.adapters.targets import fused_experts
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.trials.blocked_attention import use_blocked_attention
from workbench.models.trials.fused_norms import use_fused_norms

COST = "rotating positions takes more passes than in Open-Llama, about 3% more memory traffic in training"


def native_note(loaded: PreTrainedModel, model: ModelConfig, reason: str) -> str:
    """Switch a loaded model to fused norms and attention in blocks, if trials find them exact.

    Args:
        loaded: The model of transformers' own class; it is put into eval mode, and its norms and
            attention may be changed.
        model: Section `model` of the configuration.
        reason: Why Open-Llama doesn't run the model, as the beginning of the line.

    Returns:
        A line for the log: why the model runs in transformers' own class, and what is slower there.
    """
    loaded.train(False)
    words = [f"{reason}: transformers' own {type(loaded).__name__} runs the model"]
    if any("Rotary" in type(module).__name__ for module in loaded.modules()):
        words.append(COST)
    if fused_experts(loaded):
        words.append("adapters leave out its experts")
    if model.fused and (norms := use_fused_norms(loaded)):
        words.append(
            f"{' and '.join(norms)} computes no known formula: float32 copies are stored in training"
        )
    if _wants_blocks(loaded, model) and (difference := use_blocked_attention(loaded)):
        words.append(f"attention computes masked scores, too ({difference})")
    return "; ".join(words)


def _wants_blocks(loaded: PreTrainedModel, model: ModelConfig) -> bool:
    """Return whether attention in blocks may be faster: bfloat16 on a CPU that multiplies it."""
    is_free = model.fused and model.task is Task.causal_lm and model.attention is Attention.auto
    is_half = loaded.device.type == "cpu" and loaded.dtype == torch.bfloat16 and multiplies_bfloat16()
    return is_free and is_half
