"""Runs with arguments of the chat template: what is trained, scored, predicted and served is one text."""

import json
import re
from pathlib import Path

import pytest
from test_saved_chat import chat_base
from transformers import AutoTokenizer

from workbench.config import ChatConfig, Config, ModelConfig, Step
from workbench.config.data import DataConfig
from workbench.errors import ConfigError
from workbench.evaluation.records import read_predictions, read_results
from workbench.pipeline.chat import session
from workbench.pipeline.predict import predict
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
CHAT = [
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis"},
    {"role": "user", "content": "谢谢。"},
    {"role": "assistant", "content": "Welcome."},
]
QUICK = "data.template_arguments.enable_thinking=false"


@pytest.fixture
def options(tmp_path):
    chat_base(tmp_path / "base", TEMPLATE)
    (tmp_path / "rows.jsonl").write_text((json.dumps({"messages": CHAT}) + "\n") * 4, encoding="utf-8")
    own = ("model.path=base", "data.path=rows.jsonl", "quantization=none", "data.thoughts=strip", QUICK)
    few = ("train.max_steps=2", "train.warmup_steps=0", "train.sample_answers=0", "run_dir=run")
    return (*own, *few, "benchmark=[toy_exact_en]", "benchmarks.toy_exact_en.limit=2")


def test_rows_benchmarks_predictions_and_chats_read_the_same_prompt(run, options, monkeypatch, caplog):
    steps = "steps=[train,merge,evaluate,leaderboard]"
    folder = run("sft", *options, "evaluate.chat_template=true", steps)
    ending = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    said = " ".join(caplog.text.split())
    assert (
        "rendered with enable_thinking=False, which the saved chat template does not have by default" in said
    )
    card = (folder.merged / "README.md").read_text(encoding="utf-8")
    assert "add_generation_prompt=True, **{'enable_thinking': False})" in card

    merged = AutoTokenizer.from_pretrained(folder.merged)
    bare = [*CHAT[:1], {"role": "assistant", "content": "Paris"}, *CHAT[2:]]
    expected = merged.apply_chat_template(
        bare[:3], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert expected.endswith(ending)
    (prediction, *_) = read_predictions(folder.predictions("merged", "toy_exact_en"))
    assert prediction.context.endswith(ending)

    asked, answer_all = [], predict.answer_all

    def watched(config, model, tokenizer, questions, kept):
        asked.extend(prompt.text for prompt in questions.values())
        answer_all(config, model, tokenizer, questions, kept)

    monkeypatch.setattr(predict, "answer_all", watched)
    Path("ask.jsonl").write_text(json.dumps({"messages": CHAT[:3]}) + "\n", encoding="utf-8")
    run("predict", *options, "predict.input=ask.jsonl", "predict.max_new_tokens=1")
    assert asked == [expected]


def test_the_second_turn_of_a_chat_reads_the_first_without_its_thought(tmp_path, monkeypatch):
    chat_base(tmp_path / "base", TEMPLATE)
    monkeypatch.chdir(tmp_path)
    asked, encode = [], session.prompts

    def watched(*arguments):
        asked.extend(encode(*arguments))
        return asked[-1:]

    monkeypatch.setattr(session, "prompts", watched)
    data = DataConfig(template_arguments={"enable_thinking": False})
    chat = ChatConfig(max_new_tokens=1)
    config = Config(model=ModelConfig(path="base"), data=data, chat=chat, steps=[Step.chat])
    talk = session.Session(Run(config, RunDir(tmp_path / "run")))
    talk.add("Capital of France?", {"base": session.Reply(CHAT[1]["content"], "")})
    talk.ask("谢谢。", "base", lambda text: None)
    tokenizer = AutoTokenizer.from_pretrained("base")
    turns = [CHAT[0], {"role": "assistant", "content": "Paris"}, CHAT[2]]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    assert [prompt.text for prompt in asked] == [tokenizer.apply_chat_template(turns, **options)]


def test_sampling_and_budgets_hold_for_the_benchmarks_of_a_list_that_write_texts(run, tmp_path, capsys):
    chat_base(tmp_path / "base", TEMPLATE.replace("{% endif %}{% endif %}", "{% endif %}<think>{% endif %}"))
    own = ("model.path=base", "run_dir=run", "evaluate.chat_template=true", "steps=[evaluate,leaderboard]")
    few = ("benchmarks.toy_exact_en.limit=2", "benchmarks.toy_choice_en.limit=2")
    drawn = ("evaluate.temperature=20.0", "evaluate.thinking_budget=6")
    folder = run("evaluate", *own, *few, *drawn, "benchmark=[toy_choice_en,toy_exact_en]")
    scores = {score.benchmark: score for score in read_results(folder.results_json)[1]}
    assert scores["toy_choice_en"].texts == {}
    assert scores["toy_exact_en"].texts["texts"] == scores["toy_exact_en"].texts["thought_cut"] == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "100.0% with their thought cut at its budget" in shown
    for key, value in (setting.removeprefix("evaluate.").split("=") for setting in drawn):
        with pytest.raises(
            ConfigError, match=rf"^evaluate\.{key}: {re.escape(value)} has no effect, because no benchmark"
        ):
            run("evaluate", *own, few[1], f"evaluate.{key}={value}", "benchmark=[toy_choice_en]")
