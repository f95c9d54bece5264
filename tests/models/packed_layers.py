"""Packs linear layers as other tools do, written from their published layouts, one integer at a time.

Each function takes a weight (out, in), and returns the tensors of the layer by the ends of their names, and
the weight that they stand for, in float64.
"""

import numpy as np
import torch
from torch import Tensor

Layer = tuple[dict[str, Tensor], np.ndarray]


def words(values: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """Integers (rows, columns) packed along the columns into int32, padded with zeros."""
    per_word = 32 // bits
    order = order or tuple(range(per_word))
    padded = np.zeros((len(values), -(-values.shape[1] // per_word) * per_word), dtype=np.uint64)
    padded[:, : values.shape[1]] = values
    packed = np.zeros((len(values), padded.shape[1] // per_word), dtype=np.uint64)
    for row in range(packed.shape[0]):
        for word in range(packed.shape[1]):
            for place, column in enumerate(order):
                packed[row, word] |= padded[row, word * per_word + column] << np.uint64(bits * place)
    return torch.from_numpy(packed.astype(np.uint32).view(np.int32).copy())


def grid(weight: Tensor, groups: np.ndarray, bits: int, symmetric: bool, scale_dtype=torch.float16):
    """Integers (out, in) of 0 to 2^bits - 1, and scales and zeros (out, groups) of a weight."""
    values, top = weight.double().numpy(), 2**bits - 1
    num_groups = groups.max() + 1
    scales, zeros = np.zeros((len(values), num_groups)), np.zeros((len(values), num_groups), dtype=np.int64)
    for group in range(num_groups):
        members = values[:, groups == group]
        low, high = np.minimum(members.min(1), 0), np.maximum(members.max(1), 0)
        if symmetric:
            scales[:, group] = 2 * np.abs(members).max(1) / top
            zeros[:, group] = 2 ** (bits - 1)
        else:
            scales[:, group] = (high - low) / top
            zeros[:, group] = np.clip(np.round(-low / scales[:, group]), 0, top)
    stored = torch.from_numpy(scales).to(scale_dtype)
    scales = stored.double().numpy()
    integers = np.clip(np.round(values / scales[:, groups]) + zeros[:, groups], 0, top).astype(np.int64)
    return integers, stored, zeros, (integers - zeros[:, groups]) * scales[:, groups]


def gptq(weight: Tensor, *, bits=4, group_size=16, act_order=False, version=1, symmetric=False) -> Layer:
    """AutoGPTQ's layer; version 1 holds zeros less one, by GPTQModel's subtraction of whole words."""
    inputs = weight.shape[1]
    groups = np.arange(inputs) // (group_size if group_size > 0 else inputs)
    if act_order:
        groups = groups[np.random.default_rng(3).permutation(inputs)]
    integers, scales, zeros, exact = grid(weight, groups, bits, symmetric)
    zero_words = words(zeros.T, bits)
    if version == 1:
        ones = {4: 0x11111111, 8: 0x01010101}[bits]
        zero_words = torch.from_numpy(
            ((zero_words.numpy().view(np.uint32).astype(np.int64) - ones) % 2**32)
            .astype(np.uint32)
            .view(np.int32)
        )
    return {
        "qweight": words(integers, bits).t().contiguous(),
        "qzeros": zero_words,
        "scales": scales.t().contiguous(),
        "g_idx": torch.from_numpy(groups).int(),
    }, exact


def awq(weight: Tensor, *, group_size=16) -> Layer:
    """AutoAWQ's layer of version GEMM: the integers of eight outputs in the order 0 2 4 6 1 3 5 7."""
    groups = np.arange(weight.shape[1]) // group_size
    integers, scales, zeros, exact = grid(weight, groups, 4, False)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    return {
        "qweight": words(integers.T, 4, order),
        "qzeros": words(zeros.T, 4, order),
        "scales": scales.t().contiguous(),
    }, exact


def packed(weight: Tensor, *, bits=4, group_size=16, symmetric=True, g_idx=False) -> Layer:
    """compressed-tensors' pack-quantized layer."""
    outputs, inputs = weight.shape
    groups = np.arange(inputs) // (group_size or inputs)
    if g_idx:
        groups = groups[np.random.default_rng(5).permutation(inputs)]
    integers, scales, zeros, exact = grid(weight, groups, bits, symmetric, torch.bfloat16)
    layer = {
        "weight_packed": words(integers, bits),
        "weight_shape": torch.tensor([outputs, inputs]),
        "weight_scale": scales,
    }
    if not symmetric:
        layer["weight_zero_point"] = words(zeros.T, bits).t().contiguous()
    if g_idx:
        layer["weight_g_idx"] = torch.from_numpy(groups).int()
    return layer, exact


def int8_rows(weight: Tensor) -> Layer:
    """compressed-tensors' int-quantized layer, with a scale and a zero point for each row."""
    groups = np.zeros(weight.shape[1], dtype=np.int64)
    integers, scales, zeros, exact = grid(weight, groups, 8, False, torch.float32)
    return {
        "weight": torch.from_numpy(integers - 128).to(torch.int8),
        "weight_scale": scales,
        "weight_zero_point": torch.from_numpy(zeros - 128).to(torch.int8),
    }, exact


def float8(weight: Tensor, *, block: tuple[int, int], scale: str) -> Layer:
    """Weights in e4m3 with a scale for each block, the blocks at the edges being smaller."""
    outputs, inputs = weight.shape
    num_blocks = -(-outputs // block[0]), -(-inputs // block[1])
    scales, stored = torch.zeros(num_blocks), torch.zeros(weight.shape, dtype=torch.float8_e4m3fn)
    exact = np.zeros(weight.shape)
    for row in range(num_blocks[0]):
        for column in range(num_blocks[1]):
            here = (
                slice(row * block[0], (row + 1) * block[0]),
                slice(column * block[1], (column + 1) * block[1]),
            )
            scales[row, column] = weight[here].abs().max() / 448
            stored[here] = (weight[here] / scales[row, column]).to(torch.float8_e4m3fn)
            exact[here] = stored[here].double().numpy() * scales[row, column].double().item()
    return {"weight": stored, scale: scales if scales.numel() > 1 else scales.view(1)}, exact
