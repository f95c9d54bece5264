"""What the parts of a day on a GPU share: arguments, shapes, random weights, and a line of results."""

import argparse
import gc
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

import workbench
from workbench.config.model import Device, Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.device import loading_options
from workbench.models.quantization import stabilize
from workbench.models.tokenizers.load_tokenizer import load_tokenizer

LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA_1B = LLAMA_8B | {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}
TINY = LLAMA_8B | {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SWITCHES = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}
DENSE_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations a second that the makers state, by a part of the card's name."""
TOY_TOKENIZER = str(Path(workbench.__file__).parent / "toy" / "base")


@dataclass(frozen=True)
class Day:
    """Settings that all parts get."""

    out: Path
    """File of results, to which lines are appended."""
    is_dry: bool
    """Whether shapes are tiny, on whatever device there is."""
    tokenizer: str
    cmmlu: str | None
    """Folder of CMMLU's files; None: questions of the same form are made."""

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    def shape(self, full: dict[str, Any] = LLAMA_8B) -> dict[str, Any]:
        return TINY if self.is_dry else full

    def record(self, part: str, **values: Any) -> None:
        """Append a line to the results and print it."""
        line = json.dumps({"part": part, "dry": self.is_dry, **values}, ensure_ascii=False, default=str)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the settings that all parts get."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="tiny shapes, on a CPU if there is no GPU")
    parser.add_argument("--out", type=Path, default=Path("gpu-results.jsonl"), help="file of results")
    parser.add_argument("--tokenizer", default=TOY_TOKENIZER, help="default: the toy model's")
    parser.add_argument("--cmmlu", help="folder with CMMLU's dev and test; default: made-up questions")
    return parser


def day_of(given: argparse.Namespace) -> Day:
    """Return the settings of a part; without a GPU only a dry run is possible."""
    if not given.dry and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device (--dry tries every part on a CPU)")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return Day(given.out.resolve(), given.dry, given.tokenizer, given.cmmlu)


def random_weights(shape: dict[str, Any], device: str) -> dict[str, torch.Tensor]:
    """Return a LLaMA's weights in bfloat16: the same in every process on one kind of device."""
    hidden, inner, vocabulary = (shape[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    generator = torch.Generator(device).manual_seed(0)

    def matrix(outputs: int, inputs: int) -> torch.Tensor:
        size = (outputs, inputs)
        return torch.randn(size, generator=generator, device=device, dtype=torch.bfloat16).mul_(0.02)

    matrices = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    weights = {"model.embed_tokens.weight": matrix(vocabulary, hidden)}
    norms = ["model.norm"]
    for number in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{number}."
        weights |= {f"{layer}{name}.weight": matrix(*size) for name, size in matrices.items()}
        norms += [f"{layer}input_layernorm", f"{layer}post_attention_layernorm"]
    for name in norms:
        weights[f"{name}.weight"] = torch.ones(hidden, device=device, dtype=torch.bfloat16)
    return weights | {"lm_head.weight": matrix(vocabulary, hidden)}


def model_section(day: Day) -> ModelConfig:
    return ModelConfig(
        path=TOY_TOKENIZER, tokenizer=day.tokenizer, dtype=Dtype.bfloat16, device=Device[day.device]
    )


def tokenizer(day: Day) -> Tokenizer:
    return load_tokenizer(model_section(day))


def our_model(day: Day, method: str = "none", shape: dict[str, Any] = LLAMA_8B) -> PreTrainedModel:
    """Return an Open-Llama with random weights on the device, loaded and quantized as `load_model` does."""
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    model = OpenLlamaForCausalLM.from_pretrained(
        None,
        config=OpenLlamaConfig(**{**day.shape(shape), **SWITCHES}),
        state_dict=random_weights(day.shape(shape), day.device),
        **loading_options(model_section(day), quantization, torch.bfloat16),
    )
    stabilize(model, quantization)
    return model.eval()


def their_model(day: Day, method: str = "none") -> PreTrainedModel:
    """Return transformers' LLaMA with the same weights."""
    quantization = None
    if method == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return LlamaForCausalLM.from_pretrained(
        None,
        config=LlamaConfig(**day.shape()),
        state_dict=random_weights(day.shape(), day.device),
        dtype=torch.bfloat16,
        device_map={"": torch.device(day.device)},
        quantization_config=quantization,
    ).eval()


def clear() -> None:
    """Free memory that nothing holds, and start its peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def clock() -> float:
    """Return the time in seconds, when the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib() -> float | None:
    """Return the peak of the GPU's memory in GiB since `clear`; None on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if torch.cuda.is_available() else None


def dense_flops() -> float | None:
    """Return the card's stated operations a second; None for a card that isn't in the table, or a CPU."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((rate for card, rate in DENSE_FLOPS.items() if card in name), None)
