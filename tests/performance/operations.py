"""Counts the operations that a LoRA step launches on a GPU, without a GPU: ours beside transformers and peft.

    python tests/performance/operations.py

The models have no weights: PyTorch's meta device runs the code for devices other than a CPU, computes shapes
only, and refuses every read of a value. An operation is one call of a kernel; views and new memory aren't
counted. Fused attention and norms count as one operation each way, and a pass of a compiled function as one.
A layer's operations are those that a model of two layers has more than a model of one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.adapters.attach import attach
from workbench.models.ops import elementwise, fused

SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
SWITCHES = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}
UNCOUNTED = frozenset(
    ("view", "_unsafe_view", "_reshape_alias", "as_strided", "alias", "detach", "lift_fresh")
    + ("t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze")
    + ("split", "split_with_sizes", "unbind")
    + ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
)
"""Operations that give a view or new memory, and launch no kernel."""
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm")


class OperationCounter(TorchDispatchMode):
    """Counts by name the operations that would launch a kernel.

    With `read_value`, each read of a value from the device gives that value and is counted as a "host read";
    without, it raises the error of the meta device.
    """

    def __init__(self, read_value: bool | None = None) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.read_value = read_value
        self.is_paused = False

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`; each of its calls counts as one operation."""

        def call(*arguments: Any) -> Any:
            self.counts["compiled"] += 1
            self.is_paused = True
            result = function(*arguments)
            self.is_paused = False
            return result

        return call

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        if name == "_local_scalar_dense" and self.read_value is not None:
            self.counts["host read"] += 1
            return self.read_value
        if name not in UNCOUNTED and not self.is_paused and not _is_same(name, args, kwargs or {}):
            self.counts[name] += 1
        return operation(*args, **(kwargs or {}))


def _is_same(name: str, args: Any, kwargs: Any) -> bool:
    """Return whether a conversion leaves dtype, device and layout as they are."""
    return name == "_to_copy" and kwargs.get("dtype", args[0].dtype) == args[0].dtype and len(kwargs) < 2


@torch.library.custom_op("operations::attention", mutates_args=())
def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Stand for a device's fused attention of rows of one text; only its shapes are computed."""
    raise NotImplementedError


@fused_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return query.new_empty(query.transpose(1, 2).shape).transpose(1, 2)


@torch.library.custom_op("operations::attention_backward", mutates_args=())
def fused_attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Stand for the backward pass of `fused_attention`."""
    raise NotImplementedError


@fused_attention_backward.register_fake
def _(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    return [torch.empty_like(states) for states in (query, key, value)]


def _save_inputs(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


fused_attention.register_autograd(
    lambda ctx, gradient: tuple(fused_attention_backward(gradient, *ctx.saved_tensors)),
    setup_context=_save_inputs,
)


@torch.library.custom_op("operations::norm", mutates_args=())
def fused_norm(
    hidden: Tensor, shape: list[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    """Stand for the norm that PyTorch computes with one kernel on a GPU, and step by step elsewhere."""
    raise NotImplementedError


@fused_norm.register_fake
def _(hidden: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(hidden), hidden.new_empty((*hidden.shape[:-1], 1), dtype=torch.float32)


@contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    """Let PyTorch's fused attention and norm be one operation each way on the meta device, as on a GPU."""
    original = F.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if query.device.type != "meta":
            return original(query, key, value, *args, **kwargs)
        return fused_attention(query, key, value)

    attention = patch.object(F, "scaled_dot_product_attention", attend)
    with attention, patch.object(torch.ops.aten, "_fused_rms_norm", fused_norm):
        yield


def our_model(layers: int) -> nn.Module:
    """Return an Open-Llama in bfloat16 without weights, with a LoRA of rank 16 on all linear layers."""
    with torch.device("meta"):
        model = OpenLlamaForCausalLM(OpenLlamaConfig(**SHAPE, **SWITCHES, num_hidden_layers=layers))
    return attach(model.bfloat16(), AdapterConfig(rank=16, alpha=32), seed=0).train()


def their_model(layers: int) -> nn.Module:
    """Return transformers' LLaMA in bfloat16 without weights, with peft's LoRA of rank 16."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, num_hidden_layers=layers)).bfloat16()
        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(model, config).train()


def packed_row(lengths: Sequence[int]) -> dict[str, Any]:
    """Return one row of texts with these lengths as inputs of Open-Llama, without values."""
    row = torch.empty(1, sum(lengths), dtype=torch.long, device="meta")
    return {"input_ids": row, "position_ids": row, "text_lengths": list(lengths)}


@contextmanager
def compiling(counter: OperationCounter) -> Iterator[None]:
    """Let functions that `model.compile` compiles count as one operation of `counter` on the meta device."""
    is_compiled = lambda states: states.device.type == "meta"  # noqa: E731
    with (
        patch.object(fused, "is_compiled", is_compiled),
        patch.object(elementwise, "is_compiled", is_compiled),
        patch.object(fused, "compiled", counter.compiled),
    ):
        yield


def step_operations(
    model: nn.Module, inputs: dict[str, Any], read_value: bool | None = None, compiles: bool = False
) -> Counter[str]:
    """Count the operations of a forward and a backward pass of the decoder, without head and loss.

    `read_value` is that of `OperationCounter`; `compiles` is `model.compile`.
    """
    decoder = model.get_base_model().model
    counter = OperationCounter(read_value)
    with kernels_of_a_gpu(), compiling(counter) if compiles else nullcontext(), counter:
        hidden = decoder(**inputs, use_cache=False).last_hidden_state
        hidden.backward(hidden.detach())
    return counter.counts


def layer_operations(
    make: Callable[[int], nn.Module], inputs: dict[str, Any], **how: bool
) -> tuple[Counter[str], int]:
    """Return the operations of one layer of the models that `make` creates, and the number of all others.

    `how` is of `step_operations`.
    """
    single, double = (step_operations(make(layers), inputs, **how) for layers in (1, 2))
    layer = double - single
    return layer, single.total() - layer.total()


def main() -> None:
    """Print operations of a layer and pair of passes: of one text, and of 40 texts of different lengths."""
    lengths = [20 + 7 * number for number in range(40)]
    one_text = {"input_ids": packed_row([4096])["input_ids"]}
    cases = {
        "transformers and peft, one text": layer_operations(their_model, one_text, read_value=True),
        "Open-Llama, one text": layer_operations(our_model, one_text),
        "Open-Llama, 40 texts packed": layer_operations(our_model, packed_row(lengths)),
        "Open-Llama, model.compile": layer_operations(our_model, packed_row(lengths), compiles=True),
    }
    print(f"{'':34} a layer  products  beside the layers  host reads")
    for name, (layer, other) in cases.items():
        products = sum(layer[product] for product in PRODUCTS)
        reads = layer["host read"] or ("refused" if name.startswith("Open") else "in the masks")
        print(f"{name:34} {layer.total():7} {products:9} {other:18}  {reads}")


if __name__ == "__main__":
    main()
