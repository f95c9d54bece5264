"""tiktoken files become fast tokenizers with the same ids; see tests/fixtures/tiktoken."""

import base64
import json
import random
import shutil
import unicodedata
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.models.tokenizers.tiktoken_file import KINDS, read_ranks

FOLDER = Path(__file__).parents[1] / "fixtures" / "tiktoken"
CLASSES = {"qwen": "QWenTokenizer", "glm": "ChatGLM4Tokenizer"}
FILES = {"qwen": "qwen.tiktoken", "glm": "tokenizer.model"}
NUM_RANKS = 440


def expected(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def folder_of(name, folder, **settings):
    """A folder with the files of a family's tokenizer, whose code isn't there."""
    shutil.copy(FOLDER / "tiny.tiktoken", folder / FILES[name])
    own = {"tokenizer_class": CLASSES[name], "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own | settings))
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_ids_and_texts_are_those_of_tiktoken(name, tmp_path):
    tokenizer = read_tokenizer(folder_of(name, tmp_path))
    for item in expected(name):
        assert tokenizer.encode(item["text"], add_special_tokens=False) == item["ids"], item["text"]
        assert tokenizer.decode(item["ids"]) == item["decoded"]
    assert len({tuple(item["ids"]) for item in expected(name)}) > 25


@pytest.mark.parametrize("name", CLASSES)
def test_special_tokens_follow_those_of_the_file(name, tmp_path):
    tokenizer, special = read_tokenizer(folder_of(name, tmp_path)), KINDS[CLASSES[name]].special
    assert [tokenizer.encode(text, add_special_tokens=False) for text in special] == [
        [NUM_RANKS + index] for index in range(len(special))
    ]
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    ids = tokenizer.encode("早晨")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "早晨"
    assert tokenizer.decode(ids) == ("[gMASK]<sop>早晨" if name == "glm" else "早晨")


@pytest.mark.parametrize("name", CLASSES)
def test_a_saved_tokenizer_comes_back_the_same(name, tmp_path):
    folder = folder_of(name, tmp_path, chat_template="{{ messages }}", model_max_length=77)
    tokenizer = read_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (again.chat_template, again.model_max_length) == ("{{ messages }}", 77)
    for item in expected(name):
        assert again.encode(item["text"]) == tokenizer.encode(item["text"])


@pytest.mark.parametrize("name", ["tokenizer.model", "qwen.tiktoken"])
def test_a_chat_template_in_a_file_of_its_own_is_read(name, tmp_path):
    """Of a tiktoken file and of a SentencePiece model, which have the same settings."""
    folder = folder_of("qwen", tmp_path, chat_template="{{ old }}")
    if name == "tokenizer.model":
        (folder / "qwen.tiktoken").unlink()
        shutil.copy(FOLDER.parent / "sentencepiece" / "tiny.model", folder / name)
    (folder / "chat_template.jinja").write_text("{{ 早晨 }}", encoding="utf-8")
    assert read_tokenizer(folder).chat_template == "{{ 早晨 }}"
    (folder / "chat_template.jinja").write_bytes(b"{{ \xff }}")
    with pytest.raises(CheckpointError, match="chat_template.jinja: not UTF-8 .byte 3."):
        read_tokenizer(folder)


def test_a_file_alone_is_read_where_its_name_says_whose_it_is(tmp_path):
    shutil.copy(FOLDER / "tiny.tiktoken", tmp_path / "qwen.tiktoken")
    section = ModelConfig(tokenizer=str(tmp_path / "qwen.tiktoken"), init={"vocab_size": 700})
    assert load_tokenizer(section).encode("the<|im_end|>")[-1] == NUM_RANKS + 2
    other = shutil.copy(FOLDER / "tiny.tiktoken", tmp_path / "other.tiktoken")
    with pytest.raises(
        CheckpointError, match="tokenizer_class None are not supported .known: QWenTokenizer, "
    ):
        load_tokenizer(ModelConfig(tokenizer=str(other), init={"vocab_size": 700}))


def test_settings_that_give_a_token_another_id_are_refused(tmp_path):
    listed = {"7": {"content": "<|user|>", "special": True}}
    with pytest.raises(CheckpointError, match=r"added_tokens_decoder: '<\|user\|>' has the id 447, not 7"):
        read_tokenizer(folder_of("glm", tmp_path, added_tokens_decoder=listed))


DAMAGES = {
    "a line cut off": (lambda lines: [*lines[:-1], lines[-1][:3]], "line 440: not a token in base64"),
    "not base64": (lambda lines: [lines[0], "a 1", *lines[2:]], "line 2: not a token in base64"),
    "a token twice": (lambda lines: [*lines, f"{lines[0].split()[0]} 440"], "line 441: .* occurs twice"),
    "a rank twice": (lambda lines: [*lines[:-1], f"{lines[-1].split()[0]} 7"], "the ranks are not 0 to 439"),
    "a byte missing": (
        lambda lines: [f"{line.split()[0]} {rank}" for rank, line in enumerate(lines[1:])],
        "there is no token for the byte",
    ),
    "a long token": (
        lambda lines: [*lines, f"{base64.b64encode(b'a' * 600).decode()} 440"],
        "a token has 600 bytes .at most 512",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_one_line(name, tmp_path):
    damage, said = DAMAGES[name]
    lines = (FOLDER / "tiny.tiktoken").read_text().splitlines()
    file = folder_of("glm", tmp_path) / "tokenizer.model"
    file.write_text("\n".join(damage(lines)))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_the_embedding_has_rows_are_refused_before_they_are_converted():
    with pytest.raises(CheckpointError, match="440 tokens, but the model's embedding has 100 rows"):
        read_ranks(FOLDER / "tiny.tiktoken", 100)


@pytest.mark.peer
@pytest.mark.parametrize("name", CLASSES)
def test_tiktoken_gives_the_same_ids_for_a_thousand_texts(name, tmp_path):
    """`pip install tiktoken`"""
    tiktoken = pytest.importorskip("tiktoken")
    family, draw = KINDS[CLASSES[name]], random.Random(0)
    ranks = read_ranks(FOLDER / "tiny.tiktoken")
    encoding = tiktoken.Encoding(name, pat_str=family.pattern, mergeable_ranks=ranks, special_tokens={})
    tokenizer = read_tokenizer(folder_of(name, tmp_path))
    words = [word for item in expected(name) for word in (*item["text"].split(" "), *item["text"])]
    for _ in range(1000):
        text = "".join(draw.choice(["", " "]) + draw.choice(words) for _ in range(draw.randrange(40)))
        wanted = encoding.encode(unicodedata.normalize("NFC", text) if family.is_composed else text)
        assert tokenizer.encode(text, add_special_tokens=False) == wanted, text
