import logging
from collections import Counter
from itertools import chain

import datasets
import pyarrow.parquet
import pytest

from workbench.config.data import DataConfig, DataFormat, SourceConfig
from workbench.config.model import Task
from workbench.config.names import COLUMNS
from workbench.data.classification import TEXT_COLUMNS
from workbench.data.formats import ANSWER, QUESTION, row_format, text
from workbench.data.rows import load_rows, split_rows
from workbench.data.validate import check_rows
from workbench.errors import ConfigError, DataError

ROWS = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "一加一等于", "completion": "二"}]


def load(path, **keys):
    return load_rows(DataConfig(path=str(path), **keys))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ROWS),
        ("a.json", ROWS),
        ("a.json", '[{"prompt": "1+1=", "completion": "2"},\n {"prompt": "一加一等于", "completion": "二"}]'),
        ("a.csv", 'prompt,completion\n"1+1=",2\n一加一等于,二\n'),
        ("a.tsv", "prompt\tcompletion\n1+1=\t2\n一加一等于\t二\n"),
    ],
)
def test_each_kind_of_file_gives_the_same_rows(write, name, content):
    assert [row.values for row in load(write(name, content))] == ROWS


def test_parquet_gives_the_same_rows(tmp_path):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    assert [row.values for row in load(tmp_path / "a.parquet")] == ROWS


def test_a_text_file_is_one_document(write):
    assert [row.values for row in load(write("a.txt", "第一行\n第二行\n"))] == [{"text": "第一行\n第二行\n"}]


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    assert load(write("a.csv", b"\xef\xbb\xbfprompt,completion\n1,2\n"))[0].values == {
        "prompt": "1",
        "completion": "2",
    }


def test_a_quotation_mark_in_tsv_is_a_character(write):
    assert load(write("a.tsv", 'sentence\tlabel\nhe said " no\t0\n'))[0].values["sentence"] == 'he said " no'


