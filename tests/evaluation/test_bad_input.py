"""A user's mistakes in benchmarks, through the command line: one line each that names the place."""

import json
import logging
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file

from workbench import cli
from workbench.evaluation.records import read_predictions, read_results
from workbench.run_dir import RunDir

TOY = Path(cli.PACKAGE) / "toy"
HEADER = ",Question,A,B,C,D,Answer"
GOOD = [f"{n},第{n}题？,甲{n},乙,丙,丁,{letter}" for n, letter in enumerate("ABCDA")]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`python -m workbench recipe=evaluate ...` in a folder of its own, in this process: its last words."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, model: Path = TOY / "base") -> str:
        words = ["workbench", *arguments, "recipe=evaluate", f"model.path={model}", "run_dir=run"]
        monkeypatch.setattr(sys, "argv", words)
        for name in ("HYDRA_FULL_ERROR", cli.TRACEBACK):
            monkeypatch.setenv(name, "0")
        GlobalHydra.instance().clear()
        logging.getLogger("workbench").handlers.clear()
        try:
            cli.main()
        except SystemExit as end:
            said = str(end.code)
            assert "\n" not in said and said.startswith("error: "), said
            return said
        return capsys.readouterr().out

    log = logging.getLogger("workbench")
    before = (log.handlers[:], log.level, log.propagate)
    yield command
    log.handlers[:], log.level, log.propagate = before


def cmmlu(folder: Path, test: list[str], dev: list[str], header: str = HEADER) -> tuple[str, ...]:
    """A folder with one subject of CMMLU, and the overrides that score it."""
    for split, rows in (("test", test), ("dev", dev)):
        file = folder / "cmmlu" / split / "agronomy.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return (
        "benchmark=[cmmlu]",
        "benchmarks.cmmlu.path=cmmlu",
        "benchmarks.cmmlu.only=[agronomy]",
    )


def own(folder: Path, rows: list[dict], **settings) -> tuple[str, ...]:
    """A benchmark of one's own in one YAML file, and the overrides that score it."""
    (folder / "own.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    about = {
        "path": "own.jsonl",
        "language": "en",
        "output_type": "multiple_choice",
        "question": "{{ question }}",
        "choices_from": "choices",
        "target": "{{ answer }}",
    }
    (folder / "conf" / "benchmark").mkdir(parents=True, exist_ok=True)
    text = "# @package benchmarks.own\n" + json.dumps(about | settings, ensure_ascii=False)
    (folder / "conf" / "benchmark" / "own.yaml").write_text(text, encoding="utf-8")
    return ("--config-dir", str(folder / "conf"), "benchmark=[own]")


ROW = {"id": "x", "question": "Which is larger, 3 or 7? Answer:", "choices": ["3", "7"], "answer": "7"}


def test_a_missing_subject_file(command, tmp_path):
    overrides = cmmlu(tmp_path, GOOD, GOOD)
    said = command(*overrides, "benchmarks.cmmlu.only=[agronomy,anatomy]")
    assert said == "error: cmmlu/test/anatomy.csv: no such file"
    said = command(*overrides, "benchmarks.cmmlu.only=[agronomie]")
    assert said.startswith("error: benchmarks.cmmlu.only: no subset 'agronomie' (known: agronomy, anatomy, ")


def test_a_row_with_three_of_four_choices(command, tmp_path):
    said = command(*cmmlu(tmp_path, [*GOOD, "9,问？,甲,乙,丙,C"], GOOD))
    assert said.startswith("error: cmmlu/test/agronomy.csv:7: 6 cells under 7 column names ('', Question, A")
    said = command(*cmmlu(tmp_path, [*GOOD, "9,问？,甲,乙,,丁,C"], GOOD))
    assert said == "error: cmmlu/test/agronomy.csv:7: column 'C', an option of the question, is empty"


def test_duplicate_ids(command, tmp_path):
    said = command(*own(tmp_path, [ROW, ROW | {"question": "?"}], id="{{ id }}"))
    assert said == "error: own.jsonl:2: duplicate id 'x' (first at own.jsonl:1)"


def test_an_answer_outside_the_choices(command, tmp_path):
    said = command(*cmmlu(tmp_path, [*GOOD, "9,问？,甲,乙,丙,丁,E"], GOOD))
    assert said == (
        "error: cmmlu/test/agronomy.csv:7: the answer 'E' is not one of the choices ('A', 'B', 'C', 'D')"
    )
    said = command(*own(tmp_path, [ROW | {"answer": 2}], target="", target_index="answer"))
    assert said == "error: own.jsonl:1: 'answer' gives 2 (a whole number from 0 to 1)"


