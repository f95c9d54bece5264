"""SentencePiece models become fast tokenizers with the same ids; see tests/fixtures/sentencepiece."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import at, llama
from transformers import AutoTokenizer

from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers.sentencepiece import read_tokenizer

FOLDER = Path(__file__).parents[1] / "fixtures" / "sentencepiece"
NAMES = ["tiny", "extended"]


def expected(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def as_folder(folder, **settings):
    """A model folder with the tokenizer in its old form only."""
    llama(vocab_size=470).save_pretrained(folder)
    shutil.copy(FOLDER / "tiny.model", folder / "tokenizer.model")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return at(folder)


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts_are_those_of_sentencepiece(name):
    tokenizer = read_tokenizer(FOLDER / f"{name}.model")
    for item in expected(name):
        assert tokenizer.encode(item["text"], add_special_tokens=False) == item["ids"], item["text"]
        assert tokenizer.decode(item["ids"]) == item["decoded"]
    assert len({tuple(item["ids"]) for item in expected(name)}) > 25


def test_the_round_trip_of_chinese_english_code_and_emoji_is_exact():
    tokenizer = read_tokenizer(FOLDER / "tiny.model")
    for text in ("早晨卖苹果。", "the market\n\tin  the", "x[i] += 'é' # 鱼", "👩‍👩‍👧 😀", "  "):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_saved_tokenizer_comes_back_the_same(tmp_path):
    tokenizer = read_tokenizer(FOLDER / "tiny.model")
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for item in expected("tiny"):
        assert again.encode(item["text"]) == tokenizer.encode(item["text"]) == [1, *item["ids"]]


def test_special_tokens_have_their_ids_and_are_not_split():
    tokenizer = read_tokenizer(FOLDER / "tiny.model")
    found = {name: getattr(tokenizer, f"{name}_token_id") for name in ("unk", "bos", "eos", "pad")}
    assert found == {"unk": 0, "bos": 1, "eos": 2, "pad": 3}
    assert tokenizer.encode("</s>", add_special_tokens=False) == [2]
    assert tokenizer.decode([1, 2, 3], skip_special_tokens=True) == ""


def test_a_file_alone_is_llamas_and_a_folder_follows_its_own_settings(tmp_path):
    alone = load_tokenizer(ModelConfig(tokenizer=str(FOLDER / "tiny.model"), init={"vocab_size": 460}))
    assert alone.encode("the")[0] == 1
    settings = dict(
        add_bos_token=False,
        add_eos_token=True,
        pad_token={"content": "<pad>", "special": True},
        model_max_length=77,
        chat_template="{{ messages }}",
        tokenizer_class="LlamaTokenizer",
    )
    own = load_tokenizer(as_folder(tmp_path, **settings))
    assert own.encode("the") == [*alone.encode("the")[1:], 2]
    assert (own.pad_token_id, own.model_max_length, own.chat_template) == (3, 77, "{{ messages }}")


def test_tokens_added_behind_the_pieces_keep_their_ids(tmp_path):
    added = {"460": {"content": "<human>", "special": True}, "461": {"content": "<bot>", "special": False}}
    tokenizer = load_tokenizer(as_folder(tmp_path, added_tokens_decoder=added))
    assert tokenizer.encode("<bot>", add_special_tokens=False) == [461]
    assert len(tokenizer) == 462
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<late>": 465}))
    with pytest.raises(CheckpointError, match="the token '<late>' gets the id 462, not 465"):
        load_tokenizer(at(tmp_path))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:1000], "truncated, damaged or not a SentencePiece model"),
        (lambda data: b"", "truncated, damaged or not a SentencePiece model"),
        (lambda data: b"IQ== 0\nIg== 1\n", "truncated, damaged or not a SentencePiece model"),
    ],
    ids=["truncated", "empty", "another format"],
)
def test_a_damaged_model_is_one_line(tmp_path, damage, said):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(damage((FOLDER / "tiny.model").read_bytes()))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_tokenizer(file)
    assert "\n" not in str(caught.value)


def test_damaged_settings_are_one_line(tmp_path):
    model = as_folder(tmp_path, add_bos_token=True)
    for text in ("{", "[]"):
        (tmp_path / "tokenizer_config.json").write_text(text)
        with pytest.raises(CheckpointError, match="tokenizer_config.json"):
            load_tokenizer(model)


@pytest.mark.peer
@pytest.mark.parametrize("name", NAMES)
def test_sentencepiece_gives_the_recorded_ids(name):
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / f"{name}.model"))
    for item in expected(name):
        assert processor.encode(item["text"]) == item["ids"]
