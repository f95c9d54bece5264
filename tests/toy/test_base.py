"""The committed base model has learned both languages and the order of numbers."""

import json
import math
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch

import workbench.toy
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.models.loading import load_model, load_tokenizer
from workbench.toy import numbers

TOY = Path(workbench.toy.__file__).parent


def texts(name: str) -> list[str]:
    return [
        json.loads(line)["text"] for line in (TOY / "data" / name).read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def base():
    config = ModelConfig(path=str(TOY / "base"))
    return load_model(config, QuantizationConfig()), load_tokenizer(config)


def test_the_base_is_small():
    assert (TOY / "base" / "model.safetensors").stat().st_size < 5_000_000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_base_beats_a_unigram_model_on_held_out_text(base, language):
    model, tokenizer = base
    seen = Counter(token for text in texts("pretrain.jsonl") for token in tokenizer(text).input_ids[1:])
    total = sum(seen.values()) + len(tokenizer)
    nats = unigram = tokens = 0.0
    for text in texts(f"text_{language}.jsonl"):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        nats -= float(logprobs.gather(-1, ids[0, 1:, None]).sum())
        unigram -= sum(math.log((seen[token] + 1) / total) for token in ids[0, 1:].tolist())
        tokens += ids.shape[1] - 1
    assert nats / tokens < 0.5 * unigram / tokens


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_base_knows_the_order_of_numbers_that_it_has_not_seen_together(base, language):
    model, tokenizer = base
    rng, right = Random(5), 0
    for _ in range(100):
        choice = numbers.choice(rng, numbers.ASKED, held_out=True)
        told = numbers.statement(choice, language)
        ids = tokenizer(told[: told.rindex(str(choice.answer))], return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        named = tokenizer.convert_tokens_to_ids([str(number) for number in choice.numbers])
        right += choice.numbers[int(logits[named].argmax())] == choice.answer
    assert right >= 80


def test_each_number_is_one_token_in_both_languages(base):
    _, tokenizer = base
    assert all(len(tokenizer.tokenize(str(number))) == 1 for number in range(numbers.LIMIT))
    for text in ("Question: Which, 37 or 5?\nAnswer: 37", "问题：37、5，哪个？答案：37", "emoji 🙂 and 龘"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