def test_a_split_without_labels(command, tmp_path):
    (tmp_path / "ceval" / "test").mkdir(parents=True)
    (tmp_path / "ceval" / "test" / "law_test.csv").write_text("id,question,A,B,C,D\n0,问？,甲,乙,丙,丁\n")
    said = command(
        "benchmark=[ceval]",
        "benchmarks.ceval.path=ceval",
        "benchmarks.ceval.split=test",
        "benchmarks.ceval.num_fewshot=0",
        "benchmarks.ceval.only=[law]",
    )
    assert said == (
        "error: ceval/test/law_test.csv:2: no label: the split 'test' has no column 'answer' "
        "(columns: id, question, A, B, C, D)"
    )


def test_zero_items_after_a_filter(command, tmp_path):
    said = command(*own(tmp_path, [ROW], keep="answer == '9'"))
    assert said == "error: benchmarks.own: no items in own.jsonl, split 'test', after keep=\"answer == '9'\""


def test_examples_that_do_not_fit_are_dropped_from_the_left_and_counted(command, tmp_path):
    overrides = cmmlu(tmp_path, GOOD[:3], [row.replace("题", "例") for row in GOOD])
    out = command(*overrides, "evaluate.max_length=150", "steps=[evaluate]")
    assert re.search(
        r"benchmarks.cmmlu: \d+ few-shot examples were dropped from the prompts of 3 of 3 items", out
    )
    run = RunDir(tmp_path / "run")
    [score] = read_results(run.results_json)[1]
    predictions = read_predictions(run.predictions("base", "cmmlu"))
    assert 0 < score.num_shots_dropped == sum(one.num_shots_dropped for one in predictions) < 15
    for one in predictions:
        assert one.context.startswith("以下是关于农学的单项选择题") and f"第{one.id[-1]}题" in one.context
        assert one.context.count("答案是：") == 6 - one.num_shots_dropped
        assert f"第{one.num_shots_dropped}例" in one.context
        assert one.num_shots_dropped == 0 or "第0例" not in one.context


def test_a_question_longer_than_the_context_is_told_before_anything_is_asked(command, tmp_path):
    said = command(*own(tmp_path, [ROW, ROW | {"question": "3 or 7? " * 200}]))
    assert re.fullmatch(
        r"error: benchmarks.own: 1 of 2 items are longer without few-shot examples than the \d+ tokens of "
        r"the context, as item 1 \(a model with a longer context, or evaluate.too_long=truncate-left, "
        r"truncate-middle or skip\)",
        said,
    )
    assert not list((tmp_path / "run").glob("cache/*"))


@pytest.mark.parametrize("kind", ["multiple_choice", "generation"])
def test_logits_that_are_not_numbers(command, tmp_path, kind):
    (tmp_path / "broken").mkdir()
    for file in (TOY / "base").iterdir():
        (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    norm = next(name for name in weights if name.endswith("norm.weight"))
    weights[norm][0] = torch.nan
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    metrics = ["acc"] if kind == "multiple_choice" else ["exact_match"]
    more = {"choices_from": "choices" if kind == "multiple_choice" else "", "metrics": metrics}
    said = command(*own(tmp_path, [ROW], output_type=kind, **more), model=tmp_path / "broken")
    assert said.startswith("error: base: the model's logits are NaN (the weights are damaged")


def test_a_value_that_the_protocol_would_overrule(command, tmp_path):
    overrides = cmmlu(tmp_path, GOOD, GOOD)
    said = command(*overrides, "benchmarks.cmmlu.average=micro")
    assert said == (
        "error: benchmarks.cmmlu.average: protocol 'official' overrides it "
        "(benchmarks.cmmlu.protocols.official.average=... or benchmarks.cmmlu.protocol=default)"
    )
    own_way = "benchmarks.cmmlu.protocols.official.average=micro"
    command(*overrides, own_way, "benchmarks.cmmlu.num_fewshot=1", "steps=[evaluate]")
    [score] = read_results(tmp_path / "run" / "results.json")[1]
    assert (score.average, score.num_fewshot) == ("micro", 1)


def test_one_file_for_many_subsets(command, tmp_path):
    cmmlu(tmp_path, GOOD, GOOD)
    where = ("benchmark=[cmmlu]", "benchmarks.cmmlu.path=cmmlu/test/agronomy.csv")
    said = command(*where, "benchmarks.cmmlu.num_fewshot=0")
    assert said.startswith(
        "error: benchmarks.cmmlu.path: 'cmmlu/test/agronomy.csv' is a single file for 67 subsets"
    )


def test_a_question_with_fewer_options_than_letters(command, tmp_path):
    lettered = {"choices": ["A", "B", "C"], "choices_from": "", "options": ["choices"]}
    said = command(*own(tmp_path, [ROW | {"answer": "B"}], **lettered))
    assert said == "error: own.jsonl:1: 2 options for the 3 letters A, B, C"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["benchmarks.own.limit=0"], "benchmarks.own.limit: 0 (from 1 to"),
        (["benchmarks.own.num_fewshot=-1"], "benchmarks.own.num_fewshot: -1 (from 0 to"),
        (["benchmarks.own.generation.stop=['']"], "benchmarks.own.generation.stop: an empty text"),
        (
            ["benchmarks.own.generation.temperature=-1"],
            "benchmarks.own.generation.temperature: -1.0 (from 0",
        ),
        (["benchmarks.own.id='{{ foo'"], "benchmarks.own.id: '{{ foo' does not parse"),
        (["benchmarks.own.keep='1 // 0'"], "own.jsonl:1: '1 // 0' cannot be rendered"),
        (["benchmarks.own.protocol=papers"], "benchmarks.own.protocol: unknown protocol 'papers'"),
        (["evaluate.verify=-1"], "evaluate.verify: -1 (from 0 to"),
        (["evaluate.models=[]"], "evaluate.models: none"),
        (
            ["evaluate.max_length=6000"],
            "evaluate.max_length: 6000 tokens are more than the model's context (512",
        ),
        (
            ["evaluate.chat_template=true"],
            "evaluate.chat_template: the model's tokenizer has no chat template",
        ),
    ],
)
def test_a_setting_that_nothing_can_be_scored_with(command, tmp_path, overrides, words):
    assert f"error: {words}" in command(*own(tmp_path, [ROW]), *overrides)


