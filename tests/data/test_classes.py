"""Names of classes as rows and files have them: cleaned, told apart, counted, or refused."""

import json
import logging
from pathlib import Path

import pytest

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.data import DataConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import Task
from workbench.data.classes import class_list, clean_name
from workbench.data.classification import label_names
from workbench.data.encode import Encoding, encode
from workbench.data.report import data_report
from workbench.data.rows import load_rows
from workbench.data.validate import check_rows
from workbench.errors import ConfigError, DataError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks

CLASSIFIER = Task.sequence_classification


@pytest.fixture
def notices(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    return lambda: [record.getMessage() for record in caplog.records]


def labelled(*labels: object) -> list[dict]:
    return [{"text": f"文{number}", "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    "ending",
    [
        "\u200b",
        "\ufeff",
        "\u00a0",
        "\r",
        "\u00ad",
        "\u200e",
        "\u202c",
        "\u2066",
        "\u3000",
        "\u2060",
        "\u3164",
        " ",
    ],
)
def test_characters_that_are_not_seen_at_the_ends_of_a_class_make_no_other_class(
    write, byte_tokenizer, ending
):
    path = write("a.jsonl", labelled("正面", "负面", "正面" + ending, ending + "负面" + ending + " "))
    data = DataConfig(path=path)
    rows = load_rows(data)
    assert label_names(rows, data) == ["正面", "负面"]
    account = encode(rows, Encoding(byte_tokenizer, data, CLASSIFIER)).account
    assert account.classes == {"正面": 2, "负面": 2}
    noted = {"had invisible characters at the ends of their class, which were removed": 2}
    assert account.noted == ({} if ending == " " else noted)
    assert label_names(rows, DataConfig(path=path, labels=["负面" + ending, "正面"])) == ["负面", "正面"]


def test_a_name_within_which_something_is_not_seen_stays_as_it_is():
    assert clean_name("a\u200bb") == "a\u200bb"
    assert clean_name("\u200b") == ""


@pytest.mark.parametrize(
    "twins",
    [
        ("Ａ", "A"),
        ("positive", "Positive"),
        ("a\u00adb", "ab"),
        ("体 育", "体\u3000育"),
        ("1", "1.0"),
        ("１", "1"),
    ],
)
def test_classes_that_look_alike_are_told(write, notices, twins):
    data = DataConfig(path=write("a.jsonl", labelled(*twins, "other")))
    assert len(label_names(load_rows(data), data)) == 3
    assert notices()[0].startswith("classes that look alike are treated as different classes: ")
    assert notices()[0].isprintable()


@pytest.mark.parametrize(
    ("classes", "mark"), [((1, 0), -1), ((0, 2), "-1"), (("a", "b"), "-"), ((0, 1), -100)]
)
def test_rows_that_say_they_have_no_class_are_refused_or_left_out_by_a_key(write, notices, classes, mark):
    path = write("a.jsonl", labelled(*classes, mark, mark))
    data = DataConfig(path=path)
    with pytest.raises(DataError) as caught:
        check_rows(load_rows(data), data, CLASSIFIER)
    assert str(caught.value).startswith(f"{path}:3: class {str(mark)!r} marks rows without a class")
    assert f"2 rows have it: {path}:3, {path}:4 (data.drop_unlabelled=true leaves" in str(caught.value)
    dropping = DataConfig(path=path, drop_unlabelled=True)
    assert label_names(load_rows(dropping), dropping) == [str(name) for name in sorted(classes)]
    assert notices()[-1] == f"data.drop_unlabelled: 2 rows of {path!r} without a class are dropped"
    named = DataConfig(path=path, labels=[*map(str, classes), str(mark)], drop_unlabelled=True)
    assert len(load_rows(named)) == 4


def test_rows_with_a_null_or_empty_class_are_told_together_and_left_out_by_a_key(write):
    path = write("a.jsonl", labelled("a", "b", None, "\u200b", None))
    data = DataConfig(path=path, labels=["a", "b"])
    with pytest.raises(
        DataError, match=r"a.jsonl:3: the class in 'label' is null .*; 2 rows have this error: "
    ):
        check_rows(load_rows(data), data, CLASSIFIER)
    assert len(load_rows(DataConfig(path=path, drop_unlabelled=True))) == 2


def test_the_classes_and_their_rows_are_on_screen_before_training(write, byte_tokenizer):
    data = DataConfig(path=write("a.jsonl", labelled("好", "差", "好")), labels=["好", "差", "中"])
    rows = load_rows(data)
    encoded = encode(rows, Encoding(byte_tokenizer, data, CLASSIFIER, names=data.labels))
    assert "classes '好' 2, '差' 1, '中' 0" in str(encoded.account)
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=200)
    console.print(data_report(encoded, rows, byte_tokenizer))
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert {"2  of class '好'", "1  of class '差'", "0  of the classes '中'"} <= set(lines)


AG_NEWS = "1-World, 2-Sports, 3-Business, 4-Science/Tech\n"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (AG_NEWS, ["World", "Sports", "Business", "Science/Tech"]),
        ("World\nSports\n\nSci, Tech\n", ["World", "Sports", "Sci, Tech"]),
        ("体育，财经、科技", ["体育", "财经", "科技"]),
        ("0: 差\r\n1: 好\r\n", ["差", "好"]),
        ("1 star\n2 stars\n", ["1 star", "2 stars"]),
        ("3-b\n1-a\n", ["3-b", "1-a"]),
        ('["a", "b"]', ["a", "b"]),
        ("\ufeffa\u200b\nb\n", ["a", "b"]),
    ],
)
def test_a_list_of_classes_is_read_in_the_ways_that_people_write_them(write, content, names):
    path = write("classes.txt", content)
    assert class_list(Path(path), "data.labels_file").names == names


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("World\n", "1 classes"), ("a\nb\na\n", "'a' is listed twice"), ('{"a": 1}', "not a list of classes")],
)
def test_a_list_of_classes_that_makes_no_sense_is_refused(write, content, complaint):
    with pytest.raises(DataError, match=complaint):
        class_list(Path(write("classes.txt", content)), "data.labels_file")


