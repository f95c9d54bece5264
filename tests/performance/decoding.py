"""Generated answers beside lm-evaluation-harness, and slots beside fixed batches: seconds, memory and texts.

    python tests/performance/decoding.py MODEL.gguf DATA                        # the four comparisons
    python tests/performance/decoding.py MODEL.gguf DATA --task cmmlu --check   # float32: text by text

Prompts and stop texts are those of the harness's requests, and both sides use our tokenizer (out of a GGUF
file transformers reads one that splits line breaks before a digit otherwise); generative CMMLU is a task that
is defined here. Each run has a process of its own. A first round finds the harness's fastest batch size; then
the two take turns, and medians and ranges of the rounds are told. Seconds are those from texts to answers,
tokenization included, loading and the trial of shared prefixes (some seconds) not.
Memory is the resident peak above what the process held before.

`skewed` compares the decoder with itself, when it gets 32 prompts at a time: 80% of the answers end before 20
tokens, 20% after 256.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import torch
from model import resident
from rounds import ratios, shown
from scoring import start_peak

from workbench.models.ops.cpu_attention import multiplies_bfloat16


@dataclass(frozen=True)
class Setting:
    """What is asked in one comparison."""

    task: str
    subsets: tuple[str, ...]
    limit: int
    shots: int
    new_tokens: int
    batch_sizes: tuple[int, ...] = (8, 32)
    """Of the harness."""


SUBJECTS = ("agronomy", "astronomy", "chinese_history", "college_law", "marketing")
SETTINGS = {
    "gsm8k": Setting("gsm8k", ("",), 24, 5, 64, (8, 24)),
    "cmmlu": Setting("cmmlu", SUBJECTS[:2], 12, 5, 16, (8, 24)),
    "zero-shot": Setting("gsm8k", ("",), 64, 0, 64, (32, 64)),
    "skewed": Setting("gsm8k", ("",), 128, 0, 256),
    "cmmlu-zero-shot": Setting("cmmlu", SUBJECTS, 60, 0, 24),
}
TIMED = ("gsm8k", "cmmlu", "zero-shot", "skewed")
FIXED_ROWS = 32
SKEWED_PROMPT = 16
"""Tokens of a prompt of `skewed`, so that the time is that of decoding."""
QUESTION = "{{ Question }}\nA. {{ A }}\nB. {{ B }}\nC. {{ C }}\nD. {{ D }}\n答案："


def requests(given: argparse.Namespace) -> list[Any]:
    """The harness's requests of a setting."""
    setting = SETTINGS[given.task]
    limit = given.limit or setting.limit
    made = generative_cmmlu if setting.task == "cmmlu" else harness_task
    by_subset = [made(subset, given.data, limit, setting.shots) for subset in setting.subsets]
    asked = [request for some in by_subset for request in some]
    for request in asked:
        request.arguments[1]["max_gen_toks"] = setting.new_tokens
    return asked


def harness_task(subset: str, data: Path, limit: int, shots: int) -> list[Any]:
    return harness.instances("gsm8k", subset, data, limit, shots)


def generative_cmmlu(subset: str, data: Path, limit: int, shots: int) -> list[Any]:
    """CMMLU as a task of generated texts: the answer is written on the line of the question's end."""
    from lm_eval.api.task import ConfigurableTask

    with tempfile.TemporaryDirectory() as folder:
        for split in ("test", "dev"):
            rows = harness.hub_rows("cmmlu", data / f"cmmlu/{split}/{subset}.csv")
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            Path(folder, f"{split}.jsonl").write_text(text, encoding="utf-8")
        config = {
            "task": "cmmlu_written",
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {split: f"{folder}/{split}.jsonl" for split in ("test", "dev")},
                "cache_dir": f"{folder}/cache",
            },
            "test_split": "test",
            "fewshot_split": "dev",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": shots,
            "description": "以下是单项选择题，请直接给出正确答案的选项。\n\n",
            "doc_to_text": QUESTION,
            "doc_to_target": "{{ Answer }}",
            "output_type": "generate_until",
            "generation_kwargs": {"until": ["\n"], "do_sample": False},
        }
        task = ConfigurableTask(config=config)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def theirs(given: argparse.Namespace) -> dict[str, Any]:
    asked = requests(given)
    tokenizer = given_tokenizer(given)
    lm = harness.language_model(given.gguf, getattr(torch, given.dtype), given.batch_size, tokenizer)
    before, start = start_peak(), clock(given)
    answers = lm.generate_until(asked, disable_tqdm=True)
    seconds = clock(given) - start
    return {"seconds": seconds, "peak_bytes": resident("VmHWM") - before, "answers": answers}


