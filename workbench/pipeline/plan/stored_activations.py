"""Finds out how much the layers of a run's model store for the backward pass."""

from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.models.adapters.attach import check_attachable
from workbench.models.architecture import is_native
from workbench.models.loading import outline
from workbench.models.trials.saved_bytes import count_saved_bytes
from workbench.models.trials.without_weights import has_known_layers
from workbench.pipeline.plan.planned_adapter import planned_adapter
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import run_autocast_dtype
from workbench.training.estimate.memory import NATIVE, TRIED, SavedBytes


def layer_factor(run: Run, empty_model: PreTrainedModel) -> float:
    """Return the activations that a layer stores, divided by those of Open-Llama's layers.

    Args:
        run: The run.
        empty_model: Its model, without weights.
    """
    model = run.config.model
    if model.fused and not is_native(model):
        return 1.0
    is_tried = model.fused and run_autocast_dtype(run) is None and has_known_layers(empty_model)
    return TRIED if is_tried else NATIVE


def saved_by_layers(run: Run, num_classes: int, *, on_cpu: bool) -> SavedBytes | None:
    """Return what the model's layers store in a training, counted in the model's own code.

    Kernels on a GPU compute attention scores again, except for eager attention.

    Args:
        run: The run.
        num_classes: Number of classes of a classifier; 0 for a causal model.
        on_cpu: Whether the training is planned on a CPU.

    Returns:
        The bytes; None if the code depends on values.
    """
    config, autocast = run.config, run_autocast_dtype(run)
    model = outline(config.model, num_classes or None)
    cast(nn.Module, model).to(torch.float32 if autocast else run.model_dtype)
    is_eager = model.config.get_text_config()._attn_implementation == "eager"
    if not config.adapter.is_none:
        check_attachable(model, planned_adapter(config.adapter))
    counted = count_saved_bytes(model, fused=config.model.fused, autocast=autocast)
    if counted is None:
        return None
    per_token, per_pair = counted
    return SavedBytes(per_token, per_pair if on_cpu or is_eager else 0.0)
