"""A folder of Qwen 1 with its own qwen.tiktoken is trained, merged and scored as it is published."""

import base64
import json
import unicodedata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench import cli
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.models.tokenizers.tiktoken_file import KINDS
from workbench.run_dir import read_json

DATA = Path(cli.PACKAGE) / "toy" / "data"
KIND = KINDS["QWenTokenizer"]
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 96


def toy_texts() -> list[str]:
    """The toy's texts in English and Chinese."""
    files = [DATA / f"text_{language}.jsonl" for language in ("en", "zh")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line)["text"] for line in lines]


def trained_ranks() -> dict[bytes, int]:
    """All bytes, and the merges of a byte-level BPE trained on the toy's texts, as tiktoken ranks them."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([unicodedata.normalize("NFC", text) for text in toy_texts()], trainer)
    shown = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (32, 160, 173)]
    others = [byte for byte in range(256) if byte not in shown]
    values = {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(others)}
    tokens = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    return {bytes(values[character] for character in token): rank for rank, token in enumerate(tokens)}


def write_tokenizer(folder: Path) -> int:
    """Write qwen.tiktoken and its settings as Qwen-7B has them; return the number of ranks."""
    ranks = trained_ranks()
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    (folder / "qwen.tiktoken").write_text("\n".join(lines) + "\n")
    settings = {
        "model_max_length": 256,
        "tokenizer_class": "QWenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(ranks)


def write_qwen1(folder: Path) -> None:
    """Write a tiny Qwen 1 of random weights: config.json, model.safetensors and tokenizer."""
    folder.mkdir()
    vocabulary = write_tokenizer(folder) + len(KIND.special)
    config = {
        "architectures": ["QWenLMHeadModel"],
        "auto_map": {
            "AutoConfig": "configuration_qwen.QWenConfig",
            "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
        },
        **{"model_type": "qwen", "tokenizer_class": "QWenTokenizer", "vocab_size": vocabulary},
        **{"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS},
        **{"intermediate_size": 2 * INNER, "kv_channels": HIDDEN // HEADS, "layer_norm_epsilon": 1e-6},
        **{"seq_length": 256, "max_position_embeddings": 256, "rotary_emb_base": 10000, "rotary_pct": 1.0},
        **{"no_bias": True, "scale_attn_weights": True, "use_dynamic_ntk": True, "use_logn_attn": True},
        **{"attn_dropout_prob": 0.0, "emb_dropout_prob": 0.0, "tie_word_embeddings": False},
        **{"onnx_safe": None, "use_cache": True, "initializer_range": 0.02},
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"attn.c_attn": (3 * HIDDEN, HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN)}
    shapes |= {"mlp.w1": (INNER, HIDDEN), "mlp.w2": (INNER, HIDDEN), "mlp.c_proj": (HIDDEN, INNER)}
    generator = torch.Generator().manual_seed(0)
    head, embedding = torch.randn(2, vocabulary, HIDDEN, generator=generator) * 0.05
    weights = {"transformer.wte.weight": embedding.clone(), "lm_head.weight": head.clone()}
    weights["transformer.ln_f.weight"] = torch.ones(HIDDEN)
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}."
        for name, shape in shapes.items():
            weights[f"{prefix}{name}.weight"] = torch.randn(shape, generator=generator) * 0.05
        weights[f"{prefix}attn.c_attn.bias"] = torch.randn(3 * HIDDEN, generator=generator) * 0.05
        weights |= {f"{prefix}ln_{number}.weight": torch.ones(HIDDEN) for number in (1, 2)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_published_folder_is_trained_merged_and_scored(run, tmp_path, caplog):
    write_qwen1(tmp_path / "qwen")
    short = ("train.max_steps=3", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=8")
    folder = run("quickstart", f"model.path={tmp_path / 'qwen'}", "quantization=none", *short)
    models_scored = read_json(folder.results_json)["models"]
    assert models_scored.keys() == {"base", "adapter", "merged"}
    text = "<|im_start|>user\n早晨 the farmer's 365 apples<|im_end|>"
    own, merged = read_tokenizer(tmp_path / "qwen"), AutoTokenizer.from_pretrained(folder.merged)
    assert merged.encode(text) == own.encode(text)
    assert own.encode(text)[0] == len(trained_ranks()) + 1
    model = AutoModelForCausalLM.from_pretrained(folder.merged)
    assert type(model).__name__ == "Qwen2ForCausalLM"
    before = load_file(tmp_path / "qwen" / "model.safetensors")
    queries = before["transformer.h.0.attn.c_attn.weight"][:HIDDEN]
    change = (model.model.layers[0].self_attn.q_proj.weight - queries).abs().max()
    assert 0 < change < 0.05


@pytest.mark.peer
def test_tiktoken_gives_the_ids_of_all_texts(tmp_path):
    """`pip install tiktoken`"""
    tiktoken = pytest.importorskip("tiktoken")
    number = write_tokenizer(tmp_path)
    special = {text: number + index for index, text in enumerate(KIND.special)}
    encoding = tiktoken.Encoding(
        "qwen", pat_str=KIND.pattern, mergeable_ranks=trained_ranks(), special_tokens=special
    )
    tokenizer = read_tokenizer(tmp_path)
    rows = [json.loads(line) for line in (DATA / "instruct.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = ["<|im_start|>" + " ".join(map(str, row.values())) + "<|im_end|>\n" for row in rows[:500]]
    for text in [*toy_texts(), *asked]:
        expected = encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")
        assert tokenizer.encode(text) == expected, text
        assert tokenizer.decode(expected) == unicodedata.normalize("NFC", text)