def ours(given: argparse.Namespace) -> dict[str, Any]:
    from workbench.config.benchmark import GenerationConfig
    from workbench.config.evaluate import EvaluateConfig
    from workbench.evaluation.inference.causal_lm import TransformersLM
    from workbench.evaluation.inference.decoder import Decoder

    asked = requests(given)
    texts, settings = [request.args[0] for request in asked], asked[0].args[1]
    limits = GenerationConfig(max_new_tokens=settings["max_gen_toks"], stop=settings["until"])
    lm = TransformersLM(*loaded(given), EvaluateConfig())
    before, start = start_peak(), clock(given)
    decoder = Decoder(lm, limits, as_harness=True)
    if given.task == "skewed":
        decoder.endings.reached = skewed_end  # type: ignore[method-assign]
    prompts = lm.encode(texts)
    if given.task == "skewed":
        prompts = [prompt[:SKEWED_PROMPT] for prompt in prompts]
    at_once = FIXED_ROWS if given.fixed else len(prompts)
    made: dict[int, list[int]] = {}
    for first in range(0, len(prompts), at_once):
        batch = prompts[first : first + at_once]
        made |= {first + index: tokens for index, tokens in decoder.tokens(batch, [""] * len(batch))}
    generated = [made[index] for index in range(len(prompts))]
    answers = [decoder.endings.text(tokens) for tokens in generated]
    seconds = clock(given) - start
    return {
        "seconds": seconds,
        "peak_bytes": resident("VmHWM") - before,
        "answers": answers,
        "prompt_tokens": sum(map(len, prompts)),
        "computed_tokens": lm.computed_tokens,
        "tokens": generated,
    }


def loaded(given: argparse.Namespace) -> tuple[Any, Any]:
    from workbench.config.model import Dtype, ModelConfig
    from workbench.config.quantization import QuantizationConfig
    from workbench.models.loading import load_model

    section = ModelConfig(path=str(given.gguf), dtype=Dtype[given.dtype])
    return load_model(section, QuantizationConfig()).eval(), given_tokenizer(given)


def given_tokenizer(given: argparse.Namespace) -> Any:
    from workbench.config.model import ModelConfig
    from workbench.models.loading import load_tokenizer

    return load_tokenizer(ModelConfig(path=str(given.gguf)))


def skewed_end(generated: list[int]) -> bool:
    """Whether an answer ends here, by a number that its first ten tokens give."""
    if len(generated) < 10:
        return False
    number = zlib.crc32(str(generated[:10]).encode())
    return number % 5 != 0 and len(generated) >= 10 + number // 5 % 10


def clock(given: argparse.Namespace) -> float:
    return time.process_time() if given.busy else time.perf_counter()


