"""Reads A and B of each layer of a LoRA, and measures the updates B·A without computing the products."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from peft import LoraConfig, PeftType
from peft.utils.other import get_pattern_key
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.adapters.adapter_config import check_finite, read_config, read_weights
from workbench.models.diagnosis.adapter_tensors import ROOT

SMALLEST_SHARE = 1e-6
"""Singular values below this share of the largest count as zero."""


@dataclass(frozen=True)
class LoraPair:
    """LoRA of one layer as its factors; its update of the weight is scale · B · A."""

    module: str
    """Name of the layer in the base."""
    down: Tensor
    """A (rank, in)"""
    up: Tensor
    """B (out, rank)"""
    scale: float
    magnitude: Tensor | None = None
    """DoRA's magnitudes (out,): the norm of each row of base plus update."""
    bias: Tensor | None = None
    """Trained bias of B (out,), multiplied by the scale too; None without `lora_bias`."""

    @property
    def rank(self) -> int:
        """Return the number of rows of A, which the update's rank doesn't exceed."""
        return len(self.down)

    @property
    def norm(self) -> float:
        """Return the Frobenius norm of the update."""
        return math.sqrt(max(0.0, inner_product(self, self)))

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the singular value decomposition of the update, without zero singular values, in float64.

        Left vectors (out, n), singular values (n,) descending, right vectors (in, n); n is the update's rank.
        It is computed once.
        """
        left, upper = torch.linalg.qr(self.up.double())
        right, lower = torch.linalg.qr(self.down.double().T)
        inner_left, values, inner_right = torch.linalg.svd(self.scale * upper @ lower.T)
        count = int((values > SMALLEST_SHARE * values[:1]).sum())
        return left @ inner_left[:, :count], values[:count], right @ inner_right[:count].T

    @property
    def stable_rank(self) -> float:
        """Return |update|² / (largest singular value)², an effective rank; 0 for an update of zeros."""
        values = self.spectrum[1]
        return float(values.square().sum() / values[0] ** 2) if len(values) else 0.0


def inner_product(first: LoraPair, second: LoraPair) -> float:
    """Return the Frobenius inner product of two updates of the same layer."""
    ups = first.up.double().T @ second.up.double()  # (rank, rank)
    downs = first.down.double() @ second.down.double().T
    return first.scale * second.scale * float((ups * downs).sum())


def lora_pairs(path: str | Path) -> list[LoraPair]:
    """Read A and B of all layers of the LoRA at `path`, a folder or hub id, sorted by the layers' names.

    Raises:
        CheckpointError: There is no adapter, it isn't a LoRA, or a file is damaged or has NaN.
    """
    config, weights = read_config(path), read_weights(path)
    if config.peft_type is not PeftType.LORA:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise CheckpointError(f"{path}: {kind} has no LoRA's matrices A and B (a LoRA)")
    assert isinstance(config, LoraConfig)
    pairs = []
    for key, values in weights.items():
        check_finite(path, key, values)
    for key, down in weights.items():
        for first, second in (
            (".lora_A.weight", ".lora_B.weight"),
            (".lora_embedding_A", ".lora_embedding_B"),
        ):
            if not key.endswith(first):
                continue
            module = key.removeprefix(ROOT).removesuffix(first)
            up = weights.get(key.removesuffix(first) + second)
            if up is None or up.dim() != 2 or down.dim() != 2 or up.shape[1] != len(down):
                raise CheckpointError(f"{path}: {key} has no {second[1:]} that fits it (truncated?)")
            layer = key.removesuffix(first)
            magnitudes = (weights.get(f"{layer}.lora_magnitude_vector{end}") for end in ("", ".weight"))
            magnitude = next((values.view(-1) for values in magnitudes if values is not None), None)
            scale, bias = _scale(config, module, len(down)), weights.get(f"{layer}.lora_B.bias")
            pairs.append(LoraPair(module, down, up, scale, magnitude, bias))
    if not pairs:
        raise CheckpointError(f"{path}: no layer has matrices A and B")
    return pairs


def _scale(config: LoraConfig, module: str, rank: int) -> float:
    """Return the factor of a layer's update as peft computes it: alpha / rank, for rsLoRA alpha / √rank."""
    patterns = config.alpha_pattern or {}
    alpha = patterns.get(get_pattern_key(list(patterns), module), config.lora_alpha)
    return float(alpha / math.sqrt(rank) if config.use_rslora else alpha / rank)
