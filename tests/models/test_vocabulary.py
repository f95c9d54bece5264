"""Vocabularies learned from text, and old ones with new pieces behind the old."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workbench.config.tokenizer import TokenizerConfig
from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.models.tokenizers import learn_vocabulary
from workbench.models.tokenizers.load_tokenizer import read_tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sentencepiece" / "tiny.model"
TOY = Path(__file__).parents[2] / "workbench" / "toy" / "base"

CHINESE = ["人工智能正在改变我们的生活，人工智能也在改变世界。", "今天天气很好，我们去公园散步。"] * 8
ENGLISH = ["The quick brown fox jumps over the lazy dog.", "def f(x):\n    return x ** 2  # 64 times\n"] * 8
HARD = ["龘 ﷺ 😀 é", "  two  spaces ", "a\tb\n\nc", "混合 mixed 12345 文字", ""]


def learned(texts=CHINESE + ENGLISH, **fields):
    return learn_vocabulary.learn(texts, TokenizerConfig(**{"vocab_size": 400, **fields}))


def extended(tmp_path, old=TOY, pieces=None, texts=CHINESE + ENGLISH, **fields):
    tokenizer = read_tokenizer(old)
    config = TokenizerConfig(**{"num_new_tokens": 30, **fields})
    return tokenizer, learn_vocabulary.extend(tokenizer, texts, pieces, config, tmp_path)


def test_a_learned_tokenizer_has_open_llamas_special_tokens_and_the_size_asked_for():
    tokenizer = learned()
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<unk>", "<s>", "</s>", "<pad>"]
    assert len(tokenizer) == 400
    assert tokenizer("人").input_ids[0] == 1


def test_a_folder_loads_with_the_auto_class_and_every_text_comes_back(tmp_path):
    tokenizer = learned()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    for text in [*CHINESE, *ENGLISH, *HARD]:
        ids = loaded(text).input_ids
        assert ids == tokenizer(text).input_ids
        assert loaded.decode(ids, skip_special_tokens=True) == text


def test_frequent_words_become_one_token_and_no_piece_reaches_over_a_word_or_digit():
    tokenizer = learned()
    assert "人工智能" in tokenizer.tokenize("，人工智能也")
    pieces = [piece for piece in tokenizer.get_vocab() if len(piece) > 1 and piece[0] != "<"]
    assert not any(piece[1:].count("▁") and piece.strip("▁") for piece in pieces)
    assert not any(any(letter.isdigit() for letter in piece.lstrip("▁")[1:]) for piece in pieces)


def test_the_same_texts_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        learned().save_pretrained(tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_rare_characters_are_spelled_in_bytes():
    assert "龘" in learned([*CHINESE, "龘"], character_coverage=1.0).get_vocab()
    rare = learned([*CHINESE, "龘"], character_coverage=0.99)
    assert rare.tokenize("龘")[-3:] == ["<0xE9>", "<0xBE>", "<0x98>"]


def test_a_size_without_room_for_the_characters_is_an_error():
    han = ["".join(chr(0x4E00 + number) for number in range(300))] * 2
    assert len(learned(han, vocab_size=561, character_coverage=1.0)) == 561  # 4 special ones, bytes, a space
    with pytest.raises(ConfigError, match="tokenizer.vocab_size: 560 is too small .at least 561 for"):
        learned(han, vocab_size=560, character_coverage=1.0)


def test_no_text_is_an_error():
    with pytest.raises(DataError, match="data.path: no text"):
        learned([""])


@pytest.mark.parametrize("old", [TOY, FIXTURE], ids=["bytes", "characters"])
def test_an_extension_keeps_every_old_id_and_spells_the_new_text_shorter(old, tmp_path):
    before, after = extended(tmp_path, old)
    assert {piece: after.get_vocab()[piece] for piece in before.get_vocab()} == before.get_vocab()
    assert sorted(after.get_vocab().values())[-30:] == list(range(len(before), len(before) + 30))
    assert len(after(CHINESE[0]).input_ids) < 0.7 * len(before(CHINESE[0]).input_ids)
    for text in [*CHINESE, *ENGLISH, *HARD]:
        ids = after(text).input_ids
        assert after.decode(ids, skip_special_tokens=True) == before.decode(
            before(text).input_ids, skip_special_tokens=True
        )


@pytest.mark.parametrize("old", [TOY, FIXTURE], ids=["bytes", "characters"])
def test_the_tokens_of_english_stay_as_they_were_unless_ascii_is_asked_for(old, tmp_path):
    before, after = extended(tmp_path / "a", old)
    assert [after(text).input_ids for text in ENGLISH] == [before(text).input_ids for text in ENGLISH]
    _, with_ascii = extended(tmp_path / "b", old, texts=ENGLISH, add_ascii=True)
    assert len(with_ascii(ENGLISH[0]).input_ids) < len(before(ENGLISH[0]).input_ids)


def test_an_extended_folder_loads_with_the_auto_class(tmp_path):
    _, after = extended(tmp_path, FIXTURE)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(CHINESE[0]).input_ids == after(CHINESE[0]).input_ids
    assert (loaded.bos_token, loaded.pad_token) == (after.bos_token, after.pad_token)


def test_tokens_beside_the_old_model_keep_their_ids(tmp_path):
    old = read_tokenizer(FIXTURE)
    old.add_tokens([AddedToken("<tool>", normalized=False)])
    old.save_pretrained(tmp_path / "old")
    before, after = extended(tmp_path / "new", tmp_path / "old")
    place = before.convert_tokens_to_ids("<tool>")
    assert after.convert_tokens_to_ids("<tool>") == place == len(before) - 1
    assert place in after("人工<tool>智能").input_ids


def test_pieces_of_another_tokenizer_can_be_added(tmp_path):
    pieces = learned(CHINESE)
    before, after = extended(tmp_path, FIXTURE, pieces, texts=[])
    new = set(after.get_vocab()) - set(before.get_vocab())
    assert new <= set(pieces.get_vocab())
    assert len(after(CHINESE[0]).input_ids) < len(before(CHINESE[0]).input_ids)


def test_every_new_token_has_the_old_tokens_that_spelled_it(tmp_path):
    before, after = extended(tmp_path)
    parts = learn_vocabulary.subpieces(before, after)
    assert list(parts) == list(range(len(before), len(after)))
    letters = {index: piece for piece, index in before.get_vocab().items()}
    for index, ids in parts.items():
        assert "".join(letters[each] for each in ids) == after.convert_ids_to_tokens(index)


def test_what_can_not_be_joined_is_said(tmp_path):
    with pytest.raises(
        CheckpointError, match="tokenizer.pieces: one of this tokenizer and the model's is byte-level"
    ):
        extended(tmp_path / "a", FIXTURE, read_tokenizer(TOY))
    with pytest.raises(ConfigError, match="there are no new pieces"):
        extended(tmp_path / "b", TOY, texts=["abc"])
    words = Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>"))
    with pytest.raises(CheckpointError, match="WordLevel tokenizers can't be extended"):
        learn_vocabulary.extend(
            PreTrainedTokenizerFast(tokenizer_object=words), CHINESE, None, TokenizerConfig(), tmp_path / "c"
        )


@pytest.mark.parametrize(
    "fields",
    [{"vocab_size": 10}, {"num_new_tokens": 0}, {"character_coverage": 1.5}],
)
def test_values_that_can_not_be_meant_are_refused(fields):
    with pytest.raises(ConfigError, match=f"tokenizer.{next(iter(fields))}"):
        TokenizerConfig(**fields)


def test_the_file_says_every_merge_of_the_old_one_first(tmp_path):
    before, _ = extended(tmp_path)
    old = json.loads(before.backend_tokenizer.to_str())["model"]["merges"]
    new = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert new[: len(old)] == old
