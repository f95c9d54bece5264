"""A LoRA step of LLaMA's relatives beside transformers' own classes: same weights, same adapter, one table.

    python tests/performance/relatives.py --shape qwen3-0.6b --rounds 5

Weights are random, in bfloat16; the adapter is peft's LoRA of rank 16 on all linear layers; a step is forward
and backward of 4 rows of 512 tokens. Each step runs in a process of its own, the two sides in turn. Time is
that of the processor, user and system, of the second step; memory is the resident peak above what the process
held before the steps.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from model import resident
from peft import LoraConfig, get_peft_model
from rounds import ratios, shown

from workbench.config.adapter import AdapterConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.models.adapters.attach import attach
from workbench.models.architecture import is_native
from workbench.models.loading import load_model
from workbench.models.trials.chunked_loss import use_chunked_loss
from workbench.models.trials.gated_mlps import use_gated_mlps
from workbench.models.trials.lora_layers import use_lora_products

SHAPES: dict[str, Any] = {
    "qwen3-0.6b": transformers.Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    ),
    "gemma3-270m": transformers.Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        query_pre_attn_scalar=256,
        tie_word_embeddings=True,
    ),
}
"""Shapes of the published models of these names."""
SIDES = ("transformers", "workbench")
LABELLED = {"a third of the tokens labelled": 3, "all tokens labelled": 1}
RANK = 16


def write_model(shape: str, folder: Path) -> None:
    """Write a model of random weights in bfloat16."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.bfloat16)
    model.save_pretrained(folder)


def adapted(side: str, folder: Path) -> Any:
    """Return the model with a new LoRA, in train mode."""
    if side == "transformers":
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        return get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear")).train()
    section = ModelConfig(path=str(folder), dtype=Dtype.bfloat16)
    model = load_model(section, QuantizationConfig())
    if is_native(section):
        use_gated_mlps(model)
        use_chunked_loss(model)
    adapted_model = attach(model, AdapterConfig(rank=RANK), 0)
    if is_native(section):
        use_lora_products(adapted_model)
    return adapted_model.train()


def measure(side: str, folder: Path, every: int) -> dict[str, float]:
    """Return processor seconds, loss and peak bytes of a LoRA step with one of `every` tokens labelled."""
    model = adapted(side, folder)
    ids = torch.randint(3, 40_000, (4, 512), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, : 512 - 512 // every] = -100
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew (proc(5))
    for _ in range(2):
        start = processor_seconds()
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        seconds = processor_seconds() - start
    return {"seconds": seconds, "loss": float(loss), "peak_bytes": resident("VmHWM") - before}


def processor_seconds() -> float:
    """Return the processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def child(side: str, folder: Path, every: int) -> dict[str, float]:
    """Run `measure` in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--side", side, "--every", str(every)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


def compare(shape: str, rounds: int) -> None:
    """Print one line per share of labelled tokens."""
    print(
        f"| {shape} | processor, s | as fast as transformers | peak memory | losses |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, Path(folder))
        for name, every in LABELLED.items():
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
            for _ in range(rounds):
                for side in SIDES:
                    runs[side].append(child(side, Path(folder), every))
            theirs, ours = ([run["seconds"] for run in runs[side]] for side in SIDES)
            peaks = [median(run["peak_bytes"] for run in runs[side]) for side in SIDES]
            losses = [f"{runs[side][0]['loss']:.4f}" for side in SIDES]
            print(
                f"| {name} | {shown(theirs, 1)}, {shown(ours, 1)} | {shown(ratios(theirs, ours), 2)} | "
                f"{peaks[0] / 2**20:.0f} -> {peaks[1] / 2**20:.0f} MiB ({peaks[1] / peaks[0]:.2f}) | "
                f"{', '.join(losses)} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--rounds", type=int, default=5, help="processes a side and share")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if given.side:
        print(json.dumps(measure(given.side, given.folder, given.every)))
    else:
        compare(given.shape, given.rounds)


if __name__ == "__main__":
    main()