def test_a_row_knows_its_file_and_line_past_blank_lines_and_quoted_line_ends(write):
    assert load(write("a.jsonl", '\n{"text": "x"}\n'))[0].where.endswith("a.jsonl:2")
    assert load(write("a.csv", 'text,label\n"x\ny",0\nz,1\n'))[1].where.endswith("a.csv:4")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": \n', "a.jsonl:2: malformed JSON, Expecting value at column"),
        ("a.jsonl", '{"prompt": "x"}\n\n[1]\n', "a.jsonl:3: a row must be a JSON object, not [1]"),
        ("a.jsonl", b'{"prompt": "x"}\n{"p": "\xff"}\n', "a.jsonl:2: not UTF-8, byte 0xff at position 7"),
        ("a.json", '[{"prompt": "x"},\n{"prompt" "y"}]', "a.json:2: malformed JSON"),
        ("a.json", '[{"prompt": "x"}, 3]', "a.json: row 2: a row must be a JSON object, not 3"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "a.csv:3: 3 cells under 2 column names (a, b)"),
        ("a.csv", 'a,b\n"1"x,2\n', "a.csv:2: malformed table"),
        ("a.csv", "text,label,text\n1,2,3\n", "a.csv:1: two columns are called 'text' (rename one)"),
        ("a.jsonl", '{"p": "x"}\n{"p": "\\ud83d"}\n', "a.jsonl:2: '\\ud83d' is half a character, the other"),
        ("a.json", '[{"p": "x"},\n{"p": "\\uDE00"}]', "a.json: row 2: '\\ude00' is half a character"),
        ("a.jsonl", '{"p": 1}\n{"p": ' + "7" * 5000 + "}\n", "a.jsonl:2: a number of more than 4,300 digits"),
        ("a.json", '[{"p": 1},\n{"p": ' + "7" * 5000 + "}]", "a.json:2: a number of more than 4,300 digits"),
        ("a.jsonl", "\n" + "[" * 100_000, "a.jsonl:2: lists or objects are nested too deeply"),
        ("a.json", "[" * 100_000, "a.json:1: lists or objects are nested too deeply"),
        ("a.parquet", "nothing", "a.parquet: not a readable Parquet file"),
        ("a.xml", "<a/>", "unknown kind of file '.xml'"),
        ("a.jsonl", "\n\n", "data.path: no rows in"),
        ("a.csv", "prompt,completion\n", "data.path: no rows in"),
        ("a.txt", " \n", "data.path: no rows in"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(write, name, content, complaint):
    with pytest.raises(DataError) as caught:
        load(write(name, content))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", ["snappy", "none"])
def test_a_damaged_page_of_a_parquet_file_is_one_line(tmp_path, compression):
    table = pyarrow.table({"text": [f"{n} " * 30 for n in range(2000)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression=compression, use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = b"\xff" * 64
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match="a.parquet: not a readable Parquet file, ") as caught:
        load(tmp_path / "a.parquet")
    assert "\n" not in str(caught.value)


def test_an_escaped_pair_of_halves_is_one_character(write):
    assert load(write("a.jsonl", '{"text": "\\ud83d\\ude00"}\n'))[0].values == {"text": "\U0001f600"}


def test_a_json_array_may_stand_on_one_line_of_any_length(write):
    rows = load(write("a.json", b'[{"text": "' + b"x" * (33 * 2**20) + b'"}]'))
    assert len(rows[0].values["text"]) == 33 * 2**20


def test_a_line_of_fifty_megabytes_is_refused_by_its_number(write):
    line = b'{"text": "' + b"x" * (50 * 2**20) + b'"}\n'
    with pytest.raises(DataError, match=r"a.jsonl:2: a line of 50 MiB \(at most 32 MiB\)"):
        load(write("a.jsonl", b'{"text": "y"}\n' + line))


def test_a_missing_path_is_said(tmp_path):
    with pytest.raises(DataError, match="data.path: no such file or folder, '.*nowhere.jsonl'"):
        load(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="data.path: not given"):
        load("")


def test_a_folder_is_read_in_the_order_of_names_and_other_files_are_passed_over(write, tmp_path):
    write("d/b.jsonl", [{"text": "2"}])
    write("d/a.csv", "text\n1\n")
    write("d/README.md", "no data")
    write("d/.hidden.jsonl", "broken")
    assert [row.values["text"] for row in load(tmp_path / "d")] == ["1", "2"]


def test_a_folder_with_splits_never_trains_on_its_test_rows(write, tmp_path):
    write("d/train_few.json", [{"text": "train"}])
    write("d/test_public.json", [{"text": "test"}])
    assert [row.values["text"] for row in load(tmp_path / "d")] == ["train"]
    assert [row.values["text"] for row in load(tmp_path / "d", split="test")] == ["test"]
    with pytest.raises(DataError, match=r"data.split: no file .* is named after 'dev' \(has: test_public"):
        load(tmp_path / "d", split="dev")


def test_files_of_a_folder_that_are_not_read_are_named_once(write, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    write("d/conv_train.jsonl", [{"text": "train"}])
    write("d/extra.jsonl", [{"text": "more"}])
    load(tmp_path / "d")
    load(tmp_path / "d")
    assert [record.getMessage() for record in caplog.records] == [
        f"data.split: in {str(tmp_path / 'd')!r}, files not named after 'train' are left out: extra.jsonl"
    ]


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="data.path: no data files in"):
        load(tmp_path)


def test_columns_are_renamed_to_their_roles(write):
    path = write("a.jsonl", [{"question": "1+1=", "answer": "2", "level": 1}])
    row = load(path, columns={"prompt": "question", "completion": "answer"})[0]
    assert row.values == {"level": 1, "prompt": "1+1=", "completion": "2"}


def test_a_mapping_to_a_column_that_is_not_there_names_those_that_are(write):
    path = write("a.jsonl", [{"question": "1+1=", "answer": "2"}])
    complaint = r"a.jsonl:1: no column 'reply', as data.columns.completion says \(has: question, answer\)"
    with pytest.raises(DataError, match=complaint):
        load(path, columns={"completion": "reply"})


def test_limit_takes_the_first_rows_and_reads_no_further(write):
    assert len(load(write("a.jsonl", '{"text": "x"}\nbroken\n'), limit=1)) == 1


def test_a_validation_split_keeps_every_row_once_and_equal_rows_together(write):
    rows = load(write("a.jsonl", [{"text": str(i % 40)} for i in range(100)]))
    training, validation = split_rows(rows, 0.2)
    assert sorted(r.where for r in training + validation) == sorted(r.where for r in rows)
    assert 10 <= len(validation) <= 30
    assert not {r.values["text"] for r in training} & {r.values["text"] for r in validation}
    assert split_rows(rows, 0.2)[1] == validation != rows[-len(validation) :]
    assert split_rows(rows, 0.0) == (rows, [])


def test_a_validation_split_that_would_leave_nothing_to_train_on_is_refused(write):
    rows = load(write("a.jsonl", [{"text": "same"}] * 3))
    with pytest.raises(DataError, match="data.validation_fraction"):
        split_rows(rows, 0.5)


def test_sources_are_weighted_by_the_seed_and_read_each_in_its_own_way(write):
    write("a.jsonl", [{"q": str(i), "a": "x"} for i in range(10)])
    write("b.csv", "text\n" + "".join(f"t{i}\n" for i in range(20)))
    folder = write("c.jsonl", [{"text": "z"}]).removesuffix("c.jsonl")
    data = DataConfig(
        sources={
            "asked": SourceConfig(
                path=folder + "a.jsonl", columns={"prompt": "q", "completion": "a"}, weight=2.5
            ),
            "plain": SourceConfig(path=folder + "b.csv", limit=4, weight=0.5),
        }
    )
    rows = load_rows(data, seed=1)
    counts = Counter(row.source for row in rows)
    assert counts == {"asked": 25, "plain": 2}
    assert set(Counter(row.values["prompt"] for row in rows if row.source == "asked").values()) == {2, 3}
    assert rows == load_rows(data, seed=1) != load_rows(data, seed=2)


def test_a_source_takes_from_the_section_what_it_does_not_say_itself(write, tmp_path):
    write("a.jsonl", [{"q": "1", "a": "x"}])
    write("b.jsonl", [{"ask": "2", "a": "y"}])
    write("c/test.jsonl", [{"q": "3", "a": "z"}])
    write("c/train.jsonl", [{"q": "4", "a": "z"}])
    data = DataConfig(
        columns={"prompt": "q", "completion": "a"},
        format=DataFormat["prompt-completion"],
        split="test",
        sources={
            "one": SourceConfig(path=str(tmp_path / "a.jsonl")),
            "two": SourceConfig(
                path=str(tmp_path / "b.jsonl"),
                columns={"text": "ask"},
                format=DataFormat["text"],
            ),
            "three": SourceConfig(path=str(tmp_path / "c")),
        },
    )
    assert [row.values for row in load_rows(data)] == [
        {"prompt": "1", "completion": "x"},
        {"text": "2", "a": "y"},
        {"prompt": "3", "completion": "z"},
    ]
    hub = {
        "four": SourceConfig(path="own/set"),
        "five": SourceConfig(path="own/set", split="train", subset="other"),
    }
    data = DataConfig(split="test", subset="main", sources=hub)
    sections = [data.of_source(name) for name in hub]
    assert [(each.split, each.subset) for each in sections] == [("test", "main"), ("train", "other")]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            {"columns": {"text": "words"}},
            r"a.jsonl:1: no column 'words', as data.sources.one.columns.text says",
        ),
        ({"path": "nowhere.txt"}, r"data.sources.one.path: no such file or folder, 'nowhere.txt'"),
        ({"weight": 0.1}, r"data.sources.one.weight: 0.1 of 2 rows leaves none"),
    ],
)
def test_a_mistake_in_a_source_is_said_by_its_own_key(write, source, complaint):
    given = {"path": write("a.jsonl", ROWS), **source}
    with pytest.raises(DataError, match=complaint):
        load_rows(DataConfig(sources={"one": SourceConfig(**given)}))


