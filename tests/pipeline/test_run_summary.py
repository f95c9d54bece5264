"""What a run says at its end, and the number that it gives a sweep."""

import logging
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict
from rich.cells import cell_len

from workbench import cli
from workbench.cli.arguments import prepare
from workbench.cli.messages import CleanFormatter
from workbench.config import BenchmarkConfig, Config, Step
from workbench.config.benchmark import OutputType
from workbench.config.model import Architecture, ModelConfig, Task
from workbench.evaluation.records import Prediction, Score, write_predictions, write_results
from workbench.files import write_json
from workbench.pipeline.ending.objective import objective
from workbench.pipeline.ending.summary import pasteable, shell_word, summary
from workbench.run_dir import RunDir

QUIZ = BenchmarkConfig(
    language="zh", output_type=OutputType.generation, path="quiz.csv", question="{{ q }}", target="{{ a }}"
)
TRAINING = {"validation_loss_before": 3.25, "validation_loss": 1.5, "loss_first": 4.0, "loss_last": 1.0}


def left_by_a_run(path: Path, benchmarks: dict[str, str]) -> RunDir:
    """A run's folder with an adapter and, by name and metric, benchmarks that base and adapter answered."""
    run_dir = RunDir(path)
    run_dir.adapter.mkdir(parents=True)
    write_json(run_dir.run_json, {"schema_version": 1, "steps": {}, "train": TRAINING})
    stopped = {"base": {"stopped": 3}, "adapter": {"stopped": 15}}
    write_json(run_dir.train_json, {"answers": {"prompts": 16, "models": stopped}})
    scores = []
    for name, metric in benchmarks.items():
        for model, value in (("base", 0.25), ("adapter", 0.75)):
            right = [float(number < 40 * value) for number in range(40)]
            predictions = [
                Prediction(
                    id=str(number),
                    prompt_hash="a" * 16,
                    context="q",
                    prediction=0,
                    target=0,
                    scores={metric: score},
                )
                for number, score in enumerate(right)
            ]
            write_predictions(run_dir.predictions(model, name), predictions)
            scores.append(
                Score(
                    model=model,
                    benchmark=name,
                    language="zh",
                    metric=metric,
                    value=value,
                    stderr=0.06,
                    interval=[value - 0.1, value + 0.1],
                    num_items=40,
                    num_fewshot=0,
                    protocol="default",
                    prompts="ab" * 32,
                    chance=0.25,
                )
            )
    if scores:
        about = {"run": path.name, "recipe": "sft", "task": "causal_lm", "base_model": "m"}
        models = {name: {"quantization": "none", "dtype": "float32"} for name in ("base", "adapter")}
        write_results(run_dir.results_json, {**about, "models": models}, scores)
    return run_dir


def test_a_run_ends_with_what_was_made_what_changed_and_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = left_by_a_run(Path("runs/sft"), {"数学": "acc"})
    text = summary(Config(steps=[Step.train, Step.evaluate]), run_dir, 80)
    assert "runs/sft/adapter" in text and "validation loss 3.2500 → 1.5000" in text
    assert "数学  accuracy 25.0 → 75.0, better (+50.0, p < 0.001)" in text
    assert "3 → 15 of 16 end by themselves" in text
    assert "  python -m workbench recipe=merge run_dir=runs/sft\n" in text


def test_a_run_with_validation_loss_and_held_out_scores_says_what_each_is(tmp_path):
    steps = Config(steps=[Step.train, Step.evaluate])
    text = summary(steps, left_by_a_run(tmp_path / "r", {"held_out": "acc"}), 80)
    note = "validation loss and held_out are of the same rows"
    assert text.count(note) == 1 and "mean over all their tokens" in " ".join(text.split())
    assert note not in summary(steps, left_by_a_run(tmp_path / "s", {"a": "acc"}), 80)


def test_a_training_prints_the_counts_of_its_rows_once(run, capsys, caplog):
    run("quickstart", "steps=[train]", "train.max_steps=2", "train.sample_answers=0", "data.limit=40")
    lines = (capsys.readouterr().out + caplog.text).splitlines()
    assert [line.split() for line in lines if "examples" in line] == [["40", "examples"]]


def test_a_loss_that_was_logged_once_is_shown_once(tmp_path):
    run_dir = left_by_a_run(tmp_path / "r", {})
    write_json(run_dir.run_json, {"steps": {}, "train": {"loss_first": 2.0085, "loss_last": 2.0085}})
    text = summary(Config(steps=[Step.train]), run_dir, 80)
    assert "training loss 2.0085\n" in text


