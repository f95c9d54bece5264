import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.config.benchmark import (
    Average,
    BenchmarkConfig,
    FewshotOrder,
    LocalConfig,
    OutputType,
    ProtocolConfig,
    Sample,
)
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError, WorkbenchError
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.benchmark_prompts import Renderer
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.requests import item

HEADER = ",Question,A,B,C,D,Answer"


def folder(path: Path, test: list[str], dev: list[str] | None = None, header: str = HEADER) -> Path:
    for split, rows in {"test": test, "dev": dev or []}.items():
        file = path / split / "law.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def config(path: Path, **changes) -> BenchmarkConfig:
    settings = {
        "language": "zh",
        "path": path and str(path),
        "local": LocalConfig(files={"test": "test/{subset}.csv", "dev": "dev/{subset}.csv"}),
        "subsets": {"law": "法学"},
        "fewshot_split": "dev",
        "output_type": OutputType.multiple_choice,
        "description": "关于{{ title }}：\n",
        "question": "{{ Question }}\nA. {{ A }}\nB. {{ B }}\nC. {{ C }}\nD. {{ D }}\n答案：",
        "choices": ["A", "B", "C", "D"],
        "target": "{{ Answer }}",
        "delimiter": "",
    }
    return BenchmarkConfig(**settings | changes)


def prepare(benchmark: BenchmarkConfig, **evaluate) -> PreparedBenchmark:
    return prepare_benchmarks({"exam": benchmark}, EvaluateConfig(**evaluate))["exam"]