def test_every_column_that_is_read_is_a_role():
    read = {*chain(*QUESTION.values(), *ANSWER.values(), *TEXT_COLUMNS)}
    assert read | {"input", "history", "system", "tools", "label"} == set(COLUMNS)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"path": "x", "sources": {"a": SourceConfig(path="y")}}, "data.path: stands beside data.sources"),
        ({"sources": {"a": SourceConfig(path="y", weight=0)}}, "data.sources.a.weight: 0 (more than 0"),
        ({"sources": {"a": SourceConfig(path="y", limit=0)}}, "data.sources.a.limit: 0 (from 1 to"),
        (
            {"columns": {"instruction": "q", "inputs": "ctx"}},
            "data.columns.inputs: unknown role 'inputs' (known: instruction, input, output,",
        ),
        (
            {"sources": {"a": SourceConfig(path="y", columns={"Prompt": "q"})}},
            "data.sources.a.columns.Prompt: unknown role 'Prompt' (known: ",
        ),
        ({"max_length": 1}, "data.max_length: 1 (from 2 to"),
        ({"validation_fraction": 1.0}, "data.validation_fraction: 1.0"),
        ({"limit": 0}, "data.limit: 0 (from 1 to"),
        ({"labels": ["a", "a"]}, "data.labels: a name stands twice"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused_by_its_key(keys, complaint):
    with pytest.raises(ConfigError) as caught:
        DataConfig(**keys)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"subset": "x"}, "data.subset: 'x' is a subset of a hub data set, but '"),
        ({"split": "test"}, "data.split: 'test' is a split of a folder or hub data set, but '"),
    ],
)
def test_a_split_or_subset_of_a_file_is_refused_where_it_is_set(write, keys, complaint):
    path = write("a.jsonl", ROWS)
    assert len(load(path)) == 2
    with pytest.raises(ConfigError) as caught:
        load(path, **keys)
    assert str(caught.value).startswith(complaint)
    sources = {"one": SourceConfig(path=path)}
    with pytest.raises(ConfigError, match=f"data.{next(iter(keys))}: "):
        load_rows(DataConfig(sources=sources, **keys))
    with pytest.raises(ConfigError, match=f"data.sources.one.{next(iter(keys))}: "):
        load_rows(DataConfig(sources={"one": SourceConfig(path=path, **keys)}))
    assert len(load_rows(DataConfig(path=path, **keys), answered=False)) == 2  # of predict.input, not of data