def child(given: argparse.Namespace, task: str, side: str, batch_size: int) -> dict[str, Any]:
    command = [sys.executable, __file__, str(given.gguf), str(given.data), "--side", side, "--task", task]
    command += ["--batch-sizes", str(batch_size), "--dtype", given.dtype]
    command += ["--limit", str(given.limit)] if given.limit else []
    command += ["--busy"] if given.busy else []
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run([*command, "--out", out.name], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        result: dict[str, Any] = json.loads(Path(out.name).read_text(encoding="utf-8"))
    return result


def compare(given: argparse.Namespace, task: str) -> None:
    if task == "skewed":
        other_side, best = "fixed", FIXED_ROWS
    else:
        sizes = given.batch_sizes or SETTINGS[task].batch_sizes
        tried = {size: child(given, task, "harness", size)["seconds"] for size in sizes if len(sizes) > 1}
        other_side, best = "harness", min(sizes, key=lambda size: tried.get(size, 0.0))
    mine, other = [], []
    for _ in range(given.rounds):
        mine.append(child(given, task, "ours", 1))
        other.append(child(given, task, other_side, best))
    our_seconds, their_seconds = ([run["seconds"] for run in runs] for runs in (mine, other))
    peaks = [max(run["peak_bytes"] for run in runs) / 2**20 for runs in (mine, other)]
    lengths = list(map(len, mine[0]["tokens"]))
    print(
        f"{task}: {other_side} {shown(their_seconds, 1)} s in batches of {best}, "
        f"slots {shown(our_seconds, 1)} s, {shown(ratios(their_seconds, our_seconds), 2)}x; "
        f"{len(mine)} rounds; {len(lengths)} prompts of {mine[0]['prompt_tokens']:,} tokens, "
        f"{mine[0]['computed_tokens']:,} computed; {sum(lengths):,} generated, "
        f"{sum(length < 20 for length in lengths)} answers under 20 tokens; "
        f"peak memory {peaks[1]:.0f} -> {peaks[0]:.0f} MiB",
        flush=True,
    )


def check(given: argparse.Namespace, task: str) -> None:
    """In float32: text by text; where one differs, how close the two most likely tokens are at that place."""
    mine = child(given, task, "ours", 1)
    batch_size = (given.batch_sizes or SETTINGS[task].batch_sizes)[0]
    other = child(given, task, "harness", batch_size)["answers"]
    differing = [
        index for index, pair in enumerate(zip(mine["answers"], other, strict=True)) if pair[0] != pair[1]
    ]
    print(f"{task}, float32: {len(other) - len(differing)} of {len(other)} texts the same", flush=True)
    given.task = task
    asked = requests(given) if differing else []
    largest = 0.0
    model, tokenizer = loaded(given) if differing else (None, None)
    for index in differing:
        gap = closeness(model, tokenizer, asked[index].args[0], mine["tokens"][index], other[index])
        largest = max(largest, gap)
        print(f"  {index}: {mine['answers'][index]!r} and {other[index]!r}, {gap:.1e} nats apart", flush=True)
    if len(differing) > 0.01 * len(other) or largest > 1e-3:
        raise SystemExit(1)


@torch.no_grad()
def closeness(model: Any, tokenizer: Any, prompt: str, mine: list[int], other: str) -> float:
    """Nats between the two most likely tokens where another text leaves that of the tokens `mine`.

    A character of several tokens may differ in any of them; the smallest difference counts.
    """
    texts = [tokenizer.decode(mine[:number]).rstrip("\ufffd") for number in range(len(mine))]
    same = max(number for number, text in enumerate(texts) if other.startswith(text))
    first = texts.index(texts[same])
    ids = torch.tensor([[*tokenizer(prompt)["input_ids"], *mine[:same]]])
    values = model(ids, logits_to_keep=same - first + 1).logits[0].double().log_softmax(-1)
    best = values.topk(2).values
    return float((best[:, 0] - best[:, 1]).min())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path, help="a model of the LLaMA architecture")
    parser.add_argument("data", type=Path, help="folder with the benchmarks' own files")
    parser.add_argument("--task", action="append", choices=SETTINGS, help=f"default: {', '.join(TIMED)}")
    parser.add_argument("--limit", type=int, help="items of each subset")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="of the harness")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of both sides; default: float32, and bfloat16 for speed where the processor multiplies it",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="one thread, seconds of the processor")
    parser.add_argument("--check", action="store_true", help="compare the texts in float32 instead")
    parser.add_argument("--side", choices=("ours", "fixed", "harness"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    tasks = given.task or list(TIMED)
    if given.dtype is None:
        given.dtype = "bfloat16" if multiplies_bfloat16() and not given.check else "float32"
    if given.busy:
        torch.set_num_threads(1)
    if given.side:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        given.task, given.batch_size, given.fixed = tasks[0], given.batch_sizes[0], given.side == "fixed"
        result = theirs(given) if given.side == "harness" else ours(given)
        given.out.write_text(json.dumps(result), encoding="utf-8")
        return
    for task in tasks:
        check(given, task) if given.check else compare(given, task)


if __name__ == "__main__":
    main()
