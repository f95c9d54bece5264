"""What the model's tokenizer and context can't do with the prompts is found without the model."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_llama import make_tokenizer

import workbench
from workbench.config import Config, Step
from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.data import DataConfig, SourceConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import ModelConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.model_checks import check_prompting
from workbench.evaluation.prepare_benchmarks import prepare
from workbench.pipeline.checking.questions import check_prompts
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir

REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)


def benchmark(tmp_path, description: str = ""):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"q": "a", "label": 0}))
    config = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "rows.jsonl"),
        output_type=OutputType.multiple_choice,
        description=description,
        question="{{ q }}",
        choices=["yes", "no"],
        target_index="label",
    )
    return {"own": prepare("own", config, EvaluateConfig())}


def test_a_missing_chat_template_and_one_without_a_system_role_are_told(tmp_path):
    tokenizer, chat = make_tokenizer(), EvaluateConfig(chat_template=True)
    with pytest.raises(
        ConfigError, match=r"^evaluate.chat_template: the model's tokenizer has no chat template"
    ):
        check_prompting(512, tokenizer, benchmark(tmp_path), chat)
    tokenizer.chat_template = REFUSES_SYSTEM
    check_prompting(512, tokenizer, benchmark(tmp_path), chat)
    with pytest.raises(DataError, match=r"^benchmarks.own: item 0: .*no system role"):
        check_prompting(512, tokenizer, benchmark(tmp_path, "Answer."), chat)


def test_an_argument_that_the_chat_template_lacks_is_told(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ enable_thinking }}"
    for name, refused in (("enable_thinking", False), ("thinking", True)):
        chat = EvaluateConfig(chat_template=True, template_arguments={name: False})
        with (
            pytest.raises(ConfigError, match="thinking: .*it takes enable_thinking")
            if refused
            else nullcontext()
        ):
            check_prompting(512, tokenizer, benchmark(tmp_path), chat)


def test_arguments_without_a_chat_template_are_refused():
    with pytest.raises(ConfigError, match=r"evaluate\.template_arguments: thinking has no effect without"):
        Config(evaluate=EvaluateConfig(template_arguments={"thinking": False}))


def test_the_arguments_of_the_data_hold_for_the_prompts_unless_sources_differ():
    quick = {"enable_thinking": False}
    evaluate = EvaluateConfig(chat_template=True)
    assert (
        Config(data=DataConfig(template_arguments=quick), evaluate=evaluate).evaluate.template_arguments
        == quick
    )
    assert Config(data=DataConfig(template_arguments=quick)).evaluate.template_arguments == {}
    sources = {"chats": SourceConfig(path="a.jsonl", template_arguments=quick)}
    with pytest.raises(
        ConfigError, match=r"data\.sources\.chats has .*evaluate\.template_arguments\.enable_thi"
    ):
        Config(data=DataConfig(sources=sources), evaluate=evaluate)


def base(**changes) -> Config:
    folder = Path(workbench.__file__).parent / "toy" / "base"
    return Config(model=ModelConfig(path=str(folder)), steps=[Step.evaluate], **changes)


def test_a_longer_prompt_than_the_model_holds_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.models.loading.load_model", None)
    with pytest.raises(
        ConfigError, match=r"^evaluate.max_length: 100000 tokens are more than the model's context"
    ):
        check_prompts({}, Run(base(evaluate=EvaluateConfig(max_length=100_000)), RunDir(tmp_path)))
    check_prompts({}, Run(base(evaluate=EvaluateConfig(max_length=16)), RunDir(tmp_path)))
