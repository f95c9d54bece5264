"""Files of a checkpoint that announce more than they hold: one line, before anything of that size is made."""

import base64
import io
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, FourierFTConfig, VBLoRAConfig
from safetensors.torch import load_file, save_file
from tiny_checkpoints import PLAIN, at, llama, write_gguf

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.model import Architecture
from workbench.errors import CheckpointError, WorkbenchError
from workbench.models.adapters import adapter_config, attach
from workbench.models.loading import load_model, load_tokenizer

TOY = Path(__file__).parents[2] / "workbench" / "toy" / "base"
HUGE = 2**50
FLOAT32, STRING, ARRAY, UINT32 = 6, 8, 9, 4


def text(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(data)) + data


def pair(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def described(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(tensors: int, pairs: int, rest: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


LLAMA = pair("general.architecture", STRING, text("llama"))
GGUF = {
    "an array of 2**50 numbers": header(0, 1, pair("a", ARRAY, struct.pack("<IQ", FLOAT32, HUGE))),
    "an array of 2**50 texts": header(0, 1, pair("a", ARRAY, struct.pack("<IQ", STRING, HUGE))),
    "an array of arrays": header(0, 1, pair("a", ARRAY, struct.pack("<IQIQ", ARRAY, 4, ARRAY, HUGE))),
    "a text of 2**50 letters": header(0, 1, text("a") + struct.pack("<IQ", STRING, HUGE)),
    "a name of 2**63 letters": header(0, 1, struct.pack("<Q", 2**63) + b"a" * 20),
    "2**50 keys": header(0, HUGE, LLAMA),
    "2**50 tensors": header(HUGE, 1, LLAMA),
    "2**31 dimensions": header(1, 1, LLAMA + text("a") + struct.pack("<IQ", 2**31, 1) + b"\0" * 40),
    "a tensor of 2**60 numbers": header(1, 1, LLAMA + described("a", (2**30, 2**30), 0, 0)),
    "a shape that overflows": header(1, 1, LLAMA + described("a", (2**63, 2**63, 4), 0, 0) + b"\0" * 64),
    "an offset beyond the end": header(1, 1, LLAMA + described("a", (2,), 0, 2**62) + b"\0" * 64),
    "an offset within the other tensor": header(
        2, 1, LLAMA + described("a", (16,), 0, 0) + described("b", (16,), 0, 32) + b"\0" * 256
    ),
    "an offset beside the alignment": header(1, 1, LLAMA + described("a", (2,), 0, 4) + b"\0" * 64),
    "an unknown type of tensor": header(1, 1, LLAMA + described("a", (2,), 999, 0) + b"\0" * 64),
    "an unknown type of key": header(0, 1, pair("a", 99, b"\0" * 8)),
    "a key twice": header(0, 2, LLAMA + LLAMA),
    "an alignment of 0": header(0, 1, pair("general.alignment", UINT32, struct.pack("<I", 0))),
    "an alignment of 3": header(0, 1, pair("general.alignment", UINT32, struct.pack("<I", 3))),
    "an alignment that is a text": header(0, 1, pair("general.alignment", STRING, text("32"))),
    "an unknown version": header(0, 1, LLAMA, version=99),
    "letters that are none": header(0, 1, pair("general.architecture", STRING, text(b"\xff\xfe"))),
    "10**9 layers": header(
        1,
        8,
        LLAMA
        + b"".join(
            pair(f"llama.{name}", UINT32, struct.pack("<I", value))
            for name, value in {
                "embedding_length": 8,
                "feed_forward_length": 8,
                "block_count": 10**9,
                "attention.head_count": 2,
                "context_length": 8,
            }.items()
        )
        + pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5))
        + pair("general.name", STRING, text("x"))
        + described("token_embd.weight", (8, 4), 0, 0)
        + b"\0" * 256,
    ),
    "nothing": b"",
    "the first letters": b"GGUF",
}


@pytest.fixture(autouse=True)
def _little_memory():
    """Refuse any allocation of tens of gigabytes, which a machine might otherwise grant and never fill."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 8 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(path: Path, **fields) -> str:
    """The one line with which a model is refused, by us and as transformers would read it."""
    lines = []
    for architecture in (Architecture.auto, Architecture.native):
        with pytest.raises(WorkbenchError) as caught:
            load_model(at(path, architecture=architecture, **fields), PLAIN)
        lines.append(str(caught.value))
        print(lines[-1])
        assert "\n" not in lines[-1] and len(lines[-1]) < 900
        assert "allocate" not in lines[-1] and "MemoryError" not in lines[-1]
    return lines[0]


@pytest.mark.parametrize("name", GGUF)
def test_a_gguf_file_that_announces_what_it_does_not_hold(tmp_path, name):
    file = tmp_path / "model.gguf"
    file.write_bytes(GGUF[name])
    assert str(file) in refused(file)


MORE_THAN_ANY_MODEL_HAS = {
    "20,000 keys": header(0, 20_000, b"".join(pair(f"k{i}", UINT32, b"\0" * 4) for i in range(20_000))),
    "150,000 tensors": header(150_000, 1, LLAMA + described("t", (1,), 0, 0) * 150_000),
    "2,500,000 items in 'a'": header(
        0, 1, pair("a", ARRAY, struct.pack("<IQ", 0, 2_500_000)) + b"\0" * 2_500_000
    ),
}


@pytest.mark.parametrize("announced", MORE_THAN_ANY_MODEL_HAS)
def test_a_gguf_file_of_more_parts_than_any_model_has_is_not_read(tmp_path, announced):
    file = tmp_path / "model.gguf"
    file.write_bytes(MORE_THAN_ANY_MODEL_HAS[announced])
    with pytest.raises(CheckpointError, match=rf"model.gguf: .*announces {announced} \(at most [\d,]+\)"):
        load_tokenizer(at(file))


def test_a_gguf_file_of_far_more_merges_than_tokens_is_not_read(tmp_path):
    arrays = [
        pair(f"tokenizer.ggml.{name}", ARRAY, struct.pack("<IQ", 8, count) + struct.pack("<Q", 0) * count)
        for name, count in (("tokens", 512), ("merges", 100_000))
    ]
    file = tmp_path / "model.gguf"
    file.write_bytes(header(0, 2, b"".join(arrays)))
    with pytest.raises(CheckpointError, match="has 100,000 merges for 512 tokens"):
        load_tokenizer(at(file))


def test_a_gguf_file_cut_anywhere_is_one_line(tmp_path):
    whole = write_gguf(llama(), tmp_path / "whole.gguf").read_bytes()
    file = tmp_path / "cut.gguf"
    for place in range(1, len(whole), len(whole) // 40):
        file.write_bytes(whole[:place])
        with pytest.raises(CheckpointError, match=r"cut.gguf: truncated, damaged or not a GGUF file \("):
            load_tokenizer(at(file))


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copytree(TOY, tmp_path / "model")
    return tmp_path / "model"


def rewritten(folder: Path, header: dict, data: bytes, length: int | None = None) -> None:
    """The weights as a safetensors file with the given header."""
    content = json.dumps(header).encode()
    size = len(content) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + content + data)


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "a header of 2**60 bytes": ({}, b"", 2**60),
    "a header longer than the file": ({}, b"", 5000),
    "an offset beyond the end": ({"a": entry([2], 0, 8000)}, b"\0" * 8, None),
    "offsets that overlap": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12, None),
    "a gap": ({"a": entry([2], 8, 16)}, b"\0" * 16, None),
    "a shape of 2**60": ({"a": entry([2**30, 2**30], 0, 8)}, b"\0" * 8, None),
    "a shape that overflows": ({"a": entry([2**63, 2**63], 0, 8)}, b"\0" * 8, None),
    "an end before its beginning": ({"a": entry([2], 8, 0)}, b"\0" * 8, None),
    "an unknown type": ({"a": entry([2], 0, 8, "X9")}, b"\0" * 8, None),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_that_announces_what_it_does_not_hold(folder, name):
    rewritten(folder, *SAFETENSORS[name])
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "a/b.safetensors", "", 7, None])
def test_an_index_that_names_files_elsewhere(folder, name):
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "model.safetensors.index.json" in refused(folder)


CONFIG = {
    "hidden_size": 10**12,
    "num_hidden_layers": 10**9,
    "vocab_size": 10**12,
    "intermediate_size": 10**15,
    "num_attention_heads": 10**12,
    "max_position_embeddings": 10**18,
}


@pytest.mark.parametrize("key", CONFIG)
def test_a_configuration_beyond_all_models_is_named_by_its_key(folder, key):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: CONFIG[key]}))
    assert f"config.json: {key}={CONFIG[key]} (at most" in refused(folder)


@pytest.mark.parametrize(
    "fields", [{"vocab_size": 40_000_000}, {"intermediate_size": 9_000_000}, {"hidden_size": 640_000}]
)
def test_a_configuration_of_more_parameters_than_the_files_hold(folder, fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    assert str(folder) in refused(folder)


def test_a_configuration_nested_without_end_is_one_line(folder):
    config = (folder / "config.json").read_text().strip()
    (folder / "config.json").write_text(config[:-1] + ', "x": ' + '{"a": ' * 900 + "1" + "}" * 901)
    assert "nested too deeply" in refused(folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert "config.json" in refused(folder)


class Zeros:
    """A terabyte of zeros once it is unpickled."""

    def __reduce__(self):
        return bytearray, (10**12,)


def bin_file(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def zeros(folder: Path) -> None:
    torch.save({"a": Zeros()}, bin_file(folder))


def zeros_of_old(folder: Path) -> None:
    torch.save({"a": Zeros()}, bin_file(folder), _use_new_zipfile_serialization=False)


def stretched(folder: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, bin_file(folder))


def compressed(folder: Path) -> None:
    file = bin_file(folder)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**8)
        archive.writestr("archive/version", "3")


def announced(folder: Path) -> None:
    """One entry whose size in the directory of the archive is 2 GB."""
    stored = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, stored)
    data = stored.getvalue()
    place = data.rindex(b"PK\x01\x02")
    bin_file(folder).write_bytes(data[: place + 24] + struct.pack("<I", 2**31 - 1) + data[place + 28 :])


def storage_of_old(folder: Path) -> None:
    """An older file whose only storage is said to have 2**40 numbers."""
    stored = io.BytesIO()
    torch.save({"a": torch.zeros(77)}, stored, _use_new_zipfile_serialization=False)
    data = stored.getvalue()
    bin_file(folder).write_bytes(data.replace(b"KM", b"\x8a\x06" + (2**40).to_bytes(6, "little"), 1))


def code(folder: Path) -> None:
    bin_file(folder).write_bytes(pickle.dumps(Path("x")))


@pytest.mark.parametrize(
    "damage",
    [zeros, zeros_of_old, stretched, compressed, announced, storage_of_old, code],
    ids=lambda one: one.__name__,
)
def test_pickled_tensors_that_announce_what_they_do_not_hold(folder, damage):
    damage(folder)
    assert "pytorch_model.bin" in refused(folder)


@pytest.mark.parametrize(
    "fields", [{"dim": 10**12}, {"n_layers": 10**9}, {"n_heads": 10**12}, {"n_kv_heads": 10**15}], ids=str
)
def test_params_json_beyond_all_models_is_named_by_its_key(tmp_path, fields):
    params = {"dim": 8, "n_heads": 2, "n_layers": 1, "norm_eps": 1e-5}
    (tmp_path / "params.json").write_text(json.dumps(params | fields))
    torch.save({"norm.weight": torch.zeros(8)}, tmp_path / "consolidated.00.pth")
    (key,) = fields
    with pytest.raises(CheckpointError, match=rf"params.json: {key}=.* \(at most"):
        load_model(at(tmp_path), PLAIN)


def varint(value: int) -> bytes:
    parts = b""
    while value > 127:
        parts, value = parts + bytes([value & 127 | 128]), value >> 7
    return parts + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


UNKNOWN = field(1, field(1, b"<unk>") + field(3, 2))
PIECES = UNKNOWN + field(1, field(1, b"a")) + field(2, field(3, 2))
SENTENCEPIECE = {
    "a length of 2**60": varint(1 << 3 | 2) + varint(2**60) + b"a",
    "a number without end": PIECES + varint(3 << 3) + b"\xff" * 10**6,
    "a piece of a million letters": field(1, field(1, b"ab" * 500_000)) + PIECES,
    "a piece that is a number": field(1, field(1, 5)) + PIECES,
    "a score that is a text": field(1, field(1, b"b") + field(2, b"abcd"))
    + field(1, field(1, b"c") + field(2, b"a")),
    "a piece that is there twice": PIECES + field(1, field(1, b"a")),
    "two pieces for what is unknown": PIECES + field(1, field(1, b"<x>") + field(3, 2)),
    "no piece for what is unknown": field(1, field(1, b"a")) + field(2, field(3, 2)),
    "a score that is not a number": PIECES
    + field(1, field(1, b"b") + varint(2 << 3 | 5) + struct.pack("<f", float("nan"))),
    "a long replacement": PIECES + field(3, field(2, bytes(4) + b"a" * 5000)),
    "replacements that are a number": PIECES + field(3, field(2, 10**12)),
    "replacements that are none": PIECES + field(3, field(2, b"\xff" * 9)),
    "a rule that is a number": PIECES + field(3, field(1, 5)),
    "a normalizer that is a number": PIECES + field(3, 5),
    "nothing": b"",
}


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_sentencepiece_model_that_announces_what_it_does_not_hold(tmp_path, name):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(SENTENCEPIECE[name])
    with pytest.raises(CheckpointError, match="tokenizer.model: ") as caught:
        load_tokenizer(at(TOY, tokenizer=str(file)))
    assert "\n" not in str(caught.value)


def test_a_sentencepiece_model_of_more_pieces_than_rows_is_not_built(tmp_path):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(PIECES + b"".join(field(1, field(1, f"x{i}".encode())) for i in range(1000)))
    with pytest.raises(CheckpointError, match="more than 686 pieces, the rows of the embedding"):
        load_tokenizer(at(TOY, tokenizer=str(file)))


@pytest.mark.parametrize("listed", [{"<x>": 10**12}, {"<x>": -5}, {"<x>": "many"}, {"<x>": None}])
def test_added_tokens_with_numbers_that_none_can_have(tmp_path, listed):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(PIECES)
    (tmp_path / "added_tokens.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="tokenizer.model: "):
        load_tokenizer(at(TOY, tokenizer=str(file)))


TOKENIZER = {
    "a broken regex": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    },
    "a broken regex of a normalizer": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "[a"}, "content": "b"}
    },
    "an unknown kind": {"model": {"type": "Oracle"}},
    "a token of 10**12": {"added_tokens": [{"id": 10**12, "content": "<x>"}]},
    "no model": {"model": None},
}


@pytest.mark.parametrize("name", TOKENIZER)
def test_a_tokenizer_json_that_can_not_be_read_is_one_line(folder, name):
    state = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(state | TOKENIZER[name]))
    with pytest.raises(CheckpointError, match="the tokenizer can't be read: ") as caught:
        load_tokenizer(at(folder))
    assert "\n" not in str(caught.value)


def test_an_added_token_beyond_the_embedding_is_named(folder):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["added_tokens"].append({**state["added_tokens"][0], "id": 4_000_000_000, "content": "<far>"})
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="none for '<far>'"):
        load_tokenizer(at(folder))


BOMBS = {
    "more added tokens than rows": (
        {"added_tokens": [{"id": 686 + i, "content": f"<{i}>"} for i in range(10**4)]},
        "added_tokens: 10,000 tokens, but the model's embedding has 686 rows",
    ),
    "a larger vocabulary than rows": (
        {"model": {"type": "BPE", "merges": [], "vocab": {str(i): i for i in range(10**4)}}},
        "model.vocab: 10,000 tokens",
    ),
    "replacements that grow": (
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 12,
            }
        },
        "normalizer: replaces a character by 1,000,000,000,000",
    ),
    "a long beginning": (
        {"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}},
        "normalizer: replaces a character by",
    ),
    "a long decoding": (
        {"decoder": {"type": "Replace", "pattern": {"Regex": "a?"}, "content": "a" * 10**6}},
        "decoder: replaces a character by 1,000,001",
    ),
    "a long replacement of a compiled map": (
        {
            "normalizer": {
                "type": "Precompiled",
                "precompiled_charsmap": base64.b64encode(bytes(4) + b"a" * 5000).decode(),
            }
        },
        "normalizer: replaces a character by 5,000",
    ),
    "a million tokens around a text": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
                "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1] * 10**6, "tokens": ["<s>"] * 10**6}},
            }
        },
        "post_processor: adds 1,000,000 tokens to a text",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_tokenizer_that_would_fill_the_memory_is_not_read(folder, name):
    changes, said = BOMBS[name]
    state = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(state | changes))
    with pytest.raises(CheckpointError, match="tokenizer.json: ") as caught:
        load_tokenizer(at(folder))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_description_beyond_all_measure_is_not_read(folder, name):
    os.truncate(folder / name, 2**38)
    with pytest.raises(CheckpointError, match=f"{name}: .*274,877,906,944 bytes"):
        load_tokenizer(at(folder))
    file = folder.parent / "tokenizer.model"
    file.touch()
    os.truncate(file, 2**38)
    with pytest.raises(CheckpointError, match="tokenizer.model: 274,877,906,944 bytes"):
        load_tokenizer(at(TOY, tokenizer=str(file)))


def test_a_token_behind_the_embedding_that_every_text_gets_is_named(folder):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["post_processor"]["special_tokens"]["<s>"]["ids"] = [10**6]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="adds token 1000000 to each text"):
        load_tokenizer(at(folder))


def test_a_tokenizer_at_which_the_library_panics_is_one_line_and_no_more(folder, capfd):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="chunk size must be non-zero"):
        load_tokenizer(at(folder))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("template", [7, {"default": 7}, [{"name": "default", "template": [1]}]], ids=str)
def test_a_chat_template_that_is_not_a_text_is_refused(folder, template):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    with pytest.raises(CheckpointError, match="the tokenizer's chat_template is .*a text"):
        load_tokenizer(at(folder))


def test_two_tokens_of_one_number_are_named(folder):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["vocab"]["a"] = state["model"]["vocab"]["b"]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="the tokens '[ab]' and '[ab]' have the same id"):
        load_tokenizer(at(folder))


def test_merges_that_are_left_out_at_random_are_all_applied(folder):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(state))
    text = "which of these numbers is the largest? " * 20
    assert load_tokenizer(at(folder))(text) == load_tokenizer(at(TOY))(text)


ADAPTER = {
    "a rank of 10**12": {"r": 10**12},
    "a rank of a pattern": {"rank_pattern": {"q_proj": 10**12}},
    "a broken regex": {"target_modules": "("},
    "a broken regex of ranks": {"rank_pattern": {"q_proj(": 4}},
    "a broken regex of alphas": {"alpha_pattern": {"[": 4}},
    "a broken regex of what is left out": {"exclude_modules": "*"},
    "a regex without end": {"target_modules": r"(\w*\.*)*\w*q_projx"},
    "10**9 layers": {"layer_replication": [[0, 10**9]]},
    "10**9 layers forth and back": {"layer_replication": [[0, 10**9], [10**9, 0]]},
    "a layer range of three": {"layer_replication": [[0, 1, 2]]},
    "ten thousand targets": {"target_modules": [f"m{i}" for i in range(10**4)]},
    "ranks of ten thousand layers": {"rank_pattern": {f"m{i}": 4 for i in range(10**4)}},
    "alphas of ten thousand layers": {"alpha_pattern": {f"m{i}": 4 for i in range(10**4)}},
    "a regex without end among ranks, behind a layer's name": {"rank_pattern": {"layers(.*)*x": 4}},
    "a regex without end among layers saved whole": {"modules_to_save": ["layers(.*)*x"]},
    "a regex without end among patterns of layers": {
        "layers_to_transform": [0],
        "layers_pattern": "layers(.*)*x",
    },
    "a flag that is a text": {"use_rslora": "no"},
    "a rank that is a text": {"r": "16"},
    "a rank that is true": {"r": True},
    "a rank of a layer that is a text": {"rank_pattern": {"q_proj": "4"}},
    "an alpha that is not a number": {"lora_alpha": float("nan")},
    "an alpha beyond all numbers": {"lora_alpha": 10**400},
    "an alpha of a layer that is infinite": {"alpha_pattern": {"q_proj": float("inf")}},
    "targets that are numbers": {"target_modules": [7]},
    "an unknown kind": {"peft_type": "NOPE"},
    "tokens that switch it on": {"alora_invocation_tokens": [5, 6]},
    "a module to be imported": {"megatron_config": {"hidden_size": 8}, "megatron_core": "antigravity"},
}


@pytest.mark.parametrize("name", ADAPTER)
def test_an_adapter_s_configuration_that_announces_too_much_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr("workbench.patterns.slow_patterns.MAX_CHILD_SECONDS", 2.0)
    config = AdapterConfig(method=AdapterMethod.lora, rank=2, target_modules=["q_proj"])
    attach.save(attach.attach(llama(), config, seed=0), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | ADAPTER[name]))
    with pytest.raises(CheckpointError, match="adapter_config.json: ") as caught:
        attach.load(llama(), tmp_path / "adapter")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_adapter_s_weights_that_are_longer_than_they_say_are_not_read(tmp_path):
    config = AdapterConfig(method=AdapterMethod.lora, rank=2, target_modules=["q_proj"])
    attach.save(attach.attach(llama(), config, seed=0), tmp_path / "adapter")
    os.truncate(tmp_path / "adapter" / "adapter_model.safetensors", 10**7)
    with pytest.raises(CheckpointError, match="adapter_model.safetensors: truncated or damaged"):
        adapter_config.fingerprint(tmp_path / "adapter")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_an_adapter_s_tensors_of_another_kind_of_numbers_are_refused(tmp_path, dtype):
    config = AdapterConfig(method=AdapterMethod.lora, rank=2, target_modules=["q_proj"])
    attach.save(attach.attach(llama(), config, seed=0), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(CheckpointError, match="lora_A.weight has the dtype .*only floating point numbers"):
        attach.load(llama(), tmp_path / "adapter")


def test_a_chat_template_beside_an_adapter_that_is_not_text_is_one_line(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="chat_template.jinja: not UTF-8 text"):
        adapter_config.chat_template(tmp_path)


@pytest.mark.parametrize("named", ["x", [[1]], ["</s>"], {"a": 1}])
def test_an_end_of_text_that_is_not_the_number_of_a_token_is_one_line(folder, named):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    with pytest.raises(CheckpointError, match="generation_config.json: can't be read"):
        adapter_config.end_tokens(folder)
    assert str(folder) in refused(folder)


@pytest.mark.parametrize(
    "config",
    [
        VBLoRAConfig(r=4, num_vectors=10**12, vector_length=8, target_modules=["q_proj"]),
        FourierFTConfig(n_frequency=10**12, target_modules=["q_proj"]),
        AdaLoraConfig(init_r=10**9, total_step=10, target_modules=["q_proj"]),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_an_adapter_of_any_kind_is_not_larger_than_its_tensors(tmp_path, config):
    config.save_pretrained(tmp_path)
    save_file({"base_model.model.q_proj.weight": torch.zeros(8, 64)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="is larger than all dimensions of the tensors"):
        attach.load(llama(), tmp_path)


def test_an_adapter_of_a_million_tensors_is_not_read(tmp_path, monkeypatch):
    config = AdapterConfig(method=AdapterMethod.lora, rank=2, target_modules=["q_proj"])
    attach.save(attach.attach(llama(), config, seed=0), tmp_path)
    monkeypatch.setattr(adapter_config, "MAX_TENSORS", 3)
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors: 4 tensors \(at most 3\)"):
        adapter_config.read_weights(tmp_path)
