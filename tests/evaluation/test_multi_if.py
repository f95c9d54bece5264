"""Multi-IF's Chinese prompts are read from the file or hub set of all languages, by their first turn."""

import csv
import json
from pathlib import Path

import datasets
import pytest
from test_chinese_instructions import SENTENCES, WORDS
from test_shipped_benchmarks import load
from test_targets import judged

from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark


def multi_if_row(key: str, language: str, prompt: str, names: list[str], arguments: list[dict]) -> dict:
    """A row as the hub has it: each cell of a turn is a text in JSON."""
    return {
        "turns": "",
        "turn_1_prompt": json.dumps({"role": "user", "content": prompt}),
        "turn_1_instruction_id_list": json.dumps(names),
        "turn_1_kwargs": json.dumps(list(map(json.dumps, arguments))),
        "turn_2_prompt": json.dumps({"role": "user", "content": "再写一句。"}),
        "key": key,
        "language": language,
    }


MULTI_IF = [
    multi_if_row("1000:1:en", "English", "Write, without commas.", ["punctuation:no_comma"], [{}]),
    multi_if_row(
        "1000:1:zh",
        "Chinese",
        '写一个"12+"字的句子，\n不要用逗号,并且用*突出*两处。',
        ["punctuation:no_comma", "detectable_format:number_highlighted_sections", WORDS],
        [{}, {"num_highlights": 2}, {"relation": "at least", "num_words": 12}],
    ),
    multi_if_row(
        "1005:1:zh", "Chinese", "写少于两句话。", [SENTENCES], [{"relation": "less than", "num_sentences": 2}]
    ),
    multi_if_row(
        "1005:1:fr", "French", "Une phrase.", [SENTENCES], [{"relation": "less than", "num_sentences": 2}]
    ),
]


def multi_if(folder: Path, **changes) -> PreparedBenchmark:
    with (folder / "multiIF_20241018.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(MULTI_IF[0]))
        writer.writeheader()
        writer.writerows(MULTI_IF)
    config = load("multi_if_zh", path=str(folder), **changes)
    return prepare_benchmarks({"multi_if_zh": config}, EvaluateConfig())["multi_if_zh"]


def test_the_chinese_rows_of_multi_if_are_asked_by_their_first_turn(tmp_path, punkt, monkeypatch):
    benchmark = multi_if(tmp_path)
    assert [example.id for example in benchmark.examples] == ["1000:1:zh", "1005:1:zh"]
    assert benchmark.examples[0].questions == ('写一个"12+"字的句子，\n不要用逗号,并且用*突出*两处。',)
    predictions, _ = judged(benchmark, ["好的,如下：\n我们*今天*一起去*公园*里面散步", "今天很好。明天呢？"])
    assert [prediction.scores for prediction in predictions] == [
        {
            "prompt_level_strict_acc": 0.0,
            "prompt_level_loose_acc": 1.0,
            "inst_level_strict_acc": pytest.approx(2 / 3),
            "inst_level_loose_acc": 1.0,
        },
        dict.fromkeys(load("multi_if_zh").metrics, 0.0),
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(MULTI_IF))
    hub = prepare_benchmarks({"multi_if_zh": load("multi_if_zh")}, EvaluateConfig())["multi_if_zh"]
    assert hub.examples == benchmark.examples


def test_rows_of_multi_if_about_sentences_are_refused_or_left_out_without_the_data(tmp_path, no_punkt):
    with pytest.raises(ConfigError, match=r"1 items, such as 1005:1:zh, need NLTK's data punkt_tab"):
        multi_if(tmp_path)
    assert [example.id for example in multi_if(tmp_path, keep="not needs_punkt").examples] == ["1000:1:zh"]
