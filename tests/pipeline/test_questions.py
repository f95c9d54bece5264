"""What the predict step takes: files without answers, in whatever shape, read as the training rows were."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from workbench import cli
from workbench.cli import composition
from workbench.config import Config, DataConfig, ModelConfig, PredictConfig, Step
from workbench.config.data import DataFormat, SourceConfig
from workbench.config.model import Task
from workbench.errors import ConfigError, DataError
from workbench.pipeline.predict.predict import output_file, renamed_columns
from workbench.pipeline.predict.predict_input import format_for, questions
from workbench.pipeline.predict.predict_preview import rendered, show
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, write_json
from workbench.run_record import RunRecord

CHINESE = {"text": "评论", "label": "类别"}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The texts or messages that the model is asked for a file of this name and content."""
    monkeypatch.chdir(tmp_path)

    def ask(name, content, *, classifier=True, is_chat=None, data=None, **predict):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        task = Task.sequence_classification if classifier else Task.causal_lm
        if is_chat is not None:
            write_json(tmp_path / "run" / "train.json", {"schema_version": 1, "is_chat": is_chat})
        config = Config(
            model=ModelConfig(path=str(cli.PACKAGE / "toy" / "base"), task=task),
            data=data or DataConfig(),
            predict=PredictConfig(input=name, **predict),
        )
        found = questions(Run(config, RunDir(Path("run"))))
        values = [question.row.values for question in found]
        return [value.get("text" if classifier else "prompt", value) for value in values]

    return ask


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.csv", "评论\n好看\n难吃\n"),
        ("new.csv", "\ufeff评论;编号\r\n好看;1\r\n难吃;2\r\n".encode()),
        ("new.csv", "类别,评论\n体育,好看\n财经,难吃\n"),
        ("new.tsv", "评论\t编号\n好看\t1\n难吃\t2\n"),
        ("new.csv", "内容\n好看\n难吃\n"),
        ("new.csv", "text,编号\n好看,1\n难吃,2\n"),
        ("new.txt", "好看\n\n难吃\n"),
        ("new.jsonl", '"好看"\n"难吃"\n'),
        ("new.json", '["好看", "难吃"]'),
        ("new.jsonl", '{"prompt": "好看"}\n{"prompt": "难吃"}\n'),
        ("new.jsonl", '{"评论": "好看"}\n{"评论": "难吃"}\n'),
    ],
)
def test_a_classifier_reads_texts_in_any_shape_with_or_without_the_column_of_classes(asked, name, content):
    assert asked(name, content, data=DataConfig(columns=CHINESE)) == ["好看", "难吃"]


def test_columns_are_those_of_the_source_that_fits_or_the_ones_that_are_named(asked):
    sources = {
        "a": SourceConfig(path="x", columns={"text": "标题"}),
        "b": SourceConfig(path="y", columns=CHINESE),
    }
    file = "评论,编号\n好看,1\n"
    assert asked("new.csv", file, data=DataConfig(sources=sources)) == ["好看"]
    assert asked("new.csv", file, data=DataConfig(columns=CHINESE), columns={"text": "编号"}) == ["1"]


def test_a_column_that_can_not_be_told_is_asked_for_by_a_key_that_predict_takes(asked):
    complaint = (
        r"^new.csv: no column '评论', which the training used \(has: 甲, 乙; name yours with "
        "predict.columns.text="
    )
    with pytest.raises(DataError, match=complaint):
        asked("new.csv", "甲,乙\n1,2\n", data=DataConfig(columns=CHINESE))
    with pytest.raises(DataError, match=r"no column of text .*predict.columns.text"):
        asked("new.csv", "甲,乙\n1,2\n")
    with pytest.raises(DataError, match="predict.input: no such file or folder, 'gone.csv'"):
        questions(Run(Config(predict=PredictConfig(input="gone.csv")), RunDir(Path("run"))))


def test_a_limit_takes_the_first_rows(asked):
    assert asked("new.txt", "a\nb\nc\n", limit=2) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"predict.limit: 0"):
        PredictConfig(limit=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "你好\n再见\n"),
        ("p.jsonl", '"你好"\n"再见"\n'),
        ("p.jsonl", '{"prompt": "你好"}\n{"prompt": "再见"}\n'),
    ],
)
def test_each_line_is_a_prompt_and_after_training_on_chats_a_turn_of_the_user(asked, name, content):
    assert asked(name, content, classifier=False, is_chat=False) == ["你好", "再见"]
    turns = asked(name, content, classifier=False, is_chat=True)
    assert turns == [{"messages": [{"role": "user", "content": text}]} for text in ("你好", "再见")]


def test_rows_that_are_chats_already_are_left_as_they_are(asked):
    row = {"messages": [{"role": "user", "content": "你好"}]}
    assert asked("p.jsonl", json.dumps(row), classifier=False, is_chat=True) == [row]
    row = {"instruction": "翻译", "input": "你好"}
    assert asked("p.jsonl", json.dumps(row), classifier=False, is_chat=True) == [row]


