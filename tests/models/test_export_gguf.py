"""Exported GGUF files: what transformers and this project read back from them."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from gguf import GGUFReader
from test_export import change, open_llama
from tiny_checkpoints import PLAIN, ROPES, at, llama, logits, words_tokenizer, write_gguf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GgufConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from workbench.config.model import Dtype, Task
from workbench.config.publishing.export import ExportConfig, ExportFormat, GgufType
from workbench.errors import CheckpointError, ConfigError
from workbench.models.export import export
from workbench.models.gguf.tokenizer_metadata import SPLITS
from workbench.models.loading import load_model, load_tokenizer

TEXTS = ["the thin theory of 2024!", "  two  spaces, then the 好的 end", "thethe\n\nthe", "\n\n1\n\n2\n\n3"]
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
UNSPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gguf(kind="f32"):
    return ExportConfig(format=ExportFormat["gguf"], gguf_type=GgufType[kind])


def special(tokenizer):
    names = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def byte_level(split=BYTE_LEVEL):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    return special(tokenizer)


def sentencepiece_like():
    """Byte-pair encoding with byte fallback, as LLaMA's."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{code:02X}>" for code in range(256))]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("i", "n"), ("th", "in"), ("▁", "t"), ("▁", "▁")]
    letters = "▁abcdefghilmnoprstvwxy024!,"
    pieces += [first + second for first, second in merges] + list(letters)
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    fallback = dict(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(pieces[:3])
    return special(tokenizer)


def read_back(file, kind=torch.float32):
    """The file as transformers reads it."""
    options = dict(dtype=kind, quantization_config=GgufConfig(dequantize=True))
    return LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **options)


def write(folder, tokenizer, **fields):
    model = open_llama(folder, **({"vocab_size": len(tokenizer)} | fields))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 2}, {"stable": False}], ids=str)
def test_a_gguf_file_computes_what_the_open_llama_did(tmp_path, fields):
    model = write(tmp_path / "in", byte_level(), **fields)
    report = export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert report.num_bytes < (tmp_path / "out.gguf").stat().st_size < report.num_bytes + 20_000
    torch.testing.assert_close(logits(read_back(tmp_path / "out.gguf")), logits(model), rtol=0, atol=1e-5)
    ours = load_model(at(tmp_path / "out.gguf", dtype=Dtype.float32), PLAIN)
    torch.testing.assert_close(logits(ours), logits(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "bound"),
    dict(f16=0.001, bf16=0.01, q8_0=0.02, q5_1=0.2, q5_0=0.2, q4_1=0.4, q4_0=0.4).items(),
)
def test_every_number_type_is_read_back_as_close_as_its_bits_allow(tmp_path, kind, bound):
    model = write(tmp_path / "in", byte_level())
    export(at(tmp_path / "in"), gguf(kind), tmp_path / "out.gguf")
    found, expected = logits(read_back(tmp_path / "out.gguf")), logits(model)
    error = (found - expected).norm() / expected.norm()
    assert bound / 50 < error < bound
    written = GGUFReader(tmp_path / "out.gguf").tensors
    kinds = {tensor.name: tensor.tensor_type.name.lower() for tensor in written}
    assert kinds["blk.0.ffn_up.weight"] == kind
    assert kinds["token_embd.weight"] == ("q8_0" if "q" in kind else kind)
    assert kinds["output_norm.weight"] == "f32"


SHORT_LLAMA3 = {"low_freq_factor": 1.1, "high_freq_factor": 5.0, "original_max_position_embeddings": 60}


@pytest.mark.parametrize(
    "rope",
    [*(ROPES[name] for name in ("default", "linear", "yarn", "llama3")), ROPES["llama3"] | SHORT_LLAMA3],
    ids=["default", "linear", "yarn", "llama3", "another llama3"],
)
def test_rotary_embeddings_survive(tmp_path, rope):
    model = write(tmp_path / "in", byte_level(), rope_parameters=rope)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    ours = load_model(at(tmp_path / "out.gguf", dtype=Dtype.float32), PLAIN)
    assert {name: ours.config.rope_parameters[name] for name in rope} == rope
    ids = torch.arange(3, 27)[None]
    torch.testing.assert_close(logits(ours, ids), logits(model, ids), rtol=0, atol=1e-4)


