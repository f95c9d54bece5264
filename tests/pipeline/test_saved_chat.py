"""What was trained is what apply_chat_template renders afterwards; generation ends where answers ended."""

import json
import shutil
from pathlib import Path

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer

from workbench import cli
from workbench.config.data import DataConfig
from workbench.config.model import ModelConfig, Task
from workbench.data.encode import Encoding, encode
from workbench.data.rows import Row
from workbench.evaluation.inference import decoder
from workbench.models.tokenizers.load_tokenizer import load_tokenizer
from workbench.pipeline.predict import predict
from workbench.run_dir import read_json

BASE = Path(cli.PACKAGE) / "toy" / "base"
MARKS = ("<|im_start|>", "<|im_end|>")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "Paris"},
    {"role": "user", "content": "谢谢。"},
    {"role": "assistant", "content": "Welcome."},
]
OWN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_base(folder: Path, template: str | None = None) -> Path:
    """The toy base with ChatML's two tokens, in the place of its last two."""
    shutil.copytree(BASE, folder)
    state = read_json(folder / "tokenizer.json")
    model = state["model"]
    size = max(model["vocab"].values()) + 1
    last = {token for token, number in model["vocab"].items() if number >= size - 2}
    model["merges"] = [
        merge for merge in model["merges"] if "".join(merge) not in last and not last & set(merge)
    ]
    for number, mark in enumerate(MARKS, start=size - 2):
        model["vocab"] = {token: n for token, n in model["vocab"].items() if n != number} | {mark: number}
        added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        state["added_tokens"].append({"id": number, "content": mark, **added})
    # The toy's own way of splitting has no name in llama.cpp.
    split = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    state["pre_tokenizer"] = {"type": "ByteLevel", **split}
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture
def trained(run, tmp_path):
    """Trains two steps on chats, with overrides."""
    file = tmp_path / "caps.jsonl"
    file.write_text("".join(json.dumps({"messages": CHAT}) + "\n" for _ in range(4)))

    def train(base: Path, *overrides: str):
        options = ("train.max_steps=2", "train.warmup_steps=0", "benchmark=[toy_exact_en]")
        few = "benchmarks.toy_exact_en.limit=1"
        return run("sft", f"model.path={base}", f"data.path={file}", *options, few, *overrides)

    return train


def text_trained(base: Path, template: str) -> str:
    """The text of a training row."""
    tokenizer = load_tokenizer(ModelConfig(path=str(base)))
    data = DataConfig(template=template)
    example = encode([Row({"messages": CHAT}, "a:1")], Encoding(tokenizer, data, Task.causal_lm)).dataset[0]
    return str(tokenizer.decode(example["input_ids"]))


def rendered(folder: Path) -> str:
    return AutoTokenizer.from_pretrained(folder).apply_chat_template(CHAT, tokenize=False)


def test_adapter_merged_and_exported_folders_render_what_was_trained_and_end_there(trained, run, tmp_path):
    base = chat_base(tmp_path / "base")
    folder = trained(
        base, "data.template=chatml", "steps=[train,merge,export]", "model.pad_token='<|im_start|>'"
    )
    end = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids("<|im_end|>")
    assert read_json(folder.train_json)["data"]["ends"] == ["<|im_end|>", "</s>"]
    for path in (folder.adapter, folder.merged, folder.export):
        assert rendered(path).rstrip("\n") == text_trained(base, "chatml")
        assert read_json(path / "generation_config.json")["eos_token_id"] == [end, 2]
        assert AutoTokenizer.from_pretrained(path).pad_token == "<|im_start|>"
    file = run("export", f"model.path={folder.merged}", "export.format=gguf", "run_dir=other").export_gguf
    fields = GGUFReader(file).fields
    template = AutoTokenizer.from_pretrained(folder.merged).chat_template
    assert fields["tokenizer.chat_template"].contents() == template
    assert fields["tokenizer.ggml.eot_token_id"].contents() == end


def test_a_whole_model_renders_what_was_trained_and_ends_there(trained, tmp_path):
    base = chat_base(tmp_path / "base")
    folder = trained(base, "data.template=chatml", "adapter=none", "quantization=none", "steps=[train]")
    end = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids("<|im_end|>")
    assert rendered(folder.model).rstrip("\n") == text_trained(base, "chatml")
    assert read_json(folder.model / "generation_config.json")["eos_token_id"] == [end, 2]


def test_answers_of_adapter_and_merged_model_end_at_the_trained_end_and_those_of_the_base_do_not(
    trained, tmp_path, monkeypatch
):
    asked = []
    create = decoder.Decoder.__init__

    def watched(self, lm, *args, **options):
        create(self, lm, *args, **options)
        now = (lm.model.generation_config.eos_token_id, lm.tokenizer.chat_template)
        asked.extend([now] if [now] != asked[-1:] else [])

    monkeypatch.setattr(decoder.Decoder, "__init__", watched)
    base = chat_base(tmp_path / "base")
    options = ("data.template=chatml", "quantization=none", "benchmarks.toy_exact_en.limit=2")
    folder = trained(base, *options, "train.sample_answers=0", "steps=[train,merge,evaluate]")
    end = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids("<|im_end|>")
    template = AutoTokenizer.from_pretrained(folder.merged).chat_template
    assert asked == [(2, None), ([end, 2], template)]
    merged = folder.predictions("merged", "toy_exact_en").read_text()
    assert merged == folder.predictions("adapter", "toy_exact_en").read_text()


def test_a_chat_template_of_its_own_stays_and_its_end_of_turn_is_saved(trained, tmp_path):
    base = chat_base(tmp_path / "base", OWN)
    folder = trained(base, "quantization=none", "steps=[train,merge]")
    end = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids("<|im_end|>")
    for path in (folder.adapter, folder.merged):
        assert AutoTokenizer.from_pretrained(path).chat_template == OWN
        assert read_json(path / "generation_config.json")["eos_token_id"] == [end, 2]


def test_a_foreign_adapter_is_asked_and_trained_further_by_the_template_beside_it(
    trained, run, tmp_path, monkeypatch
):
    base = chat_base(tmp_path / "base")
    folder = trained(base, "data.template=chatml", "quantization=none", "steps=[train]")
    (tmp_path / "ask.jsonl").write_text(json.dumps({"messages": CHAT[:2]}) + "\n")
    prompts = []
    answer_all = predict.answer_all

    def watched(config, model, tokenizer, asked, kept):
        prompts.extend(prompt.text for prompt in asked.values())
        answer_all(config, model, tokenizer, asked, kept)

    monkeypatch.setattr(predict, "answer_all", watched)
    options = (f"model.path={base}", f"adapter.path={folder.adapter}", "predict.input=ask.jsonl")
    run("predict", *options, "predict.max_new_tokens=2", "run_dir=other", "quantization=none")
    system, question = (
        "<|im_start|>system\nBe brief.<|im_end|>",
        "<|im_start|>user\nCapital of France?<|im_end|>",
    )
    assert prompts == [f"{system}\n{question}\n<|im_start|>assistant\n"]
    assert rendered(folder.adapter).rstrip("\n") == text_trained(base, "chatml")
    again = trained(
        base, f"adapter.path={folder.adapter}", "quantization=none", "run_dir=more", "steps=[train]"
    )
    assert rendered(again.adapter) == rendered(folder.adapter)