def test_a_format_that_the_rows_do_not_have_is_not_forced_on_them(asked):
    from workbench.data.rows import Row

    data = DataConfig(format=DataFormat["alpaca"])
    assert format_for([Row({"prompt": "x"}, "a:1")], data) is DataFormat["auto"]
    assert format_for([Row({"instruction": "x"}, "a:1")], data) is DataFormat["alpaca"]


def test_answers_take_the_place_of_no_column_of_the_file():
    assert renamed_columns({"text": "x"}, {"label": "a"}) == {"label": "a"}
    assert renamed_columns({"label": "b"}, {"label": "a", "probabilities": {}}) == {
        "predicted_label": "a",
        "predicted_probabilities": {},
    }


def test_inputs_of_one_name_and_several_kinds_have_outputs_of_their_own():
    names = {
        output_file(Config(predict=PredictConfig(input=f"new.{kind}")), RunDir(Path("run")), "base")
        for kind in ("csv", "txt", "jsonl")
    }
    assert len(names) == 3


def test_the_first_answers_are_shown_with_classes_counts_and_the_file_of_the_rest():
    from rich.console import Console

    console = Console(width=100, record=True)
    answers = [
        {"asked": f"第{n}条\x1b[2J", "label": "体育", "probabilities": {"体育": 0.875}} for n in range(7)
    ]
    console.print(rendered(answers, Path("out.jsonl")))
    text = console.export_text()
    assert "第4条" in text and "第5条" not in text and "体育 87.5%" in text and "\x1b" not in text
    assert "体育 7" in text and "2 more in out.jsonl" in text


def test_a_row_with_tags_of_rich_is_shown_as_it_is(capsys):
    show([{"asked": "[INST] [b] :smile: [/INST]", "answer": "[/b]"}], Path("out.jsonl"))
    assert capsys.readouterr().out.split() == ["[INST]", "[b]", ":smile:", "[/INST]", "[/b]"]


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """The configuration that a command takes on, in the folder of a run that was trained before."""
    cli.register()
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)

    def take_on(recipe, *overrides):
        hydra = OmegaConf.create(
            {"runtime": {"choices": {"recipe": recipe}}, "overrides": {"task": list(overrides), "hydra": []}}
        )
        monkeypatch.setattr(composition.HydraConfig, "get", lambda: hydra)
        config, run_dir, text = composition.typed(compose("config", [f"recipe={recipe}", *overrides]))
        run_dir.path.mkdir(parents=True, exist_ok=True)
        if not run_dir.config_yaml.exists():
            run_dir.config_yaml.write_text(text)
        return config

    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        yield take_on


def test_a_key_of_training_rows_is_answered_with_the_one_that_predict_takes(typed):
    typed("sft", "model.path=tiny", "data.path=x.csv", "run_dir=run", "data.limit=50")
    for given, meant in (
        ("data.limit=3", r"data.limit: is about training rows, .* predicts \(use predict.limit="),
        ("data.path=new.csv", r"\(use predict.input="),
        ("data.columns.text=a", r"\(use predict.columns.text="),
    ):
        with pytest.raises(ConfigError, match=meant):
            typed("predict", "run_dir=run", given)
    assert typed("predict", "run_dir=run", "predict.input=new.csv", "predict.columns.text=a").data.limit == 50


def test_a_value_that_the_run_was_not_made_with_is_named_and_one_that_it_was_goes_on(typed):
    typed("sft", "model.path=tiny", "data.path=x.csv", "run_dir=run", "quantization=nf4")
    with pytest.raises(ConfigError, match="quantization.method='nf4', not 'none'"):
        typed("merge", "run_dir=run", "quantization=none")
    assert typed("evaluate", "run_dir=run", "quantization=nf4").model.path == "tiny"


@pytest.mark.parametrize("damage", ["truncated", "emptied", "edited", "missing", "a list"])
def test_a_train_json_that_is_not_as_the_training_left_it_decides_nothing(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.jsonl").write_text('{"prompt": "2 + 2"}\n', encoding="utf-8")
    run_dir = RunDir(Path("run"))
    write_json(run_dir.train_json, {"schema_version": 1, "is_chat": True})
    whole = run_dir.train_json.read_text()
    record = RunRecord(run_dir.run_json)
    record.finish("train", "inputs", run_dir.train_json, {}, files=[run_dir.train_json])
    model = ModelConfig(path=str(cli.PACKAGE / "toy" / "base"))
    config = Config(model=model, predict=PredictConfig(input="new.jsonl"), steps=[Step.predict])
    asked = questions(Run(config, run_dir))[0].row.values
    assert asked == {"messages": [{"role": "user", "content": "2 + 2"}]}
    edited = whole.replace("true", "false")
    contents = {"truncated": whole[:20], "emptied": "", "edited": edited, "a list": "[]", "missing": ""}
    run_dir.train_json.write_text(contents[damage])
    if damage == "missing":
        run_dir.train_json.unlink()
    with pytest.raises(
        DataError, match=r"^run/train.json: was changed since the training wrote it \('steps=\[tr"
    ):
        questions(Run(config, run_dir))
    both = replace(config, steps=[Step.train, Step.predict])
    assert questions(Run(both, run_dir)), "the train step makes it again"
