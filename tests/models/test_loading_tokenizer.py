"""Tokenizers: found in every place, padded without new tokens, checked against the embedding."""

import logging

import pytest
from tiny_checkpoints import at, llama, words_tokenizer
from transformers import PreTrainedTokenizerFast

from workbench.config.model import Architecture, ModelConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers import load_tokenizer as room


@pytest.fixture
def folder(tmp_path):
    llama().save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_the_models_own_tokenizer_is_loaded(folder):
    tokenizer = load_tokenizer(at(folder))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.encode("w3 w90") == [1, 3, 90]


def test_a_tokenizer_of_its_own_folder_or_file_is_loaded(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("tokenizer")
    words_tokenizer(50).save_pretrained(elsewhere)
    assert len(load_tokenizer(at(folder, tokenizer=str(elsewhere)))) == 50
    file = elsewhere / "tokenizer.json"
    tokenizer = load_tokenizer(at(folder, tokenizer=str(file), pad_token="</s>"))
    assert len(tokenizer) == 50 and tokenizer.pad_token_id == 2


def test_a_missing_padding_token_is_borrowed_and_said_once(folder, caplog):
    caplog.set_level(logging.INFO, "workbench")
    room.log_once.cache_clear()
    for _ in range(2):
        tokenizer = load_tokenizer(at(folder))
    assert (tokenizer.pad_token, tokenizer.pad_token_id, len(tokenizer)) == ("<unk>", 0, 96)
    assert caplog.text.count("no padding token") == 1


def test_the_padding_token_can_be_chosen_from_the_vocabulary_only(folder):
    assert load_tokenizer(at(folder, pad_token="w9")).pad_token_id == 9
    with pytest.raises(ConfigError, match="model.pad_token: '<pad>' is not in the vocabulary"):
        load_tokenizer(at(folder, pad_token="<pad>"))


def test_a_padding_token_of_the_tokenizers_own_stays(folder):
    tokenizer = words_tokenizer()
    tokenizer.pad_token = "w5"
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(at(folder)).pad_token == "w5"


@pytest.mark.parametrize("architecture", Architecture)
def test_a_tokenizer_larger_than_the_embedding_is_refused(folder, architecture):
    words_tokenizer(98).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="98 tokens, but the model's embedding has 96 rows"):
        load_tokenizer(at(folder, architecture=architecture))


def test_a_smaller_tokenizer_is_fine(folder):
    words_tokenizer(90).save_pretrained(folder)
    assert len(load_tokenizer(at(folder))) == 90


def test_no_tokenizer_and_a_damaged_one_are_one_line(folder):
    file = folder / "tokenizer.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(CheckpointError, match="tokenizer.json: not a JSON object") as caught:
        load_tokenizer(at(folder))
    assert "\n" not in str(caught.value)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        load_tokenizer(at(folder))


def test_neither_model_nor_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="model.tokenizer: not given"):
        load_tokenizer(ModelConfig(init={"vocab_size": 96}))
    with pytest.raises(CheckpointError, match="model.tokenizer: there is no file or folder"):
        load_tokenizer(ModelConfig(init={"vocab_size": 96}, tokenizer="/no/where"))