@pytest.mark.parametrize(
    ("section", "is_suggested"),
    [
        ({}, True),
        ({"model_type": "gemma2"}, False),
        ({"architecture": Architecture.native}, False),
        ({"task": Task.sequence_classification}, False),
    ],
)
def test_only_a_causal_model_of_the_llama_family_is_suggested_for_export(section, is_suggested, tmp_path):
    run_dir = left_by_a_run(tmp_path / "r", {})
    run_dir.merged.mkdir()
    write_json(run_dir.merged / "config.json", {"model_type": section.pop("model_type", "llama")})
    text = summary(Config(steps=[Step.merge], model=ModelConfig(path="m", **section)), run_dir, 200)
    assert ("recipe=export" in text and "export.format=llama" in text) is is_suggested


def test_scores_that_a_table_has_shown_are_counted_only(tmp_path):
    text = summary(
        Config(steps=[Step.train, Step.evaluate, Step.leaderboard]),
        left_by_a_run(tmp_path / "r", {"a": "acc"}),
        80,
    )
    assert "1 benchmark: better in 1" in text and "25.0" not in text


def test_steps_that_end_with_a_line_of_their_own_have_no_block(tmp_path):
    assert summary(Config(steps=[Step.predict]), left_by_a_run(tmp_path / "r", {}), 80) == ""


@pytest.mark.parametrize("name", ["a", "我的 运行", "it's, mine", "a $HOME \\"])
def test_a_next_command_reads_the_folder_of_any_name_back(name, tmp_path):
    lines = pasteable(["python", shell_word("run_dir", tmp_path / name), "predict.input=FILE"], 40)
    words = shlex.split("\n".join(lines).replace("\\\n", ""))
    typed = OverridesParser.create().parse_overrides(prepare(words[1:])[1])
    assert typed[0].value() == str(tmp_path / name) and typed[1].value() == "FILE"


def test_no_line_of_the_block_is_wider_than_the_terminal_and_columns_are_aligned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"一个名字很长的中文选择题测试集": "acc", "short": "acc"}
    text = summary(Config(steps=[Step.evaluate]), left_by_a_run(Path("r"), names), 60)
    assert max(cell_len(line) for line in text.split("\n")) <= 60
    starts = {cell_len(line.partition("accuracy")[0]) for line in text.split("\n") if "accuracy" in line}
    assert len(starts) == 1


def test_names_of_others_in_the_block_move_no_cursor(tmp_path):
    text = summary(Config(steps=[Step.evaluate]), left_by_a_run(tmp_path / "a\x1b[2Jb", {}), 80)
    assert "\x1b" not in text


def test_log_lines_on_a_terminal_are_broken_between_words(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    record = logging.LogRecord("workbench", 20, "", 0, "words " * 20 + "中文" * 30, (), None)
    lines = CleanFormatter("%(message)s").format(record).split("\n")
    assert max(map(cell_len, lines)) <= 40
    assert "".join(lines).replace(" ", "") == record.getMessage().replace(" ", "")


def test_a_sweep_is_given_the_mean_score_and_without_benchmarks_the_validation_loss(tmp_path):
    named = {"a": QUIZ, "b": QUIZ}
    scored = left_by_a_run(tmp_path / "r", {"a": "acc", "b": "acc", "held_out": "answer_loss"})
    assert objective(Config(steps=[Step.train, Step.evaluate], benchmarks=named), scored) == 0.75
    assert objective(Config(steps=[Step.train, Step.evaluate]), scored) == 1.5
    assert objective(Config(steps=[Step.evaluate]), left_by_a_run(tmp_path / "n", {})) == 1.5


def test_accuracy_and_perplexity_have_no_mean(tmp_path):
    named = {"a": QUIZ, "b": QUIZ}
    scored = left_by_a_run(tmp_path / "r", {"a": "acc", "b": "word_perplexity"})
    assert objective(Config(steps=[Step.evaluate], benchmarks=named), scored) == 1.5


def test_the_job_of_a_sweep_returns_its_objective(run):
    words = [
        "recipe=quickstart",
        "benchmark=[]",
        "steps=[train]",
        "train.max_steps=2",
        "data.limit=40",
        "train.warmup_steps=0",
    ]
    words += ["train.warmup_steps=0", "data.limit=40"]
    words += ["data.validation_fraction=0.5", "train.sample_answers=0", "hydra.mode=MULTIRUN"]
    cli.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        config = compose("config", overrides=prepare(words)[1], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        value = cli.job(config)
    assert isinstance(value, float) and 1 < value < 20
