"""SentencePiece models become fast tokenizers with the same ids; see tests/fixtures/sentencepiece."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import at, llama
from transformers import AutoTokenizer

from workbench.config.model import ModelConfig
from workbench.config.publishing.export import ExportConfig
from workbench.errors import CheckpointError
from workbench.models.export import export
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers.load_tokenizer import read_tokenizer as tokenizer_of
from workbench.models.tokenizers.sentencepiece import read_tokenizer

FOLDER = Path(__file__).parents[1] / "fixtures" / "sentencepiece"
BAICHUAN = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<unk>"}
NAMES = ["tiny", "extended", "bare"]


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


IM_TOKENS = {
    "462": {"content": "<|im_end|>", "special": True},
    "463": {"content": "<|im_start|>", "special": True},
}


def with_own_class(folder, **settings):
    """A folder with the files of a tokenizer whose code is elsewhere."""
    (folder / "tokenizer.model").write_bytes((FOLDER / "bare.model").read_bytes())
    named = {"tokenizer_class": "InternLM2Tokenizer", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | settings))
    return folder


def test_tokens_that_are_listed_under_the_ids_of_pieces_replace_them_as_in_internlm2(tmp_path):
    tokenizer = tokenizer_of(with_own_class(tmp_path, added_tokens_decoder=IM_TOKENS, add_bos_token=False))
    for item in expected("bare"):
        if "[UNUSED" not in item["text"]:
            assert tokenizer.encode(item["text"]) == item["ids"]
        else:
            renamed = item["text"].replace("[UNUSED_TOKEN_145]", "<|im_end|>")
            renamed = renamed.replace("[UNUSED_TOKEN_146]", "<|im_start|>")
            assert tokenizer.encode(renamed) == item["ids"]
    assert tokenizer.decode([463, 462, 364], skip_special_tokens=True) == tokenizer.decode([364])
    assert len(tokenizer) == 464


def test_special_tokens_of_baichuan_are_read_from_objects_without_its_code(tmp_path):
    marked = {f"{kind}_token": {"__type": "AddedToken", "content": text} for kind, text in BAICHUAN.items()}
    tokenizer = tokenizer_of(with_own_class(tmp_path, add_bos_token=False, **marked))
    assert tokenizer.encode("<reserved_106>早晨") == [460, 293]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<unk>")


def test_chatglm_has_special_tokens_behind_the_pieces_and_two_of_them_before_every_text(tmp_path):
    own = {"tokenizer_class": "ChatGLMTokenizer", "eos_token": "</s>"}
    tokenizer = tokenizer_of(with_own_class(tmp_path, **own))
    for item in expected("bare"):
        assert tokenizer.encode(item["text"], add_special_tokens=False) == item["ids"]
        assert tokenizer.encode(item["text"]) == [465, 467, *item["ids"]]
    assert tokenizer.encode("<|user|>\n<|assistant|>", add_special_tokens=False) == [470, 14, 471]
    assert 467 not in tokenizer.encode("sop", add_special_tokens=False)
    assert tokenizer.decode([465, 470, 364], skip_special_tokens=True) == tokenizer.decode([364])
    assert tokenizer.pad_token == "<unk>" and len(tokenizer) == 473
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.encode("早晨<|user|>") == tokenizer.encode("早晨<|user|>") == [465, 467, 293, 470]


def test_listed_tokens_of_chatglm_that_are_letters_of_words_are_found_in_texts(tmp_path):
    listed = {"467": {"content": "sop", "special": True}, "470": {"content": "<|user|>", "special": True}}
    own = {"tokenizer_class": "ChatGLMTokenizer", "added_tokens_decoder": listed}
    tokenizer = tokenizer_of(with_own_class(tmp_path, **own))
    assert tokenizer.encode("[gMASK]sop<|user|>", add_special_tokens=False) == [465, 467, 470]


def test_an_export_of_a_folder_with_a_tokenizers_code_has_a_tokenizer_without_it(tmp_path):
    llama(vocab_size=470).save_pretrained(tmp_path / "in")
    with_own_class(tmp_path / "in", added_tokens_decoder=IM_TOKENS, add_bos_token=False)
    export(at(tmp_path / "in"), ExportConfig(), tmp_path / "out")
    assert "auto_map" not in (tmp_path / "out" / "tokenizer_config.json").read_text()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("<|im_start|>早晨") == [463, 293]


@pytest.mark.parametrize("index", ["0", "10"])
def test_a_listed_token_does_not_replace_the_unknown_piece_or_a_byte(index, tmp_path):
    folder = with_own_class(tmp_path, added_tokens_decoder={index: {"content": "<|im_end|>"}})
    with pytest.raises(CheckpointError, match=f"'<.im_end.>' can't have the id {index}"):
        tokenizer_of(folder)


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


def test_a_chatglm_whose_pieces_include_a_special_token_is_refused(tmp_path):
    folder = with_own_class(tmp_path, tokenizer_class="ChatGLMTokenizer")
    piece = b"\n\x07[gMASK]\x15\0\0\0\0"  # text and score
    file = folder / "tokenizer.model"
    file.write_bytes(file.read_bytes() + b"\n" + bytes([len(piece)]) + piece)
    with pytest.raises(CheckpointError, match=r"the piece '\[gMASK\]' occurs 2 times"):
        tokenizer_of(folder)


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
