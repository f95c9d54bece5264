"""Tiny real models, a real tokenizer and data for the checkers of IFEval, made on the spot."""

import pytest
import torch
from tiny_llama import llama_config, make_llama, make_tokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from workbench.evaluation.checkers.checker import Checker
from workbench.evaluation.metrics import instructions


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def llama() -> LlamaForCausalLM:
    return make_llama()


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=400,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def classifier() -> LlamaForSequenceClassification:
    torch.manual_seed(2)
    return LlamaForSequenceClassification(llama_config(num_labels=3)).eval()


@pytest.fixture
def punkt(tmp_path, monkeypatch):
    """NLTK's data of an untrained model, in its layout."""
    folder = tmp_path / "nltk_data" / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (folder / name).touch()
    checker = Checker("ifeval", "check_instructions.py", instructions.IFEVAL.environment)
    checker.environment["NLTK_DATA"] = str(tmp_path / "nltk_data")
    monkeypatch.setattr(instructions, "IFEVAL", checker)


@pytest.fixture
def no_punkt(tmp_path, monkeypatch):
    """A place without NLTK's data; the folders where it is usually kept may have it."""
    nltk = pytest.importorskip("nltk")
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return
    pytest.skip("punkt_tab is installed")
