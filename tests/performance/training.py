"""Our training beside TRL's SFTTrainer: same rows, weights, adapter, batches and rates, one table.

    pip install -e '.[bench]'
    python tests/performance/training.py --gguf FILE.gguf --data CHINESE.jsonl ENGLISH.jsonl

Without --gguf the weights are random ones in the shape of SmolLM2-135M, without --data the rows are the
package's own. Every run is a process of its own, the two trainers in turn; the first step warms up and is not
timed. Tokens are real ones, padding not counted; memory is the whole process's resident peak after loading.
Both sides get the same token ids, and without packing the same rows in the same order, so that their losses
can be compared step by step; each packs by its own method.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from model import SHAPE, resident
from rounds import ratios, shown
from transformers import (
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from transformers.utils import logging

import workbench
from workbench.config.adapter import AdapterConfig
from workbench.config.data import DataConfig, SourceConfig
from workbench.config.model import Dtype, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import Scheduler, TrainConfig
from workbench.data.encode import Encoding, encode
from workbench.data.rows import load_rows
from workbench.models.adapters import attach
from workbench.models.loading import load_model, load_tokenizer
from workbench.training.batches import Batches
from workbench.training.fit import fit

TOY = Path(workbench.__file__).parent / "toy"
SEED = 7
RATE = 2e-4
PEERS = ("trl", "workbench")


@dataclass(frozen=True)
class Setting:
    """What a line of the table compares."""

    gradient_checkpointing: bool = False
    packing: bool = False
    quantization: str = "none"
    peers: tuple[str, ...] = PEERS


SETTINGS = {
    "TRL's default: checkpointing": Setting(gradient_checkpointing=True),
    "no checkpointing": Setting(),
    "packing": Setting(packing=True),
    "packing, checkpointing": Setting(packing=True, gradient_checkpointing=True),
    "nf4": Setting(quantization="nf4", peers=("workbench",)),
    "int8": Setting(quantization="int8", peers=("workbench",)),
}


@dataclass(frozen=True)
class Work:
    """The same for all lines."""

    checkpoint: str
    """A LLaMA folder."""
    tokenizer: str
    """Its folder or file."""
    data: list[str]
    rows: int
    """A batch, where it isn't packed."""
    steps: int
    max_length: int
    dtype: str = "bfloat16"
    rank: int = 16


def model_config(work: Work) -> ModelConfig:
    return ModelConfig(path=work.checkpoint, tokenizer=work.tokenizer, dtype=Dtype[work.dtype])