def test_rows_may_give_the_numbers_of_the_list(write):
    rows = [{"text": "x", "label": label} for label in ("3", 1, "Sports", 4)]
    data = DataConfig(path=write("a.jsonl", rows), labels_file=write("classes.txt", AG_NEWS))
    read = load_rows(data)
    assert [row.values["label"] for row in read] == ["Business", "World", "Sports", "Science/Tech"]
    check_rows(read, data, CLASSIFIER)
    assert label_names(read, data) == ["World", "Sports", "Business", "Science/Tech"]
    unknown = DataConfig(path=write("b.jsonl", [{"text": "x", "label": 5}]), labels_file=data.labels_file)
    with pytest.raises(DataError, match=r"b.jsonl:1: class number 5 is out of range"):
        check_rows(load_rows(unknown), unknown, CLASSIFIER)


def test_a_list_of_classes_that_nothing_reads_is_refused(write):
    data = DataConfig(path="x", labels_file="classes.txt")
    with pytest.raises(ConfigError, match="data.labels_file: only for classifiers"):
        check_rows([], data, Task.causal_lm)
    with pytest.raises(ConfigError, match="data.labels_file: stands beside data.labels"):
        DataConfig(labels=["a", "b"], labels_file="classes.txt")
    missing = DataConfig(path=write("a.jsonl", labelled("a", "b")), labels_file="nowhere.txt")
    with pytest.raises(DataError, match="data.labels_file: no such file, 'nowhere.txt'"):
        load_rows(missing)


def test_a_benchmark_takes_its_choices_from_a_file_beside_its_rows(write, tmp_path):
    write("classes.txt", AG_NEWS)
    path = write("test.jsonl", json.dumps({"text": "x", "label": 3}))
    about = {
        "language": "en",
        "output_type": OutputType.multiple_choice,
        "question": "{{ text }}",
        "target_index": "label - 1",
    }
    for place in (path, str(tmp_path)):
        config = BenchmarkConfig(path=place, choices_file="classes.txt", **about)
        config.local.files = {"test": "test.jsonl"}
        [item] = prepare_benchmarks({"b": config}, EvaluateConfig())["b"].examples
        assert (item.choices, item.target) == (("World", "Sports", "Business", "Science/Tech"), 2)
    with pytest.raises(ConfigError, match="both `choices` and `choices_file` are set"):
        BenchmarkConfig(choices=["a"], choices_file="classes.txt", **about)
    with pytest.raises(DataError, match="benchmarks.b.choices_file: no such file"):
        prepare_benchmarks(
            {"b": BenchmarkConfig(path=path, choices_file="other.txt", **about)}, EvaluateConfig()
        )