def complaint(benchmark: BenchmarkConfig) -> str:
    with pytest.raises(WorkbenchError) as caught:
        prepare(benchmark)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_prompt_is_description_examples_and_question(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"], ["0,一？,1,2,3,4,B", "1,二？,5,6,7,8,A"])
    [example] = prepare(config(path, num_fewshot=2)).examples
    assert item(example, 0).contexts == (
        "关于法学：\n"
        "一？\nA. 1\nB. 2\nC. 3\nD. 4\n答案：B\n\n"
        "二？\nA. 5\nB. 6\nC. 7\nD. 8\n答案：A\n\n"
        "问？\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：",
    )
    assert (example.id, example.target, example.continuations) == ("law/0", 2, ("A", "B", "C", "D"))
    assert item(example, 1).contexts[0].count("答案：") == 2


def test_text_of_a_row_is_never_taken_for_a_template(tmp_path):
    path = folder(tmp_path, ["0,{{ 7 * 7 }},甲,乙,丙,{% if %},C"])
    assert "{{ 7 * 7 }}" in prepare(config(path)).examples[0].questions[0]


def test_a_template_cannot_reach_python(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"])
    message = complaint(config(path, question="{{ ''.__class__.__mro__ }}"))
    assert "__class__" in message


def test_examples_drawn_at_random_depend_on_item_and_seed_alone(tmp_path):
    dev = [f"{n},问{n}？,1,2,3,4,A" for n in range(20)]
    path = folder(tmp_path, [f"{n},题{n}？,1,2,3,4,A" for n in range(6)], dev)
    drawn = config(path, num_fewshot=3, fewshot_order=FewshotOrder.random)
    shots = [e.shots for e in prepare(drawn).examples]
    assert len(set(shots)) > 1
    assert [e.shots for e in prepare(drawn).examples] == shots
    assert [
        e.shots
        for e in prepare(
            config(path, num_fewshot=3, fewshot_order=FewshotOrder.random, limit=2, sample=Sample.first)
        ).examples
    ] == shots[:2]
    assert [e.shots for e in prepare(drawn, fewshot_seed=7).examples] != shots


@pytest.mark.parametrize(("name", "spare"), [("harness", 0), ("harness-spare", 1)])
def test_examples_drawn_as_the_harness_does_come_from_one_generator_by_the_row_s_number(
    tmp_path, name, spare
):
    dev = [f"{n},问{n}？,1,2,3,4,A" for n in range(20)]
    path = folder(tmp_path, [f"{n},题{n}？,1,2,3,4,A" for n in range(6)], dev)
    drawn = config(path, num_fewshot=3, fewshot_order=FewshotOrder[name])
    generator = random.Random(1234)
    expected = [generator.sample(range(20), 3 + spare)[:3] for _ in range(6)]
    for example in prepare(drawn, fewshot_seed=1234).examples:
        numbers = expected[int(example.id.removeprefix("law/"))]
        assert [shot.question.split("\n")[0] for shot in example.shots] == [f"问{n}？" for n in numbers]
    whole = prepare(drawn, fewshot_seed=1234).examples
    assert all(example in whole for example in prepare(replace(drawn, limit=2), fewshot_seed=1234).examples)


def test_an_item_is_never_its_own_example(tmp_path):
    path = folder(tmp_path, [f"{n},题{n}？,1,2,3,4,A" for n in range(4)])
    for example in prepare(config(path, num_fewshot=3, fewshot_split="test")).examples:
        assert example.questions[0] not in [shot.question for shot in example.shots]


def test_sample_first_takes_the_first_items_of_each_subset_and_keeps_their_ids(tmp_path):
    path = folder(tmp_path, [f"{n},题{n}？,1,2,3,4,A" for n in range(4)])
    (path / "test" / "art.csv").write_text((path / "test" / "law.csv").read_text())
    two = config(path, subsets={"law": "法", "art": "艺"}, limit=2, sample=Sample.first)
    assert [e.id for e in prepare(two).examples] == ["law/0", "law/1", "art/0", "art/1"]


def test_a_protocol_changes_prompt_and_average_and_the_users_number_of_examples_wins(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"], ["0,一？,1,2,3,4,B"])
    paper = ProtocolConfig(description="试题：", average=Average.macro, num_fewshot=1, delimiter=" ")
    prepared = prepare(config(path, protocol="paper", protocols={"paper": paper}))
    assert prepared.config.average == Average.macro
    assert item(prepared.examples[0], 0).contexts[0].startswith("试题：一？")
    assert item(prepared.examples[0], 0).pairs[0][1] == " A"
    plain = prepare(config(path, protocol="paper", protocols={"paper": paper}, num_fewshot=0))
    assert plain.examples[0].shots == ()


def test_a_question_that_uses_choice_gives_every_choice_its_own_prompt(tmp_path):
    file = tmp_path / "dev.jsonl"
    file.write_text(
        json.dumps({"sentence": "The _ barked.", "option1": "dog", "option2": "cat", "answer": "1"})
    )
    benchmark = BenchmarkConfig(
        language="en",
        path=str(file),
        output_type=OutputType.multiple_choice,
        question="{{ sentence.split('_')[0] }}{{ choice }}",
        choices=["{{ option1 }}", "{{ option2 }}"],
        continuation="{{ sentence.split('_')[1] | trim }}",
        target_index="answer | int - 1",
    )
    [example] = prepare(benchmark).examples
    assert item(example, 0).pairs == [("The dog", " barked."), ("The cat", " barked.")]


def test_local_columns_make_two_layouts_look_alike(tmp_path):
    file = tmp_path / "arc.jsonl"
    row = {
        "question": {"stem": "Why?", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]},
        "answerKey": "2",
    }
    file.write_text(json.dumps(row))
    benchmark = BenchmarkConfig(
        language="en",
        path=str(file),
        local=LocalConfig(
            columns={
                "stem": "question.stem",
                "texts": "question.choices | map(attribute='text') | list",
                "labels": "question.choices | map(attribute='label') | list",
            }
        ),
        output_type=OutputType.multiple_choice,
        question="Question: {{ stem }}\nAnswer:",
        choices_from="texts",
        target_index="labels.index(answerKey)",
    )
    [example] = prepare(benchmark).examples
    assert (example.choices, example.target) == (("x", "y"), 1)


def test_files_without_header_tab_files_and_labels_beside_are_read(tmp_path):
    (tmp_path / "mmlu.csv").write_text('"Line one\nline two",1,2,3,4,B\n', encoding="utf-8")
    columns = ["Question", "A", "B", "C", "D", "Answer"]
    plain = config(tmp_path / "mmlu.csv", local=LocalConfig(header=columns), subsets={})
    assert prepare(plain).examples[0].questions[0].startswith("Line one\nline two\nA. 1")
    (tmp_path / "sst.tsv").write_text('sentence\tlabel\n"half quoted\t1\n', encoding="utf-8")
    tabbed = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "sst.tsv"),
        local=LocalConfig(quoting=False),
        output_type=OutputType.classification,
        question="{{ sentence }}",
        target_index="label",
    )
    assert prepare(tabbed).examples[0].questions == ('"half quoted',)
    (tmp_path / "valid.jsonl").write_text('{"goal": "g"}\n{"goal": "h"}\n')
    (tmp_path / "labels.lst").write_text("1\n0\n")
    beside = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "valid.jsonl"),
        local=LocalConfig(beside={"label": "labels.lst"}),
        output_type=OutputType.multiple_choice,
        question="{{ goal }}",
        choices=["x", "y"],
        target_index="label",
    )
    assert [e.target for e in prepare(beside).examples] == [1, 0]


