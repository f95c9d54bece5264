"""Our merge beside peft's merge_and_unload and save_pretrained: peak memory and processor time.

    python tests/performance/merging.py --shape 550m --rounds 3

The base is a random LLaMA in bfloat16, in files of 200 MB, written shard by shard; the adapter is a LoRA of
rank 16 on all linear layers. Each merge is a process of its own, the sides in turn. Memory is the resident
peak of the largest process, and of all at once, looked at every 20 ms. Time is that of the processor,
user and system, of all processes. The proof compares 97 positions, of texts that the script writes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from rounds import ratios, shown
from safetensors.torch import save_file

import workbench
from workbench.machine import linux_peak_bytes
from workbench.weights.shard_writer import ShardWriter

SHAPES = {
    "550m": {
        "hidden_size": 1536,
        "intermediate_size": 4096,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
    },
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
}
VOCABULARY, RANK, SHARD_BYTES = 32_000, 16, 200 * 10**6
PROBE = [
    "The quick brown fox jumps over the lazy dog, and 37 is larger than 12.",
    "中国的首都是北京。",
    "The quick brown fox jumps over the lazy dog!!",
]
LAYERS = {
    "self_attn.q_proj": ("hidden_size", "hidden_size"),
    "self_attn.k_proj": ("hidden_size", "hidden_size"),
    "self_attn.v_proj": ("hidden_size", "hidden_size"),
    "self_attn.o_proj": ("hidden_size", "hidden_size"),
    "mlp.gate_proj": ("intermediate_size", "hidden_size"),
    "mlp.up_proj": ("intermediate_size", "hidden_size"),
    "mlp.down_proj": ("hidden_size", "intermediate_size"),
}
PEFT = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, folder = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype="bfloat16")
merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
merged.save_pretrained(folder, max_shard_size="200MB")
AutoTokenizer.from_pretrained(base).save_pretrained(folder)
"""


def write_base(folder: Path, shape: dict[str, int]) -> None:
    """Write a random LLaMA tensor by tensor."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        **shape,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(Path(workbench.__file__).parent / "toy" / "base" / name, folder / name)
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, shape["hidden_size"])}
    for layer in range(shape["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        sizes |= {
            f"{prefix}.{name}.weight": (shape[out], shape[into]) for name, (out, into) in LAYERS.items()
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            sizes[f"{prefix}.{norm}.weight"] = (shape["hidden_size"],)
    sizes |= {"model.norm.weight": (shape["hidden_size"],)}
    sizes |= {"lm_head.weight": (VOCABULARY, shape["hidden_size"])}
    generator = torch.Generator().manual_seed(0)
    layout = {name: (torch.bfloat16, size) for name, size in sizes.items()}
    with ShardWriter(folder, layout, SHARD_BYTES) as writer:
        for name in writer.names:
            drawn = torch.ones(sizes[name]) if len(sizes[name]) == 1 else None
            values = 0.02 * torch.randn(sizes[name], generator=generator) if drawn is None else drawn
            writer.write(name, values.to(torch.bfloat16))


def write_adapter(folder: Path, shape: dict[str, int]) -> None:
    """Write a LoRA whose updates are about a hundredth of the weights."""
    from peft import LoraConfig

    targets = [name.rpartition(".")[2] for name in LAYERS]
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=targets)
    config.inference_mode = True
    config.save_pretrained(folder)
    generator, tensors = torch.Generator().manual_seed(1), {}
    for layer in range(shape["num_hidden_layers"]):
        for name, (out, into) in LAYERS.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            down = torch.randn(RANK, shape[into], generator=generator) / shape[into] ** 0.5
            up = torch.randn(shape[out], RANK, generator=generator) * 1e-4 * (shape[into] / RANK) ** 0.5
            tensors |= {f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def write_probe(file: Path) -> None:
    """Write the texts of the proof, a JSON object a line."""
    file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in PROBE))


def measured(command: list[str], cwd: Path) -> dict[str, float]:
    """Peak of the largest process and of all at once, in GB, and processor seconds.

    The peaks are read from /proc, since wait4's begin with the peak of this process, which started the merge.
    """
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)
    largest = together = 0
    watched = psutil.Process(process.pid)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        try:
            family = [watched, *watched.children(recursive=True)]
            largest = max(largest, *(linux_peak_bytes(member.pid) or 0 for member in family))
            together = max(together, sum(member.memory_info().rss for member in family))
        except psutil.Error:
            pass
        time.sleep(0.02)
    if status:
        raise SystemExit(f"{' '.join(command[:6])} ... ended with status {status}")
    return {
        "largest": largest / 1e9,
        "together": max(together, largest) / 1e9,
        "seconds": usage.ru_utime + usage.ru_stime,
    }


def commands(base: Path, adapter: Path, probe: Path) -> dict[str, list[str]]:
    ours = [
        sys.executable,
        "-m",
        "workbench",
        "recipe=merge",
        f"model.path={base}",
        f"adapter.path={adapter}",
    ]
    return {
        "peft": [sys.executable, "-c", PEFT, str(base), str(adapter), "merged"],
        "ours, without the probe": [*ours, "run_dir=run", "merge.probe=false"],
        "ours": [*ours, "run_dir=run", f"data.path={probe}"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="550m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sides", nargs="+", default=["peft", "ours, without the probe", "ours"], metavar="NAME"
    )
    parser.add_argument("--folder", type=Path, help="keeps base and adapter there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        kept = (given.folder or Path(spare)).resolve() / given.shape
        if not (kept / "adapter").is_dir():
            write_base(kept / "base", SHAPES[given.shape])
            write_adapter(kept / "adapter", SHAPES[given.shape])
        write_probe(kept / "probe.jsonl")
        found: dict[str, list[dict[str, float]]] = {side: [] for side in given.sides}
        for _ in range(given.rounds):
            for side in given.sides:
                with tempfile.TemporaryDirectory(dir=kept) as folder:
                    command = commands(kept / "base", kept / "adapter", kept / "probe.jsonl")[side]
                    found[side].append(measured(command, Path(folder)))
                print(side, found[side][-1], file=sys.stderr, flush=True)
    print(f"| {given.shape} | largest process, GB | all processes, GB | processor, s | beside peft |")
    print("|---|---|---|---|---|")
    for side, rounds in found.items():
        columns = [[figures[name] for figures in rounds] for name in ("largest", "together", "seconds")]
        beside = (
            ratios(columns[2], [figures["seconds"] for figures in found["peft"]]) if "peft" in found else []
        )
        cells = [shown(column, digits) for column, digits in zip(columns, (2, 2, 1), strict=True)]
        print(f"| {side} | {' | '.join(cells)} | {shown(beside, 2) if beside else ''} |")


if __name__ == "__main__":
    main()
