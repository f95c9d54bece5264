"""Tiny random models of the architectures in the table of conf/README.md, saved with the toy tokenizer."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from causal_kinds import KINDS, kind
from relatives import relative
from transformers import AutoTokenizer, PreTrainedModel

import workbench.toy

TOY = Path(workbench.toy.__file__).parent
EDGE = 50
"""Window, and length at which longrope changes, in tokens: texts are of 29 to 86. Texts share prefixes if
they fit into the window; trials of that need 48. A dynamic rope changes at the end of the context only."""
SIZES = {"vocab_size": 776, "max_position_embeddings": 256}
"""The toy tokenizer's 686 tokens, and rows for those that other tokenizer classes add."""
FACTORS = {"short_factor": [1.0 + i / 10 for i in range(8)], "long_factor": [2.0 + i / 2 for i in range(8)]}
ROPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": EDGE},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": EDGE,
    },
    "longrope": {"factor": 4.0, "original_max_position_embeddings": EDGE, **FACTORS},
}


def rope(rope_type: str) -> dict[str, Any]:
    """Fields of a LLaMA with a rope of this type."""
    parameters = {"rope_type": rope_type, "rope_theta": 10000.0, **ROPES[rope_type]}
    length = {"yarn": 4 * EDGE, "longrope": 4 * EDGE}.get(rope_type, 256)
    return {"rope_parameters": parameters, "max_position_embeddings": length}


# Name -> name and fields in relatives.py.
RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama, biases", {}),
    "llama, head_dim": ("llama, wide heads", {}),
    **{f"llama, {rope_type}": ("llama", rope(rope_type)) for rope_type in ROPES},
    "mistral": ("mistral, narrow heads", {}),
    "mistral, window": ("mistral, window", {"sliding_window": EDGE}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "granite": ("granite", {}),
    "internlm3": ("internlm3", {}),
}
ARCHITECTURES = (*RELATIVES, *KINDS)


def architecture(name: str) -> PreTrainedModel:
    """The tiny model `name` of transformers' own class."""
    if name in RELATIVES:
        own, fields = RELATIVES[name]
        return relative(own, **(SIZES | fields))
    window = {"sliding_window": EDGE} if "sliding_window" in KINDS[name][1] else {}
    without_dropout = {field: 0.0 for field in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    made = kind(name, **SIZES, **window, **(without_dropout if name == "gpt2" else {}))
    if name == "qwen3_5":  # of larger weights, its delta rule in float32 is 1e-4 from float64
        for weight_name, weight in made.named_parameters():
            if "linear_attn" in weight_name and weight.dim() > 1:
                weight.data /= 3
    return made


def write_base(name: str, folder: Path) -> Path:
    """Save the tiny model `name`, and the toy tokenizer."""
    architecture(name).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOY / "base").save_pretrained(folder)
    return folder


def questions(seed: int) -> Iterator[tuple[str, list[int]]]:
    """Yield questions of 22 to 85 tokens, each with the numbers that it is about."""
    generator = random.Random(seed)
    for count in (4, 6, 8, 10, 11, 12, 14, 17, 20, 22):
        numbers = generator.sample(range(10, 100), count)
        yield f"Question: Which is the largest, {', '.join(map(str, numbers))}?\nAnswer:", numbers


def write_rows(file: Path) -> Path:
    """Write 10 training rows, of which several fit into 160 tokens."""
    rows = [
        {"prompt": question, "completion": f" {max(numbers)}, not {min(numbers)} or {numbers[0]}"}
        for question, numbers in questions(0)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_items(file: Path) -> Path:
    """Write 10 items of a benchmark in the form of toy_choice_en, each with four choices."""
    rows = [
        {
            "question": question,
            "choices": [f"{n}, not 9" for n in numbers[:4]],
            "answer": f"{numbers[0]}, not 9",
        }
        for question, numbers in questions(1)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