def test_fewer_items_than_the_benchmark_has_are_said(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"])
    assert prepare(config(path, num_items=11582)).warnings == ["1 items (the whole benchmark has 11,582)"]


def test_a_bad_answer_letter_is_told_with_file_and_line(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C", "1,问？,甲,乙,丙,丁,E"])
    assert complaint(config(path)) == (
        f"{path}/test/law.csv:3: the answer 'E' is not one of the choices ('A', 'B', 'C', 'D')"
    )


@pytest.mark.parametrize(("answer", "way_out"), [("c", "`| upper`"), ("3", "`target_index`: `answer - 1`")])
def test_an_answer_in_another_case_or_by_number_is_told_with_the_way_out(tmp_path, answer, way_out):
    assert way_out in complaint(config(folder(tmp_path, [f"0,问？,甲,乙,丙,丁,{answer}"])))


def test_a_row_with_three_of_four_choices_is_told_with_file_and_line(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,C"])
    assert complaint(config(path)).startswith(f"{path}/test/law.csv:2: 6 cells under 7 column names")
    rows = config(
        folder(tmp_path, ["0,问？,甲,乙,丙,,C"]), choices=["{{ A }}", "{{ D }}"], target_index="0", target=""
    )
    assert complaint(rows) == f"{path}/test/law.csv:2: choice 2 of 2 is empty"


def test_a_missing_column_is_told_with_the_columns_there_are(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"], header=HEADER.replace("Question", "question"))
    message = complaint(config(path))
    assert (
        f"{path}/test/law.csv:2" in message
        and "'Question' is undefined" in message
        and "question, A" in message
    )


def test_a_split_without_labels_is_told(tmp_path):
    path = tmp_path / "law.csv"
    path.write_text("Question,A,B,C,D\n问？,甲,乙,丙,丁\n", encoding="utf-8")
    assert complaint(config(path, subsets={})) == (
        f"{path}:2: no label: the split 'test' has no column 'Answer' (columns: Question, A, B, C, D)"
    )


def test_a_missing_subject_file_is_told(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"])
    assert complaint(config(path, subsets={"law": "法", "art": "艺"})) == f"{path}/test/art.csv: no such file"


def test_duplicate_ids_are_told_with_both_lines(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "id,Question,A,B,C,D,Answer\nx,问？,甲,乙,丙,丁,C\nx,问！,甲,乙,丙,丁,C\n", encoding="utf-8"
    )
    message = complaint(config(path, subsets={}, id="{{ id }}"))
    assert message == f"{path}:3: duplicate id 'x' (first at {path}:2)"


def test_zero_items_after_a_filter_are_told(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"])
    assert "no items in" in complaint(config(path, keep="Answer == 'A'"))


def test_malformed_json_is_told_with_its_line(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    assert complaint(config(path, subsets={})).startswith(f"{path}:2: malformed JSON")


def test_an_unclosed_quote_is_told_with_its_line(tmp_path):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C", '1,"问？,甲,乙,丙,丁,C'])
    assert complaint(config(path)).startswith(f"{path}/test/law.csv:3: malformed table")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ["acuracy"]}, "benchmarks.exam.metrics: unknown metric 'acuracy' (known: acc,"),
        ({"metrics": ["exact_match"]}, "does not fit multiple_choice"),
        ({"metrics": []}, "benchmarks.exam.metrics: empty"),
        ({"question": "{{ Question"}, "benchmarks.exam.question: '{{ Question' does not parse"),
        (
            {"num_fewshot": 9},
            "benchmarks.exam.num_fewshot: 9 examples need 9 rows, but split 'dev' of 'law' has 0",
        ),
        ({"num_fewshot": 1, "fewshot_split": ""}, "no fewshot_split"),
        ({"split": "val"}, "benchmarks.exam.local.files: no file for split 'val' (known: test, dev)"),
        ({"path": "nowhere"}, "benchmarks.exam.path: no such file or folder 'nowhere'"),
        ({"path": None}, "benchmarks.exam.path: not set, and the benchmark has no hub id"),
        ({"choices": []}, "benchmarks.exam.choices: empty"),
        ({"target": ""}, "benchmarks.exam.target: empty"),
    ],
)
def test_a_wrong_key_is_told_with_its_name(tmp_path, change, words):
    path = folder(tmp_path, ["0,问？,甲,乙,丙,丁,C"])
    with pytest.raises((ConfigError, DataError)) as caught:
        prepare(config(**{"path": path} | change))
    assert words in str(caught.value)


@pytest.mark.parametrize("order", [FewshotOrder.first, FewshotOrder.random])
def test_examples_are_drawn_from_all_rows_but_the_asked_one(order):
    config = BenchmarkConfig(
        language="en",
        output_type=OutputType.generation,
        question="{{ text }}",
        target="{{ text }}",
        num_fewshot=5,
        fewshot_order=order,
    )
    rows = [Row({"text": f"row {number}"}, f"file:{number}") for number in range(100)]
    for number in (0, 3, 99):
        others = rows[:number] + rows[number + 1 :]
        expected = random.Random(f"7/{number}").sample(others, 5) if order.name == "random" else others[:5]
        example = Renderer(config, 7).example(rows[number], number, number, "", rows)
        assert [shot.question for shot in example.shots] == [row.values["text"] for row in expected]


def test_a_column_called_title_is_the_row_s_own_where_there_are_no_subsets(tmp_path):
    (tmp_path / "news.jsonl").write_text(json.dumps({"title": "rain", "subset": "b", "text": "it rains"}))
    found = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "news.jsonl"),
        output_type=OutputType.generation,
        question="{{ subset }}: {{ title }}",
        target="{{ text }}",
        metrics=["exact_match"],
    )
    assert prepare(found).examples[0].questions == ("b: rain",)


def test_a_csv_file_with_two_columns_of_one_name_is_refused_but_for_unnamed_ones(tmp_path):
    path = folder(tmp_path, ["0,问？,1,2,3,4,A,,"], header="A,Question,A,B,C,D,Answer,,")
    assert complaint(config(path)).endswith("law.csv:1: two columns are called 'A' (rename one)")
    path = folder(tmp_path, ["0,问？,1,2,3,4,A,,"], header="number,Question,A,B,C,D,Answer,,")
    assert len(prepare(config(path)).examples) == 1
