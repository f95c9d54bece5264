"""The recipes for vocabularies: one learned from text, and a model extended and tuned with it."""

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.models import OpenLlamaForCausalLM
from workbench.run_dir import read_json

TEXTS = [
    {"title": "天气", "text": "今天天气很好，我们去公园散步。"},
    {"title": "科技", "text": "人工智能正在改变我们的生活。"},
] * 20
QUESTIONS = [{"instruction": "天气怎么样？", "output": "今天天气很好。"}] * 8


def rows(path, values):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in values), encoding="utf-8")
    return f"data.path={path}"


def said(caplog):
    return "\n".join(record.getMessage() for record in caplog.records)


def test_a_tokenizer_is_learned_from_every_column_and_not_twice(run, caplog, tmp_path):
    given = rows(tmp_path / "texts.jsonl", TEXTS)
    folder = run("tokenizer", given, "tokenizer.vocab_size=320")
    assert "characters per token" in said(caplog)
    tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer)
    ids = tokenizer("科技").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "科技"
    assert not any(token.startswith("<0x") for token in tokenizer.convert_ids_to_tokens(ids))
    run("tokenizer", given, "tokenizer.vocab_size=320")
    assert "tokenizer: already done" in said(caplog)
    run("tokenizer", given, "tokenizer.vocab_size=310")
    assert len(AutoTokenizer.from_pretrained(folder.tokenizer)) == 310


def test_a_changed_file_of_a_source_makes_the_tokenizer_anew(run, tmp_path):
    file = tmp_path / "texts.jsonl"
    rows(file, TEXTS)
    given = [f"data.sources={{news: {{path: {file}}}}}", "tokenizer.vocab_size=320"]
    folder = run("tokenizer", *given)
    assert "海" not in AutoTokenizer.from_pretrained(folder.tokenizer).get_vocab()
    rows(file, [{"text": "海上的风很大，海水很冷，海边没有人。"}] * 20)
    run("tokenizer", *given)
    assert any("海" in token for token in AutoTokenizer.from_pretrained(folder.tokenizer).get_vocab())


def test_a_model_is_extended_tuned_merged_and_exported(run, caplog, tmp_path):
    base = run(
        "extend",
        rows(tmp_path / "texts.jsonl", TEXTS),
        "model.path=${toy:base}",
        "tokenizer.num_new_tokens=30",
    )
    assert "30 tokens added to 686" in said(caplog)
    tuned = run(
        "sft",
        rows(tmp_path / "questions.jsonl", QUESTIONS),
        f"model.path={base.extended}",
        "quantization=nf4",
        "train.max_steps=3",
        "train.learning_rate=0.01",
        "steps=[train,merge,export]",
    )
    held = {
        name: OpenLlamaForCausalLM.from_pretrained(path)
        for name, path in (("base", base.extended), ("merged", tuned.merged))
    }
    before, after = (model.model.embed_tokens.weight for model in held.values())
    assert torch.equal(before[:686], after[:686])
    assert not torch.equal(before[686:], after[686:])
    assert (
        read_json(tuned.merge_report)["merged"]["largest"] < read_json(tuned.merge_report)["merged"]["bound"]
    )
    ids = torch.tensor([AutoTokenizer.from_pretrained(tuned.path / "export")("今天天气").input_ids])
    assert ids.max() >= 686
    llama = LlamaForCausalLM.from_pretrained(tuned.path / "export")
    with torch.no_grad():
        torch.testing.assert_close(llama(ids).logits, held["merged"](ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["tokenizer"], ConfigError, "data.path: not given"),
        (["tokenizer", "data.path=nowhere.jsonl"], DataError, "nowhere"),
        (["extend", "data.path=nowhere.jsonl"], ConfigError, "model.path"),
        (["tokenizer", "tokenizer.vocab_size=3"], ConfigError, "tokenizer.vocab_size"),
        (
            ["extend", "model.path=${toy:base}", "tokenizer.pieces=no/where/at/all"],
            CheckpointError,
            "^tokenizer.p",
        ),
    ],
)
def test_what_can_not_work_is_said_first(run, tmp_path, overrides, error, words):
    with pytest.raises(error, match=words):
        run(*overrides)
    assert not (tmp_path / "runs").exists()