def test_an_attention_factor_of_yarn_survives(tmp_path):
    rope = ROPES["yarn"] | {"attention_factor": 1.3, "beta_fast": 16.0}
    model = write(tmp_path / "in", byte_level(), rope_parameters=rope)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    ours = load_model(at(tmp_path / "out.gguf", dtype=Dtype.float32), PLAIN)
    ids = torch.arange(3, 27)[None]
    torch.testing.assert_close(logits(ours, ids), logits(model, ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
def test_the_tokenizer_survives(tmp_path, make):
    tokenizer = make()
    write(tmp_path / "in", tokenizer)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    again = load_tokenizer(at(tmp_path / "out.gguf"))
    assert len(again) == len(tokenizer)
    assert (again.bos_token_id, again.eos_token_id) == (1, 2)
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text), skip_special_tokens=True) == tokenizer.decode(
            tokenizer.encode(text), skip_special_tokens=True
        )


@pytest.mark.parametrize(
    ("split", "name"),
    [
        (BYTE_LEVEL, "gpt-2"),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(True), BYTE_LEVEL]), "smollm"),
        *(
            (pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), UNSPLIT]), name)
            for pattern, name in SPLITS.items()
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ways_of_splitting_text_get_the_names_of_llama_cpp(tmp_path, split, name):
    tokenizer = byte_level(split)
    write(tmp_path / "in", tokenizer)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert GGUFReader(tmp_path / "out.gguf").fields["tokenizer.ggml.pre"].contents() == name
    again = load_tokenizer(at(tmp_path / "out.gguf"))
    for text in (*TEXTS, "the\n\n2024.  12 THE'S thin,\n the"):
        assert again.tokenize(text) == tokenizer.tokenize(text)


def test_a_way_of_splitting_text_that_is_not_known_is_said(tmp_path, caplog):
    write_gguf(llama(), tmp_path / "model.gguf")
    load_tokenizer(at(tmp_path / "model.gguf"))
    said = "model.gguf: tokenizer.ggml.pre='default' is not known, text is split as GPT-2 splits it"
    assert said in caplog.text


def test_rows_without_a_token_are_filled_up(tmp_path):
    write(tmp_path / "in", byte_level(), vocab_size=320)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    fields = GGUFReader(tmp_path / "out.gguf").fields
    assert len(fields["tokenizer.ggml.tokens"].data) == 320
    assert fields["tokenizer.ggml.tokens"].contents()[319] == "[PAD319]"
    assert len(load_tokenizer(at(tmp_path / "out.gguf"))) == 320


def test_a_chat_template_survives(tmp_path):
    tokenizer = byte_level()
    tokenizer.chat_template = "{{ messages[0].content }}"
    write(tmp_path / "in", tokenizer)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert load_tokenizer(at(tmp_path / "out.gguf")).chat_template == tokenizer.chat_template


def test_a_gguf_file_is_written_again_without_another_rounding(tmp_path):
    write(tmp_path / "in", byte_level())
    export(at(tmp_path / "in"), gguf("q8_0"), tmp_path / "one.gguf")
    export(at(tmp_path / "one.gguf"), gguf("f32"), tmp_path / "two.gguf")
    files = [tmp_path / name for name in ("one.gguf", "two.gguf")]
    one, two = (logits(load_model(at(file, dtype=Dtype.float32), PLAIN)) for file in files)
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("fields", "tokenizer", "said"),
    [
        ({"rope_parameters": ROPES["dynamic"]}, byte_level, "the rope type 'dynamic'"),
        ({"rope_parameters": ROPES["longrope"]}, byte_level, "the rope type 'longrope'"),
        ({"rope_parameters": ROPES["yarn"] | {"mscale": 0.7}}, byte_level, "yarn's mscale=0.7"),
        ({"hidden_act": "gelu"}, byte_level, "hidden_act='gelu'"),
        ({}, words_tokenizer, "no WordLevel tokenizers"),
        ({}, lambda: byte_level(pre_tokenizers.Sequence([UNSPLIT])), "the pre-tokenizer ByteLevel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_gguf_cannot_express_is_refused_and_leaves_nothing(tmp_path, fields, tokenizer, said):
    write(tmp_path / "in", tokenizer(), **fields)
    with pytest.raises(CheckpointError, match=said):
        export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [("f32", torch.nan, "has NaN or infinite values"), ("f16", 7e4, "has values beyond f16's 65504")],
)
def test_weights_that_are_no_numbers_or_too_large_are_refused(tmp_path, kind, value, said):
    write(tmp_path / "in", byte_level())
    change(tmp_path / "in", "model.layers.1.mlp.up_proj.weight", value)
    with pytest.raises(CheckpointError, match=said):
        export(at(tmp_path / "in"), gguf(kind), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_window_that_llama_cpp_lacks_is_said_of_a_file_that_is_written(tmp_path, caplog, is_refused):
    tokenizer = words_tokenizer() if is_refused else byte_level()
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1}
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48}
    MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=8)).save_pretrained(tmp_path / "in")
    tokenizer.save_pretrained(tmp_path / "in")
    with pytest.raises(CheckpointError, match="no WordLevel") if is_refused else nullcontext():
        export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert ("has no sliding window" in caplog.text) is not is_refused


