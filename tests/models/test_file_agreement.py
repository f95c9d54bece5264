"""A tokenizer that transformers loads otherwise than its tokenizer.json says is named; the way out works."""

import json
import logging

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.config.model import ModelConfig
from workbench.models.tokenizers.file_agreement import PROBES, difference
from workbench.models.tokenizers.load_tokenizer import load_tokenizer, read_tokenizer


def folder(path, pattern, model_type):
    """A model's folder with a BPE that has learned numbers of several digits, where its pattern allows."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence([split, level]), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["in 2024 and 2024, 345 of 345"] * 9, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(path)
    config = {"model_type": model_type, "vocab_size": 400, "architectures": ["LlamaForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))
    return path


NUMBERS = r"\p{N}+| ?\p{L}+|\s+|[^\s\p{L}\p{N}]+"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""The split pattern of transformers' class, as in Qwen2's published tokenizer.json."""


def test_a_qwen2_whose_file_splits_otherwise_is_named_with_the_first_difference(tmp_path):
    place = folder(tmp_path / "qwen", NUMBERS, "qwen2")
    said = difference(read_tokenizer(place), place / "tokenizer.json")
    assert said.startswith(f"{place / 'tokenizer.json'}: transformers' Qwen2Tokenizer gives other tokens")
    assert "'2', '0', '2'" in said or "'3', '4', '5'" in said
    assert "\n" not in said


def test_the_way_out_gives_the_files_own_tokens(tmp_path):
    place = folder(tmp_path / "qwen", NUMBERS, "qwen2")
    (place / "config.json").unlink()
    settings = json.loads((place / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "TokenizersBackend"
    tokenizer, own = read_tokenizer(place), Tokenizer.from_file(str(place / "tokenizer.json"))
    assert difference(tokenizer, place / "tokenizer.json") is None
    assert [tokenizer(text)["input_ids"] for text in PROBES] == [own.encode(text).ids for text in PROBES]


@pytest.mark.parametrize("pattern", [NUMBERS, QWEN2])
def test_a_llama_follows_its_file_and_a_qwen2_is_warned_about_where_it_does_not(
    tmp_path, caplog, monkeypatch, pattern
):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    load_tokenizer(ModelConfig(path=str(folder(tmp_path / "llama", pattern, "llama"))))
    assert "gives other tokens" not in caplog.text
    load_tokenizer(ModelConfig(path=str(folder(tmp_path / "qwen", pattern, "qwen2")), architecture="native"))
    assert caplog.text.count("gives other tokens") == (pattern == NUMBERS)