def test_a_split_that_no_file_of_a_folder_is_named_after_is_refused(write, tmp_path):
    write("d/a.jsonl", ROWS)
    write("d/b.jsonl", ROWS)
    assert len(load(tmp_path / "d")) == 4
    with pytest.raises(
        DataError, match=r"data.split: no file of .* is named after 'dev' \(has: a.jsonl, b.json"
    ):
        load(tmp_path / "d", split="dev")


@pytest.mark.parametrize("name", ["README.txt", "license.txt", "读我/LICENSE-2.0.txt", "说明.txt"])
def test_a_text_file_about_the_data_is_passed_over_and_told(write, tmp_path, caplog, monkeypatch, name):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    write("d/b.jsonl", ROWS)
    write(f"d/{name}", "about this data")
    assert [row.values for row in load(tmp_path / "d")] == ROWS
    assert "is not read as data" in caplog.text
    alone = write(f"e/{name}", "a text to train on")
    assert len(load(alone)) == 1
    assert len(load(tmp_path / "e")) == 1


def test_the_file_of_another_format_is_named_and_not_the_others(write, tmp_path):
    write("d/a.json", ROWS)
    write("d/b.jsonl", ROWS)
    write("d/c.txt", "my notes")
    data = DataConfig(path=str(tmp_path / "d"))
    with pytest.raises(DataError) as caught:
        check_rows(load_rows(data), data, Task.causal_lm)
    assert str(caught.value).startswith(
        f"{tmp_path}/d/c.txt: its rows are text, those of {tmp_path}/d/a.json are "
    )
    write("d/c.txt", "")
    write("d/0.csv", "question,answer\n1,2\n")
    with pytest.raises(
        DataError, match="0.csv: its rows are of no known format .question, answer., those of"
    ):
        check_rows(load_rows(data), data, Task.causal_lm)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            {"prompt": "x", "completion": None},
            "column 'completion' is null (give it a value, or leave the row out)",
        ),
        ({"prompt": "x"}, "no column 'completion' (has: prompt)"),
        ({"prompt": "x", "completion": " "}, "the answer in turn 2 is empty"),
    ],
)
def test_a_mistake_of_many_rows_is_told_once_with_their_number_and_the_first_three(write, row, complaint):
    path = write("a.jsonl", [ROWS[0], row, ROWS[0], row, row, row])
    data = DataConfig(path=path)
    with pytest.raises(DataError) as caught:
        check_rows(load_rows(data), data, Task.causal_lm)
    assert (
        str(caught.value)
        == f"{path}:2: {complaint}; 4 rows have this error: {path}:2, {path}:4, {path}:5, ..."
    )


