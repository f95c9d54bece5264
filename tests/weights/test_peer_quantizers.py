"""Weights that quantizers' own code packed are read as these quantizers read them, bit by bit.

Each comparison is made in the dtype of the scales, in which the quantizers dequantize; ours are float32, and
rounded once. Without the quantizer's package a test is skipped.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.weights.unpacking.formats import UnknownFormatError, quantized_format
from workbench.weights.unpacking.unpack import unpacked

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
SCALES = (torch.bfloat16, torch.float16, torch.float32)


def weight_of(outputs: int, inputs: int) -> Tensor:
    """A weight with a row and an input of zeros, a large value, and rows that don't center on zero."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(outputs + inputs)) * 0.05
    weight[1], weight[:, 2], weight[0, 0] = 0, 0, 0.2
    weight[3:5] += 0.1
    return weight


def read(settings: dict, layer: dict[str, Tensor]) -> Tensor:
    """The weight that the workbench reads from a layer's tensors, which it gets a few rows at a time, too."""
    tensors = {f"layer.{name}": tensor for name, tensor in layer.items()}
    weight = unpacked(tensors, quantized_format(settings), Path("model"))["layer.weight"]
    entire = weight[...]
    for first, last in ((0, 1), (3, 6), (9, len(entire))):
        assert torch.equal(weight.rows(first, last), entire[first:last])
    return entire


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}
FLOAT8 = {"num_bits": 8, "type": "float"}
COMPRESSED = {
    "int4": ("pack-quantized", INT4, (37, 48)),
    "int4 one word": ("pack-quantized", {**INT4, "group_size": 8}, (13, 8)),
    "int4 asymmetric": ("pack-quantized", {**INT4, "symmetric": False}, (37, 48)),
    "int4 ordered": ("pack-quantized", {**INT4, "symmetric": False, "actorder": "weight"}, (37, 48)),
    "int4 rows": ("pack-quantized", {**INT4, "strategy": "channel", "group_size": None}, (21, 45)),
    "int4 rows asymmetric": (
        "pack-quantized",
        {**INT4, "strategy": "channel", "group_size": None, "symmetric": False},
        (21, 45),
    ),
    "int4 tensor": ("pack-quantized", {**INT4, "strategy": "tensor", "group_size": None}, (21, 45)),
    "int8 packed": ("pack-quantized", INT8, (21, 45)),
    "int8 packed asymmetric": ("pack-quantized", {**INT8, "symmetric": False}, (21, 45)),
    "int8": ("int-quantized", INT8, (21, 45)),
    "int8 asymmetric": ("int-quantized", {**INT8, "symmetric": False}, (21, 45)),
    "int8 groups": ("int-quantized", {**INT8, "strategy": "group", "group_size": 24}, (21, 72)),
    "int8 tensor": ("int-quantized", {**INT8, "strategy": "tensor"}, (21, 45)),
    "int8 tensor asymmetric": ("int-quantized", {**INT8, "strategy": "tensor", "symmetric": False}, (21, 45)),
    "fp8 tensor": ("float-quantized", {**FLOAT8, "strategy": "tensor"}, (21, 45)),
    "fp8 rows": ("float-quantized", {**FLOAT8, "strategy": "channel"}, (21, 45)),
    "fp8 groups": ("float-quantized", {**FLOAT8, "strategy": "group", "group_size": 24}, (21, 72)),
    "fp8 blocks": (
        "float-quantized",
        {**FLOAT8, "strategy": "block", "block_structure": [24, 40]},
        (50, 90),
    ),
}


