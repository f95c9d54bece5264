"""Open-Llama beside LlamaForCausalLM of transformers: same weights, same jobs, one table.

    python tests/performance/model.py                      # random weights in the shape of SmolLM2-135M
    python tests/performance/model.py --gguf FILE.gguf     # the real ones

Every job runs in a process of its own, the two models in turn; the fastest run of each process counts, and
medians and ranges of the rounds are told. Memory is the resident peak of a run above what the process held
before it. The floor is what the machine's own matrix products (bfloat16) or memory (decoding) would take for
the same numbers.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rounds import ratios, shown
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "pad_token_id": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
}
SWITCHES = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}
PEERS = ("llama", "open-llama")


def model(peer: str, gguf: Path | None, dtype: torch.dtype = torch.bfloat16) -> Any:
    """One of the two models, with the same weights as the other."""
    torch.manual_seed(0)
    if gguf is not None:
        llama = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=dtype)
    else:
        llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(dtype)
    if peer == "llama":
        return llama.eval()
    with torch.device("meta"):
        ours = OpenLlamaForCausalLM(OpenLlamaConfig(**{**llama.config.to_dict(), **SWITCHES}))
    ours.load_state_dict(llama.state_dict(), assign=True)
    ours.tie_weights()
    ours.model.rotary_emb.to_empty(device="cpu").reset()
    return ours.eval()


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(3, 40000, (batch, length), generator=torch.Generator().manual_seed(1))


def forward(made: Any) -> Callable[[], object]:
    ids = tokens(8, 512)

    def run() -> object:
        with torch.no_grad():
            return made(ids, use_cache=False).logits

    return run


def lora(made: Any) -> Callable[[], object]:
    adapted = get_peft_model(made, LoraConfig(r=16, target_modules="all-linear")).train()
    ids = tokens(4, 512)

    def run() -> object:
        adapted(ids, labels=ids, use_cache=False).loss.backward()
        adapted.zero_grad()
        return None

    return run


def decoding(batch: int) -> Callable[[Any], Callable[[], object]]:
    def prepare(made: Any) -> Callable[[], object]:
        ids = tokens(batch, 16)
        options = {"max_new_tokens": 64, "do_sample": False, "eos_token_id": None}
        return lambda: made.generate(ids, attention_mask=torch.ones_like(ids), **options)

    return prepare


JOBS: dict[str, Callable[[Any], Callable[[], object]]] = {
    "forward 8 x 512": forward,
    "LoRA step 4 x 512": lora,
    "64 tokens, batch 1": decoding(1),
    "64 tokens, batch 8": decoding(8),
}


def measure(job: str, peer: str, gguf: Path | None, repeats: int) -> dict[str, float]:
    """Seconds of the fastest of `repeats` runs, and the bytes that a run adds at its peak."""
    run = JOBS[job](model(peer, gguf))
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew (proc(5))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "peak_bytes": resident("VmHWM") - before}


def resident(name: str) -> int:
    """Bytes of this process that are in memory now (VmRSS) or were at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status: no {name}")


def floors() -> dict[str, float]:
    """Seconds of each job at the rates of this machine's own matrix products and memory."""
    hidden, inner, layers = (SHAPE[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    narrow = hidden * SHAPE["num_key_value_heads"] // SHAPE["num_attention_heads"]
    weights = layers * hidden * (2 * hidden + 2 * narrow + 3 * inner) + SHAPE["vocab_size"] * hidden
    left, right = torch.randn(4096, hidden).bfloat16(), torch.randn(inner, hidden).bfloat16()
    rate = 2 * 4096 * hidden * inner / fastest(lambda: torch.nn.functional.linear(left, right))
    large = torch.zeros(1 << 28, dtype=torch.uint8)
    target = torch.empty_like(large)
    bandwidth = 2 * large.numel() / fastest(lambda: target.copy_(large))
    print(
        f"this machine: {rate / 1e9:.0f} GFLOP/s in bfloat16 products, {bandwidth / 1e9:.1f} GB/s of memory,",
        end=" ",
    )
    print(f"{torch.get_num_threads()} threads")
    return {
        "forward 8 x 512": 2 * weights * 8 * 512 / rate,
        "LoRA step 4 x 512": 4 * weights * 4 * 512 / rate,  # forward, and backward to the inputs only
        "64 tokens, batch 1": 64 * 2 * weights / bandwidth,
        "64 tokens, batch 8": 64 * 2 * weights / bandwidth,
    }


def fastest(run: Callable[[], object], repeats: int = 10) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def agreement(gguf: Path | None) -> str:
    """How far the logits are apart in bfloat16, against how far bfloat16 is from float32."""
    ids = tokens(2, 256)
    with torch.no_grad():
        exact, found = (model(peer, gguf, torch.float32)(ids).logits for peer in PEERS)
        whole = (exact - found).abs().max()
        llama, ours = (model(peer, gguf)(ids).logits.float() for peer in PEERS)
    return (
        f"logits apart by at most {whole:.1e} in float32; in bfloat16 by "
        f"{(llama - ours).abs().mean():.1e} on average, where LLaMA is {(llama - exact).abs().mean():.1e} "
        f"and Open-Llama {(ours - exact).abs().mean():.1e} from float32"
    )


def child(job: str, peer: str, gguf: Path | None, repeats: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--peer", peer, "--repeats", str(repeats)]
    command += ["--gguf", str(gguf)] if gguf else []
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


def compare(gguf: Path | None, jobs: Sequence[str], rounds: int, repeats: int) -> None:
    floor = floors()
    print(agreement(gguf))
    print(f"{'':20} {'LLaMA':>23} {'Open-Llama':>23} {'faster':>22} {'of floor':>8} {'peak memory':>24}")
    for job in jobs:
        runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
        for _ in range(rounds):
            for peer in PEERS:
                runs[peer].append(child(job, peer, gguf, repeats))
        theirs, ours = ([run["seconds"] for run in runs[peer]] for peer in PEERS)
        their_peak, our_peak = (min(run["peak_bytes"] for run in runs[peer]) for peer in PEERS)
        memory = f"{their_peak / 2**20:.0f} -> {our_peak / 2**20:.0f} MiB ({our_peak / their_peak:.2f})"
        print(
            f"{job:20} {shown(theirs, 2):>22}s {shown(ours, 2):>22}s {shown(ratios(theirs, ours), 2):>21}x "
            f"{floor[job] / median(ours):8.0%} {memory:>24}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--gguf", type=Path, help="a GGUF file of the LLaMA architecture; default: random weights"
    )
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB")
    parser.add_argument("--rounds", type=int, default=5, help="processes a job and model")
    parser.add_argument("--repeats", type=int, default=2, help="runs a process")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if given.job:
        print(json.dumps(measure(given.job, given.peer, given.gguf, given.repeats)))
    else:
        compare(given.gguf, given.jobs, given.rounds, given.repeats)


if __name__ == "__main__":
    main()