def test_a_pattern_that_is_none(command, tmp_path):
    text = {"output_type": "generation", "metrics": ["exact_match"], "choices_from": ""}
    extraction = text | {"generation": {"extract": "pattern", "pattern": "(["}}
    said = command(*own(tmp_path, [ROW], **extraction))
    assert said.startswith("error: benchmarks.own.generation.pattern: '([' is not a regular expression")


def test_answers_longer_than_the_context(command, tmp_path):
    text = {"output_type": "generation", "metrics": ["exact_match"], "choices_from": ""}
    said = command(*own(tmp_path, [ROW], **text, generation={"max_new_tokens": 600}))
    assert said.startswith("error: benchmarks.own.generation.max_new_tokens: 600 tokens leave no room")


def test_rows_that_are_damaged(command, tmp_path):
    overrides = own(tmp_path, [ROW])
    (tmp_path / "own.jsonl").write_text(json.dumps(ROW | {"question": "\ud83d"}) + "\n")
    assert command(*overrides).startswith("error: own.jsonl:1: '\\ud83d' is half a character")
    (tmp_path / "own.parquet").write_bytes(b"PAR1 nothing PAR1")
    said = command(*overrides, "benchmarks.own.path=own.parquet")
    assert said.startswith("error: own.parquet: not a readable Parquet file")


def test_a_choice_of_which_nothing_is_left_to_score(command, tmp_path):
    said = command(*own(tmp_path, [ROW], continuation="{{ choice | replace('3', '') }}"))
    assert said.startswith("error: own.jsonl:1: `continuation` is empty for choice '3'")


def test_a_perplexity_that_no_number_can_hold(command, tmp_path):
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "很长的一段话" * 300}) + "\n")
    asked = ("benchmark=[perplexity]", "benchmarks.perplexity.path=text.jsonl", "steps=[evaluate]")
    said = command(*asked, "benchmarks.perplexity.metrics=[word_perplexity]")
    assert said.startswith("error: benchmarks.perplexity.metrics: word_perplexity is e^")
    command(*asked)
    assert {score.metric for score in read_results(tmp_path / "run" / "results.json")[1]} == {
        "bits_per_byte",
        "byte_perplexity",
        "token_perplexity",
    }
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": ""}) + "\n")
    assert command(*asked) == "error: text.jsonl:1: the text is empty (`keep` can filter such rows out)"


@pytest.mark.parametrize("before", ["description=News", "num_fewshot=2"])
def test_nothing_stands_before_the_text_of_a_perplexity_benchmark(command, tmp_path, before):
    (tmp_path / "text.jsonl").write_text('{"text": "a"}\n')
    asked = ("benchmark=[perplexity]", "benchmarks.perplexity.path=text.jsonl", "steps=[evaluate]")
    said = command(*asked, f"benchmarks.perplexity.{before}")
    assert said.startswith(
        f"error: benchmarks.perplexity.{before.partition('=')[0]}: nothing may stand before"
    )


def test_a_damaged_record_of_the_run(command, tmp_path):
    overrides = own(tmp_path, [ROW])
    command(*overrides, "steps=[evaluate]")
    (tmp_path / "run" / "run.json").write_text("{")
    assert command(*overrides, "steps=[evaluate]").startswith("error: run/run.json: not the record of a run")


def test_letters_that_the_vocabulary_lacks_are_told_before_the_model_is_loaded(command, tmp_path):
    shutil.copytree(TOY / "base", tmp_path / "model")
    vocabulary = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["Ⓐ"] = words.pop("A")
    vocabulary["model"]["merges"] = []
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(vocabulary))
    said = command(*cmmlu(tmp_path, GOOD, GOOD), model=tmp_path / "model")
    assert said.startswith(
        "error: benchmarks.cmmlu.protocol: 'official' with scoring=next-piece needs 'A' in"
    )
    assert not (tmp_path / "run").exists()
