"""With model.fused=false no kernel of the workbench runs, for any class of models."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from workbench import cli
from workbench.models.ops import cpu_attention, elementwise, lora_projection, loss, prepacked_linear

TOY = Path(cli.PACKAGE) / "toy" / "base"
KERNELS = [
    elementwise._RMSNorm,
    elementwise._Gated,
    elementwise._NormInFloat32,
    elementwise._Rotation,
    lora_projection._Updates,
    loss._ChunkedLoss,
    cpu_attention._Blocked,
]
SHORT = (
    "quantization=none",
    "steps=[train,evaluate]",
    "train.max_steps=2",
    "data.limit=16",
    "benchmark=[toy_choice_en,toy_exact_en]",
    "benchmarks.toy_choice_en.limit=2",
    "benchmarks.toy_exact_en.limit=2",
    "train.sample_answers=0",
)


def native_base() -> str:
    """A small Qwen3 with the toy's tokenizer, which runs in transformers' own class."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    config = Qwen3Config(vocab_size=686, num_key_value_heads=2, head_dim=16, **sizes)
    Qwen3ForCausalLM(config).save_pretrained("qwen3")
    AutoTokenizer.from_pretrained(TOY).save_pretrained("qwen3")
    return "qwen3"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["native", "open-llama"])
def test_a_run_calls_no_kernel_in_training_and_scoring(run, monkeypatch, architecture, dtype):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a kernel was called")

    for kernel in KERNELS:
        monkeypatch.setattr(kernel, "apply", refuse)
    monkeypatch.setattr(prepacked_linear._Copies, "of", refuse)
    path = native_base() if architecture == "native" else TOY
    how = (f"model.path={path}", f"model.architecture={architecture}", f"model.dtype={dtype}", *SHORT)
    folder = run("quickstart", *how, "model.fused=false", "run_dir=plain")
    assert folder.results_json.is_file()
    with pytest.raises(AssertionError, match="a kernel was called"):
        run("quickstart", *how, "run_dir=fused")
