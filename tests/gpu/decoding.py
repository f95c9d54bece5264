"""Decoding greedily at batch 1 and 32: our engine in bfloat16 and NF4 beside transformers' generate."""

import json
import tempfile
from pathlib import Path

import torch
from card import Day, arguments, clear, clock, day_of, our_model, peak_gib, their_model, tokenizer
from transformers import PreTrainedModel

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation import engine
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks

BATCHES = (1, 32)


def by_workbench(day: Day, method: str, new_tokens: int, words: int) -> None:
    """Record the rate of our engine on prompts that begin alike."""
    model, tokens = our_model(day, method), tokenizer(day)
    model.generation_config.eos_token_id = None  # random weights end texts at random
    config = EvaluateConfig()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prompts.jsonl")
        rows = [{"prompt": "一 " * words + f"{number}", "answer": "一"} for number in range(max(BATCHES))]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        for count in BATCHES:
            benchmark = BenchmarkConfig(
                path=str(file),
                language="zh",
                limit=count,
                output_type=OutputType.generation,
                question="{{ prompt }}",
                target="{{ answer }}",
                metrics=["exact_match"],
                generation=GenerationConfig(max_new_tokens=new_tokens, stop=[]),
            )
            prepared = prepare_benchmarks({"prompts": benchmark}, config)
            for _ in range(2):  # the first warms up
                clear()
                begin = clock()
                engine.evaluate(model, tokens, prepared, config, model_name="base")
                seconds = clock() - begin
            record(day, "workbench", method, count, new_tokens, seconds)


def by_generate(day: Day, model: PreTrainedModel, new_tokens: int, words: int) -> None:
    """Record the rate of transformers' `generate` on prompts of the same length."""
    generator = torch.Generator().manual_seed(0)
    for count in BATCHES:
        ids = torch.randint(10, 2000, (count, words), generator=generator).to(day.device)
        for _ in range(2):  # the first warms up
            clear()
            begin = clock()
            with torch.no_grad():
                model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=new_tokens,
                    min_new_tokens=new_tokens,
                    do_sample=False,
                    pad_token_id=0,
                )
            seconds = clock() - begin
        record(day, "generate", "none", count, new_tokens, seconds)


def record(day: Day, side: str, method: str, batch: int, new_tokens: int, seconds: float) -> None:
    day.record(
        "decoding",
        side=side,
        method=method,
        batch=batch,
        new_tokens=new_tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(batch * new_tokens / seconds, 1),
        peak_gib=peak_gib(),
    )


def main() -> None:
    day = day_of(arguments(__doc__).parse_args())
    new_tokens, words = (4, 16) if day.is_dry else (64, 256)
    by_workbench(day, "none", new_tokens, words)
    clear()
    by_generate(day, their_model(day), new_tokens, words)
    clear()
    by_workbench(day, "nf4", new_tokens, words)


if __name__ == "__main__":
    main()