def test_rows_to_be_answered_may_lack_their_answers_and_lines_of_text_are_rows(write):
    keys = {"columns": {"text": "评论", "label": "类别"}, "labels": ["好", "差"]}
    path = write("a.csv", "评论,号\n很好看,1\n")
    with pytest.raises(DataError, match="no column '类别'"):
        load(path, **keys)
    assert load_rows(DataConfig(path=path, **keys), answered=False)[0].values == {"号": "1", "text": "很好看"}
    with pytest.raises(DataError, match="no column '评论'"):
        load_rows(DataConfig(path=write("b.csv", "号\n1\n"), **keys), answered=False)
    lines = load_rows(DataConfig(path=write("a.txt", "很好看\r\n\n难看 \n"), **keys), answered=False)
    assert [(row.values, row.where.rpartition(":")[2]) for row in lines] == [
        ({"text": "很好看"}, "1"),
        ({"text": "难看 "}, "3"),
    ]


@pytest.mark.parametrize(("key", "value"), [("quoting", False), ("delimiter", ";")])
def test_a_key_of_tables_is_refused_where_there_is_none(write, key, value):
    with pytest.raises(ConfigError, match=rf"data.{key}: {value!r} is for tables, and '.*a.jsonl' has none"):
        load(write("a.jsonl", ROWS), **{key: value})
    path = write("a.csv", "text\nx\n")
    sources = {"one": SourceConfig(path=write("b.jsonl", ROWS)), "two": SourceConfig(path=path)}
    assert len(load_rows(DataConfig(sources=sources, **{key: value}))) == 3


def test_a_column_that_the_format_does_not_read_is_refused_by_its_key(write):
    path = write("a.jsonl", [{"q": "1", "a": "2", "kind": "x"}])
    data = DataConfig(path=path, columns={"prompt": "q", "completion": "a", "label": "kind"})
    with pytest.raises(
        ConfigError, match=r"data.columns.label: 'prompt-completion' rows have no 'label' \(prompt,"
    ):
        check_rows(load_rows(data), data, Task.causal_lm)


def test_errors_behind_renamed_columns_have_the_names_of_the_file(write):
    path = write("a.jsonl", [{"frage": "q", "antwort": None}])
    data = DataConfig(path=str(path), columns={"instruction": "frage", "output": "antwort"})
    [row] = load_rows(data)
    assert row.column_names == "frage, antwort"
    with pytest.raises(DataError, match="a.jsonl:1: column 'antwort' is null"):
        text(row, "output")
    with pytest.raises(DataError, match=r"no column 'prompt' \(has: frage, antwort\)"):
        text(row, "prompt")
    half = DataConfig(path=str(path), columns={"instruction": "frage"})
    with pytest.raises(DataError, match="no known format has the columns antwort, frage "):
        row_format(load_rows(half)[0], half, Task.causal_lm)