def test_a_normalizer_that_llama_cpp_will_not_apply_is_said(tmp_path, caplog):
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    write(tmp_path / "in", tokenizer)
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    assert "llama.cpp will not apply the tokenizer's NFKC" in caplog.text


def test_names_and_tasks_that_no_gguf_file_has_are_refused(tmp_path):
    write(tmp_path / "in", byte_level())
    with pytest.raises(ConfigError, match="is not a file name ending in .gguf"):
        export(at(tmp_path / "in"), gguf(), tmp_path / "out")
    with pytest.raises(ConfigError, match="gguf doesn't support classifiers"):
        export(at(tmp_path / "in", task=Task.sequence_classification), gguf(), tmp_path / "out.gguf")
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    with pytest.raises(ConfigError, match="is the model itself"):
        export(at(tmp_path / "out.gguf"), gguf(), tmp_path / "out.gguf")


def compare_with_llama_cpp(model, tokenizer, file, lora=None):
    """Compare the next tokens' log-probabilities after texts and tokens with llama.cpp's."""
    llama_cpp = pytest.importorskip("xllamacpp")
    params = llama_cpp.CommonParams()
    params.model.path, params.warmup = str(file), False
    params.n_ctx, params.n_parallel = 128, 1
    params.cache_type_k = params.cache_type_v = llama_cpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if lora is not None:
        params.lora_adapters = [llama_cpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    server, compared = llama_cpp.Server(params), 0
    torch.manual_seed(1)
    prompts = TEXTS + [torch.randint(3, len(tokenizer), (length,)).tolist() for length in range(1, 60, 6)]
    for prompt in prompts:
        ids = prompt if isinstance(prompt, list) else tokenizer.encode(prompt)
        asked = {"prompt": prompt, "n_predict": 1, "temperature": 0.0, "n_probs": 20, "cache_prompt": False}
        answer = server.handle_completions(asked)
        assert answer["usage"]["prompt_tokens"] == len(ids)
        expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        steps = (answer["choices"][0].get("logprobs") or {}).get("content") or [{}]
        for top in steps[0].get("top_logprobs", ()):  # empty while a character is incomplete
            assert abs(top["logprob"] - expected[top["id"]].item()) < 1e-4
            compared += 1
    assert compared > 100


@pytest.mark.peer
@pytest.mark.parametrize("rope", ["default", "linear", "yarn", "llama3"])
def test_llama_cpp_computes_what_the_open_llama_did(tmp_path, rope):
    """`pip install xllamacpp` (llama.cpp b11549): log-probabilities agreed to 1.5e-6 in float32."""
    tokenizer = byte_level()
    model = write(tmp_path / "in", tokenizer, rope_parameters=ROPES[rope])
    export(at(tmp_path / "in"), gguf(), tmp_path / "out.gguf")
    compare_with_llama_cpp(model, tokenizer, tmp_path / "out.gguf")


@pytest.mark.parametrize("content", [b"my thesis", b"GGUF\x03\x00\x00\x00" + bytes(16), b""])
def test_a_file_that_is_no_export_is_not_replaced(tmp_path, content):
    open_llama(tmp_path / "model")
    section = at(tmp_path / "model")
    file = tmp_path / "mine.gguf"
    file.write_bytes(content)
    named = replace(gguf(), path=str(file))
    with pytest.raises(ConfigError, match="export.path: '.*mine.gguf' is not an earlier export"):
        export(section, named, file)
    assert file.read_bytes() == content
    file.unlink()
    (tmp_path / "target").write_bytes(content)
    file.symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError, match="is not an earlier export"):
        export(section, named, file)
    assert (tmp_path / "target").read_bytes() == content


def test_an_earlier_export_is_replaced(tmp_path):
    tokenizer = byte_level()
    open_llama(tmp_path / "model", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "model")
    section = at(tmp_path / "model")
    file = tmp_path / "mine.gguf"
    named = replace(gguf(), path=str(file))
    export(section, named, file)
    size = file.stat().st_size
    export(section, replace(named, gguf_type=GgufType.q8_0), file)
    assert 0 < file.stat().st_size < size