def ranges(weight: Tensor, arguments) -> tuple[Tensor, Tensor]:
    """The smallest and largest values of the parts of a weight that share a scale, in the shape of scales."""
    outputs, inputs = weight.shape
    if arguments.strategy == "tensor":
        return weight.min().view(1), weight.max().view(1)
    if arguments.strategy == "block":
        height, width = arguments.block_structure
        rows = [slice(row, row + height) for row in range(0, outputs, height)]
        columns = [slice(column, column + width) for column in range(0, inputs, width)]
        lows = [[weight[row, column].min() for column in columns] for row in rows]
        highs = [[weight[row, column].max() for column in columns] for row in rows]
        return torch.tensor(lows), torch.tensor(highs)
    return weight.view(outputs, -1, arguments.group_size or inputs).aminmax(dim=-1)


@pytest.mark.parametrize("dtype", SCALES, ids=str)
@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_tensors_decompresses_to_the_same_weight(name, dtype):
    """`pip install compressed-tensors`"""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    stored_as, arguments, shape = COMPRESSED[name]
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments, format=stored_as)
    weight = weight_of(*shape).to(dtype)
    scale, zero_point = calculate_qparams(*ranges(weight, scheme.weights), scheme.weights)
    compressor = BaseCompressor.get_value_from_registry(stored_as)
    layer = compressor.compress(
        {"weight": weight, "weight_scale": scale.to(dtype), "weight_zero_point": zero_point}, scheme
    )
    expected = compressor.decompress(layer, scheme)["weight"]
    config = QuantizationConfig(config_groups={"group_0": scheme}, format=stored_as).model_dump(mode="json")
    assert expected.dtype == dtype and len(expected.unique()) > 7
    assert torch.equal(read(config, layer).to(dtype), expected)