def train_config(work: Work, setting: Setting) -> TrainConfig:
    """Packed rows are full, so that a batch needs fewer for as many tokens."""
    return TrainConfig(
        max_steps=work.steps,
        learning_rate=RATE,
        lr_scheduler=Scheduler.constant,
        per_device_batch_size=max(1, work.rows // 4) if setting.packing else work.rows,
        gradient_checkpointing=setting.gradient_checkpointing,
        logging_steps=1,
        report_to=[],
    )


def rows(work: Work, tokenizer: PreTrainedTokenizerBase, *, packing: bool) -> Dataset:
    """As many rows as the steps take, from all files alike, as token ids with the loss on answers."""
    count = -(-work.rows * work.steps // len(work.data))
    sources = {str(number): SourceConfig(path=path, limit=count) for number, path in enumerate(work.data)}
    data = DataConfig(sources=sources, template="chatml", max_length=work.max_length, packing=packing)
    return encode(load_rows(data), Encoding(tokenizer, data, Task.causal_lm)).dataset


def train_ours(work: Work, setting: Setting, folder: Path) -> list[dict[str, float]]:
    """A line a step: tokens, seconds and loss so far."""
    tokenizer = load_tokenizer(model_config(work))
    dataset = rows(work, tokenizer, packing=setting.packing)
    quantization = QuantizationConfig(method=QuantizationMethod[setting.quantization])
    base = load_model(model_config(work), quantization)
    adapted = attach.attach(base, AdapterConfig(rank=work.rank, alpha=2 * work.rank), SEED)
    forget_peak()
    fit(adapted, tokenizer, dataset, None, train_config(work, setting), folder, SEED)
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def train_theirs(work: Work, setting: Setting, folder: Path) -> list[dict[str, float]]:
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    tokenizer = load_tokenizer(model_config(work))
    dataset = rows(work, tokenizer, packing=False)
    train = train_config(work, setting)
    if not setting.packing:
        batches = Batches(dataset["length"], train, SEED, joined=True)
        dataset = dataset.select([row for batch in batches for row in batch])
    base = LlamaForCausalLM.from_pretrained(work.checkpoint, dtype=getattr(torch, work.dtype))
    ends = Ends()
    trainer = SFTTrainer(
        model=base,
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=work.steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            per_device_train_batch_size=train.per_device_batch_size,
            gradient_checkpointing=setting.gradient_checkpointing,
            packing=setting.packing,
            max_length=work.max_length,
            bf16=work.dtype == "bfloat16",
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=SEED,
        ),
        train_dataset=dataset.select_columns(["input_ids", "labels"]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=work.rank, lora_alpha=2 * work.rank, target_modules="all-linear"),
        callbacks=[ends],
    )
    forget_peak()
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return [
        {"loss": line["loss"], "tokens": line["num_tokens"], "seconds": seconds}
        for line, seconds in zip(lines, ends.seconds, strict=True)
    ]


class Ends(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter())


def forget_peak() -> None:
    """Start the process's peak of memory anew, without what loading took (proc(5))."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def measure(work: Work, setting: Setting, peer: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        lines = (train_ours if peer == "workbench" else train_theirs)(work, setting, Path(folder))
    first, last = lines[0], lines[-1]
    return {
        "rate": (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]),
        "tokens": last["tokens"],
        "peak_bytes": resident("VmHWM"),
        "losses": [line["loss"] for line in lines],
    }


def child(work: Work, name: str, peer: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    job = json.dumps({"work": asdict(work), "name": name, "peer": peer})
    out = subprocess.run(
        [sys.executable, __file__, "--job", job], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return result


def compare(work: Work, name: str, rounds: int) -> str:
    """The line of a setting: medians and ranges of the rounds, and the highest peak of each side."""
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in SETTINGS[name].peers}
    for _ in range(rounds):
        for peer, found in runs.items():
            found.append(child(work, name, peer))
    rate = {peer: [run["rate"] for run in found] for peer, found in runs.items()}
    peak = {peer: max(run["peak_bytes"] for run in found) / 2**30 for peer, found in runs.items()}
    losses = {peer: found[0]["losses"] for peer, found in runs.items()}
    mean = {peer: sum(values) / len(values) for peer, values in losses.items()}
    theirs = shown(rate["trl"], 0) if "trl" in rate else ""
    line = f"{name:30} {theirs:>16} {shown(rate['workbench'], 0):>16}"
    if "trl" not in runs:
        return f"{line} {'':18} {'':5} {peak['workbench']:9.2f} {'':6}   {'':7} {mean['workbench']:7.3f}"
    apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=False))
    return (
        f"{line} {shown(ratios(rate['workbench'], rate['trl']), 1):>17}x "
        f"{peak['trl']:5.2f} {peak['workbench']:9.2f} "
        f"{peak['workbench'] / peak['trl']:6.2f}   {mean['trl']:7.3f} {mean['workbench']:7.3f}"
        + ("" if SETTINGS[name].packing else f"  (no step by more than {apart:.3f})")
    )


def write_checkpoint(gguf: Path | None, folder: Path) -> str:
    """The weights of the GGUF file, which the Trainer would refuse, or random ones, as a plain folder."""
    torch.manual_seed(0)
    if gguf is None:
        llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16)
    else:
        whole = GgufConfig(dequantize=True)
        llama = LlamaForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=whole
        )
    llama.save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, help="a GGUF file of the LLaMA architecture")
    parser.add_argument("--data", nargs="+", default=[str(TOY / "data/instruct.jsonl")], help="JSONL files")
    parser.add_argument("--rows", type=int, default=8, help="a batch")
    parser.add_argument("--steps", type=int, default=4, help="the first is not timed")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5, help="processes a setting and side")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if given.job:
        name, peer = given.job["name"], given.job["peer"]
        print(json.dumps(measure(Work(**given.job["work"]), SETTINGS[name], peer)))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, tokenizer = write_checkpoint(given.gguf, Path(folder)), str(given.gguf or TOY / "base")
        sizes = given.rows, given.steps, given.max_length, given.dtype
        work = Work(checkpoint, tokenizer, given.data, *sizes)
        print(f"{torch.get_num_threads()} threads, {work.rows} rows a batch, {work.steps - 1} steps timed")
        print(f"{'':30} {'real tokens a second':^52} {'peak memory, GiB':^22}   {'mean loss':^15}")
        print(
            f"{'':30} {'TRL':>16} {'ours':>16} {'':18} {'TRL':>5} {'ours':>9} {'':6}   {'TRL':>7} {'ours':>7}"
        )
        for name in given.settings:
            print(compare(work, name, given.rounds), flush=True)


if __name__ == "__main__":
    main()
