"""Tiny real models and rows to train them on."""

from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.config.adapter import AdapterConfig
from workbench.config.model import Architecture, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.adapters import attach
from workbench.models.loading import load_model

# The matrices are tiny: handing them to several threads takes longer than multiplying them.
torch.set_num_threads(1)

VOCABULARY = 32


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {f"w{number}": number for number in range(VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", unk_token="w0", eos_token="w1")


def write_base(folder: Path) -> Path:
    """A LLaMA checkpoint of a few kilobytes."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def load(base: Path, task: str = "causal_lm", method: str = "none", architecture: str = "auto"):
    """The base as an Open-Llama of the task, or as transformers' own class (native), quantized."""
    torch.manual_seed(3)
    section = ModelConfig(path=str(base), task=Task(task), architecture=Architecture[architecture])
    classes = 3 if section.task is Task.sequence_classification else None
    return load_model(section, QuantizationConfig(method=QuantizationMethod(method)), classes)


def load_with_lora(base: Path, *kind: str, dropout: float = 0.1):
    """The model of a task, quantization and architecture, with an adapter to train."""
    model = load(base, *kind)
    return attach.attach(model, AdapterConfig(rank=4, alpha=8.0, dropout=dropout), seed=1)


def causal_rows(count: int = 24) -> Dataset:
    """Rows of different lengths whose second half is trained."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for number in range(count):
        length = 4 + number % 7
        ids = torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()
        labels = [-100] * (length // 2) + ids[length // 2 :]
        place = {"length": length, "row": number, "where": f"a.jsonl:{number + 1}"}
        rows.append({"input_ids": ids, "labels": labels, **place})
    return Dataset.from_list(rows)


def class_rows(count: int = 24) -> Dataset:
    rows = [{**row, "labels": row["row"] % 3} for row in causal_rows(count)]
    return Dataset.from_list(rows)
