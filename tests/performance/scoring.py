"""Our engine beside lm-evaluation-harness: same model file, items and prompts; seconds, memory and numbers.

    python tests/performance/scoring.py MODEL.gguf DATA                   # everything; half an hour or more
    python tests/performance/scoring.py MODEL.gguf DATA --task cmmlu --limit 20 --batch-sizes 8
    python tests/performance/scoring.py MODEL.gguf DATA --check           # float32: item by item

Each run has a process of its own. A first round finds the harness's fastest batch size; then the two take
turns, and medians and ranges of the rounds are told. Seconds are those from texts to answers, tokenization
included; rendering the prompts counts for us and not for the harness. On a machine that others use, --busy
takes one thread and the processor's seconds instead of the clock's. Memory is the resident peak above what
the process held before. The share of the matrix rate is the products of the layers, over the tokens that were
read at least once, against what this machine's bfloat16 products reach in this run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import harness
import torch
from model import resident
from omegaconf import OmegaConf
from rounds import ratios, shown

CONF = Path(__file__).parents[2] / "conf" / "benchmark"


@dataclass(frozen=True)
class Setting:
    """What is asked in one comparison."""

    subsets: tuple[str, ...]
    limit: int
    shots: int
    protocol: str = "lm-eval"


SETTINGS = {
    "cmmlu": Setting(("agronomy", "astronomy", "chinese_history"), 60, 5),
    "mmlu": Setting(("abstract_algebra", "college_chemistry", "high_school_world_history"), 60, 5),
    "hellaswag": Setting(("",), 200, 0),
    "gsm8k": Setting(("",), 20, 5, "fixed"),
}
NEW_TOKENS = 64


def ours(given: argparse.Namespace, repeats: int) -> dict[str, Any]:
    from workbench.config.benchmark import BenchmarkConfig
    from workbench.config.evaluate import EvaluateConfig
    from workbench.config.model import Dtype, ModelConfig
    from workbench.config.quantization import QuantizationConfig
    from workbench.evaluation import engine
    from workbench.evaluation.prepare_benchmarks import prepare
    from workbench.models.loading import load_model, load_tokenizer

    setting = SETTINGS[given.task]
    file = OmegaConf.load(CONF / f"{given.task}.yaml")
    changes: dict[str, Any] = {
        "path": str(given.data / harness.FILES[given.task].partition("/")[0]),
        "limit": given.limit or setting.limit,
        "sample": "first",
        "protocol": setting.protocol,
        "num_fewshot": setting.shots,
    }
    if setting.shots:
        changes["fewshot_order"] = "first"
    if given.task == "gsm8k":
        changes["local"] = {"files": {"train": Path(harness.SHOTS["gsm8k"]).name}}
        changes["generation"] = {"max_new_tokens": NEW_TOKENS}
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(BenchmarkConfig), file, changes))
    assert isinstance(config, BenchmarkConfig)
    if config.subsets:
        config.only = list(setting.subsets)
    evaluate = EvaluateConfig()
    prepared = prepare(given.task, config, evaluate)
    section = ModelConfig(path=str(given.gguf), dtype=Dtype[given.dtype])
    if given.native:
        from transformers import AutoModelForCausalLM

        dtype = getattr(torch, given.dtype)
        model = AutoModelForCausalLM.from_pretrained(
            given.gguf.parent, gguf_file=given.gguf.name, dtype=dtype
        )
        model.eval()
    else:
        model = load_model(section, QuantizationConfig())
    tokenizer = load_tokenizer(section)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"seconds": float("inf"), "peak_bytes": 0}
        for _ in range(repeats):
            before, start = start_peak(), time.process_time()
            made = engine.evaluate(
                model,
                tokenizer,
                {given.task: prepared},
                evaluate,
                model_name="base",
                predictions=lambda model, name: Path(folder, name),
            ).measured[given.task]
            found["peak_bytes"] = max(found["peak_bytes"], resident("VmHWM") - before)
            seconds = time.process_time() - start if given.busy else made["seconds"]
            found["seconds"] = min(found["seconds"], seconds)
            found["computed_tokens"] = made["computed_tokens"]
        lines = Path(folder, given.task).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return found | {"answers": [row["loglikelihoods"] or row["generation"] for row in rows]}


def theirs(given: argparse.Namespace, repeats: int) -> dict[str, Any]:
    setting = SETTINGS[given.task]
    clock = time.process_time if given.busy else time.perf_counter
    lm = harness.language_model(given.gguf, getattr(torch, given.dtype), given.batch_size)
    found: dict[str, Any] = {"seconds": float("inf"), "peak_bytes": 0}
    by_subset = [
        harness.instances(given.task, subset, given.data, given.limit or setting.limit, setting.shots)
        for subset in setting.subsets
    ]
    asked = [one for some in by_subset for one in some]
    generates = given.task == "gsm8k"
    if generates:
        for one in asked:
            one.arguments[1]["max_gen_toks"] = NEW_TOKENS
    for _ in range(repeats):
        before, start = start_peak(), clock()
        answers = (lm.generate_until if generates else lm.loglikelihood)(asked, disable_tqdm=True)
        found["seconds"] = min(found["seconds"], clock() - start)
        found["peak_bytes"] = max(found["peak_bytes"], resident("VmHWM") - before)
    if generates:
        return found | {"answers": answers} | tokens_of(lm, asked)
    made: list[list[float]] = []
    for some in by_subset:
        values, answers = answers[: len(some)], answers[len(some) :]
        made += [row["loglikelihoods"] for row in harness.rows(values, some, "")]
    return found | {"answers": made} | tokens_of(lm, asked)


def tokens_of(lm: Any, asked: list[Any]) -> dict[str, int]:
    """Tokens that the prompts hold as the harness reads them, and how many different beginnings they have."""
    if lm.tokenizer is None:
        return {}
    reads = set()
    for one in asked:
        if one.request_type == "generate_until":
            reads.add(tuple(lm.tok_encode(one.args[0])))
        else:
            context, continuation = lm._encode_pair(*one.args)
            reads.add(tuple((context + continuation)[:-1]))
    unique = {read[:length] for read in reads for length in range(1, len(read) + 1)}
    return {"total_tokens": sum(map(len, reads)), "unique_tokens": len(unique)}


def start_peak() -> int:
    """Bytes that this process holds, from which on its peak is counted anew (proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def matrix_rate(busy: bool) -> float:
    """Operations a second of bfloat16 products in the shape of the model's widest layers."""
    clock = time.process_time if busy else time.perf_counter
    left, right = torch.randn(2048, 576).bfloat16(), torch.randn(1536, 576).bfloat16()
    times = []
    for _ in range(20):
        start = clock()
        torch.nn.functional.linear(left, right)
        times.append(clock() - start)
    return 2 * 2048 * 576 * 1536 / min(times)


def child(given: argparse.Namespace, task: str, side: str, batch_size: int, dtype: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(given.gguf), str(given.data), "--side", side]
    command += ["--task", task, "--batch-sizes", str(batch_size), "--dtype", dtype]
    command += ["--repeats", str(given.repeats if side == "ours" else 1)]
    command += ["--limit", str(given.limit)] if given.limit else []
    command += ["--native"] if given.native else []
    command += ["--busy"] if given.busy else []
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run([*command, "--out", out.name], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found: dict[str, Any] = json.loads(Path(out.name).read_text(encoding="utf-8"))
    return found


def compare(given: argparse.Namespace, task: str, layers: int) -> None:
    rate = matrix_rate(given.busy)
    tried = {size: child(given, task, "harness", size, "bfloat16") for size in given.batch_sizes}
    best = min(tried, key=lambda size: tried[size]["seconds"])
    mine, other = [], []
    for _ in range(given.rounds):
        mine.append(child(given, task, "ours", 1, "bfloat16"))
        other.append(child(given, task, "harness", best, "bfloat16"))
    our_seconds, their_seconds = ([run["seconds"] for run in runs] for runs in (mine, other))
    total, unique = other[0]["total_tokens"], other[0]["unique_tokens"]
    peaks = [max(run["peak_bytes"] for run in runs) / 2**20 for runs in (mine, other)]
    shares = [
        2 * layers * tokens / rate / median(seconds)
        for tokens, seconds in ((unique, our_seconds), (total, their_seconds))
    ]
    print(
        f"{task}: harness {shown(their_seconds, 1)} s in batches of {best}, "
        f"workbench {shown(our_seconds, 1)} s, {shown(ratios(their_seconds, our_seconds), 1)}x; "
        f"{len(mine)} rounds; {total:,} tokens, {unique:,} of them unique, "
        f"{mine[0]['computed_tokens']:,} computed; "
        f"{shares[0]:.0%} and {shares[1]:.0%} of {rate / 1e9:.0f} GFLOP/s; "
        f"peak memory {peaks[1]:.0f} -> {peaks[0]:.0f} MiB",
        flush=True,
    )


def check(given: argparse.Namespace, task: str) -> None:
    """In float32: item by item."""
    mine = child(given, task, "ours", 1, "float32")["answers"]
    other = child(given, task, "harness", given.batch_sizes[0], "float32")["answers"]
    assert len(mine) == len(other)
    if isinstance(mine[0], str):
        same = sum(a.strip() == b.strip() for a, b in zip(mine, other, strict=True))
        print(f"{task}, float32: {same} of {len(mine)} texts the same", flush=True)
        return
    gap = max(
        abs(a - b) for some, more in zip(mine, other, strict=True) for a, b in zip(some, more, strict=True)
    )
    changed = sum(a.index(max(a)) != b.index(max(b)) for a, b in zip(mine, other, strict=True))
    print(f"{task}, float32: {len(mine)} items, {changed} predictions differ, by at most {gap:.1e} nats")
    if changed or gap > 1e-3:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path, help="a model of the LLaMA architecture")
    parser.add_argument("data", type=Path, help="folder with the benchmarks' own files")
    parser.add_argument("--task", action="append", choices=SETTINGS, help="default: all")
    parser.add_argument("--limit", type=int, help="items of each subset")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32], help="of the harness")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="of ours in a process")
    parser.add_argument("--native", action="store_true", help="our engine on the model class of transformers")
    parser.add_argument("--busy", action="store_true", help="one thread, seconds of the processor")
    parser.add_argument("--check", action="store_true", help="compare the numbers in float32 instead")
    parser.add_argument("--side", choices=("ours", "harness"), help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    tasks = given.task or list(SETTINGS)
    if given.busy:
        torch.set_num_threads(1)
    if given.side:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        given.task, given.batch_size = tasks[0], given.batch_sizes[0]
        found = (ours if given.side == "ours" else theirs)(given, given.repeats)
        given.out.write_text(json.dumps(found), encoding="utf-8")
        return
    for task in tasks:
        check(given, task) if given.check else compare(given, task, layers=106_168_320)


if __name__ == "__main__":
    main()