@pytest.mark.parametrize("dtype", SCALES, ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_activation_order_of_compressed_tensors_is_dequantized_to_the_same_weight(bits, symmetric, dtype):
    """`pip install 'compressed-tensors<0.13'`: later ones have no weight_g_idx"""
    old = pytest.importorskip("compressed_tensors.compressors.quantized_compressors.pack_quantized")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = QuantizationArgs(num_bits=bits, symmetric=symmetric, group_size=16, actorder="group")
    weight = weight_of(37, 48).to(dtype)
    groups = (torch.arange(48) // 16)[torch.randperm(48, generator=torch.Generator().manual_seed(1))].int()
    in_order = weight[:, groups.argsort(stable=True)]
    scale, zero_point = calculate_qparams(*ranges(in_order, arguments), arguments)
    scale = scale.to(dtype)
    layer = old.PackedQuantizationCompressor().compress_weight(
        weight, scale, arguments, zero_point=None if symmetric else zero_point, g_idx=groups
    )
    layer |= {"weight_scale": scale, "weight_g_idx": groups}
    integers = quantize(weight, scale, zero_point, arguments, dtype=torch.int8, g_idx=groups)
    expected = dequantize(integers, scale, zero_point, arguments, g_idx=groups)
    section = {"targets": ["Linear"], "weights": arguments.model_dump(mode="json")}
    settings = {"format": "pack-quantized", "config_groups": {"group_0": section}}
    assert len(expected.unique()) > 7
    assert torch.equal(read({"quant_method": "compressed-tensors", **settings}, layer).to(dtype), expected)


def test_formats_of_compressed_tensors_without_a_reader_are_refused_by_name():
    """`pip install compressed-tensors`"""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.config import CompressionFormat
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    ours = {stored_as for stored_as, _, _ in COMPRESSED.values()}
    of_several_groups = CompressionFormat.mixed_precision.value
    for stored_as in {kind.value for kind in CompressionFormat} - ours - {of_several_groups}:
        scheme = QuantizationScheme(targets=["Linear"], weights=INT4, format=stored_as)
        config = QuantizationConfig(config_groups={"group_0": scheme}, format=stored_as)
        with pytest.raises(UnknownFormatError, match=f"format='{stored_as}' can't be unpacked"):
            quantized_format(config.model_dump(mode="json"))


def grouped(weight: Tensor, bits: int, groups: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scales in float16 and zero points, both (out, groups) and float32, of a weight's groups of inputs."""
    members = [weight[:, groups == group] for group in range(int(groups.max()) + 1)]
    low = torch.stack([group.min(1).values.clamp(max=0) for group in members], dim=1)
    high = torch.stack([group.max(1).values.clamp(min=0) for group in members], dim=1)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high
    scales = ((high - low) / (2**bits - 1)).clamp(min=1e-4).half().float()
    zeros = torch.full_like(scales, 2 ** (bits - 1)) if symmetric else (-low / scales).round()
    return scales, zeros.clamp(0, 2**bits - 1)


@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (4, -1), (8, 32), (8, 64)])
def test_gptqmodel_dequantizes_to_the_same_weight(bits, group_size, act_order, symmetric, version):
    """`pip install --no-deps gptqmodel` and what it then lacks; its own requirements want a newer torch."""
    pytest.importorskip("gptqmodel")
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    weight = weight_of(96, 192)
    groups = torch.arange(192) // (192 if group_size == -1 else group_size)
    if act_order:
        groups = groups[torch.randperm(192, generator=torch.Generator().manual_seed(1))]
    scales, zeros = grouped(weight, bits, groups, symmetric)
    linear = nn.Linear(192, 96, bias=False)
    linear.weight.data = weight
    settings = dict(bits=bits, group_size=group_size, sym=symmetric, desc_act=act_order)
    packed = TorchLinear(**settings, in_features=192, out_features=96, bias=False)
    packed.pack_block(linear, scales, zeros, groups.int())
    packed.post_init()
    expected = packed.dequantize_weight().t()
    if version == "gptq":
        convert_gptq_v2_to_v1_format_module(packed, QuantizeConfig(bits=bits, group_size=group_size))
    layer = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    unpacked_weight = read({"quant_method": "gptq", "checkpoint_format": version, **settings}, layer)
    assert expected.dtype == torch.float16 and len(expected.unique()) > 7
    assert torch.equal(unpacked_weight.half(), expected)


@pytest.mark.parametrize("group_size", [16, 64, -1])
def test_autoawq_dequantizes_to_the_same_weight(group_size):
    """`pip install --no-deps autoawq`"""
    pytest.importorskip("awq")
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    weight = weight_of(96, 192)
    size = 192 if group_size == -1 else group_size
    scales, zeros = (
        values.t().contiguous() for values in grouped(weight, 4, torch.arange(192) // size, False)
    )
    linear = nn.Linear(192, 96, bias=False)
    linear.weight.data = weight
    packed = WQLinear_GEMM.from_linear(linear, 4, size, scales=scales, zeros=zeros)
    expected = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales, 4, size).t()
    layer = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}
    settings = {"w_bit": 4, "q_group_size": group_size, "zero_point": True, "version": "GEMM"}
    assert expected.dtype == torch.float16 and len(expected.unique()) > 7
    assert torch.equal(read({"quant_method": "awq", **settings}, layer).half(), expected)


@pytest.mark.parametrize("group_size", [16, 64])
def test_gptqmodel_dequantizes_awq_to_the_same_weight(group_size):
    """`pip install --no-deps gptqmodel` and what it then lacks; its own requirements want a newer torch."""
    pytest.importorskip("gptqmodel")
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    weight = weight_of(40, 192)
    scales, zeros = grouped(weight, 4, torch.arange(192) // group_size, False)
    linear = nn.Linear(192, 40, bias=False)
    linear.weight.data = weight
    packed = AwqTorchLinear(4, group_size, False, False, 192, 40)
    packed.pack(linear, scales, zeros)
    layer = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}
    expected = dequantize_gemm(**layer, bits=4, group_size=group_size).t()
    settings = {"bits": 4, "group_size": group_size, "zero_point": True, "version": "gemm"}
    assert expected.dtype == torch.float16 and len(expected.unique()) > 7
    assert torch.equal(read({"quant_method": "awq", **settings}, layer).half(), expected)
