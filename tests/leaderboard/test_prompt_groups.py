"""Columns of scores whose prompts differ by the settings of evaluation, and the headings that name them."""

from collections import defaultdict

from test_board_columns import scored_with
from test_board_rows import board_of

from workbench.run_dir import read_json, write_json

BRIEF = {"system": "Be brief."}
M1, M2, BASE = "aa" * 32, "bb" * 32, "cc" * 32


def prompted(path, weights=M1, **settings):
    """A run all of whose prompts are changed by its evaluate section."""
    fields = {"num_truncated": 0} | settings.pop("fields", {})
    cut = range(settings.get("num_items", 120))
    return scored_with(path, weights, cut=cut, fields=fields, **settings)


def forget_settings(files):
    """Leave in a run.json what earlier versions recorded."""
    record = read_json(files.run_json)
    for entry in record["steps"].values():
        entry.pop("settings")
    write_json(files.run_json, record)


def sources(board):
    """Heading without the benchmark -> runs of its scores."""
    labels = {column.key: column.label.partition(" · ")[2] for column in board.columns}
    found = defaultdict(set)
    for cell in board.cells:
        found[labels[cell.column]].add(cell.source)
    return dict(found)


def test_a_setting_without_effect_splits_no_column_where_another_one_changed_the_prompts(tmp_path):
    scored_with(tmp_path / "m1")
    scored_with(tmp_path / "m2", M2)
    scored_with(tmp_path / "base", BASE, max_length=100)
    prompted(tmp_path / "m1b", max_length=100, **BRIEF)
    board = board_of(tmp_path)
    assert sources(board) == {"system=(none)": {"m1", "m2", "base"}, "system=Be brief.": {"m1b"}}
    assert board.family.num_comparisons == 3
    assert not any(cell.apart for cell in board.cells)


def test_a_length_that_cut_nothing_shares_the_column_of_the_whole_prompts(tmp_path):
    scored_with(tmp_path / "m1")
    scored_with(tmp_path / "m1b", cut=(3,), max_length=22, too_long="truncate-left")
    scored_with(tmp_path / "base", BASE, max_length=100)
    board = board_of(tmp_path)
    assert sources(board) == {"max_length=null or 100": {"m1", "base"}, "max_length=22": {"m1b"}}
    prompted(tmp_path / "m2", M2, max_length=50)  # another template, and nothing cut
    board = board_of(tmp_path)
    assert sources(board) == {
        "max_length=(nothing cut)": {"m1", "base", "m2"},
        "max_length=22": {"m1b"},
    }
    assert [cell.source for cell in board.cells if cell.apart == "other prompts"] == ["m2"]


def test_models_with_other_templates_share_the_columns_of_equal_settings(tmp_path):
    scored_with(tmp_path / "m1")
    scored_with(tmp_path / "base", BASE)
    prompted(tmp_path / "m1b", **BRIEF)
    prompted(tmp_path / "m2", M2)
    scored_with(tmp_path / "m2b", M2, cut=range(7), fields={"num_truncated": 0}, **BRIEF)
    board = board_of(tmp_path)
    assert sources(board) == {"system=(none)": {"m1", "base", "m2"}, "system=Be brief.": {"m1b", "m2b"}}
    assert "m2" in {cell.source for cell in board.cells if cell.apart == "other prompts"}


def test_a_score_without_recorded_settings_joins_the_column_of_its_prompts(tmp_path):
    scored_with(tmp_path / "m1")
    prompted(tmp_path / "m1b", **BRIEF)
    prompted(tmp_path / "m2", M2, **BRIEF)
    prompted(tmp_path / "m3", "ee" * 32, **BRIEF)
    forget_settings(scored_with(tmp_path / "old", BASE))
    board = board_of(tmp_path)
    assert sources(board) == {"system=(none)": {"m1", "old"}, "system=Be brief.": {"m1b", "m2", "m3"}}
    forget_settings(prompted(tmp_path / "old", BASE, system="by another tokenizer"))
    board = board_of(tmp_path)
    assert sources(board) == {"system=(none)": {"m1"}, "system=Be brief.": {"m1b", "m2", "m3", "old"}}
    assert [cell.source for cell in board.cells if cell.apart] == ["old"]


def test_each_heading_of_a_benchmark_names_what_makes_its_column_different(tmp_path):
    rules = [{"rule": digit * 16} for digit in "ab"]
    scored_with(tmp_path / "m1", fields=rules[0])
    prompted(tmp_path / "m1b", fields=rules[0], **BRIEF)
    generation = {"output_type": "generation"}
    for name in ("m1", "m1b"):
        record = read_json(tmp_path / name / "run.json")
        for entry in record["steps"].values():
            entry["settings"]["benchmark"] = generation
        write_json(tmp_path / name / "run.json", record)
    scored_with(tmp_path / "warm", benchmark=generation, fields=rules[1], temperature=0.7)
    assert sources(board_of(tmp_path)) == {
        "system=(none) · temperature=0.0": {"m1"},
        "system=Be brief. · temperature=0.0": {"m1b"},
        "system=(none) · temperature=0.7": {"warm"},
    }


def test_prompts_of_scores_by_two_rules_are_named_too(tmp_path):
    generation = {"output_type": "generation"}
    scored_with(tmp_path / "m1", benchmark=generation, fields={"rule": "a" * 16})
    prompted(tmp_path / "warm", benchmark=generation, temperature=0.7, fields={"rule": "b" * 16}, **BRIEF)
    assert set(sources(board_of(tmp_path))) == {
        "system=(none) · temperature=0.0",
        "system=Be brief. · temperature=0.7",
    }


def test_a_heading_shows_the_part_in_which_two_long_texts_differ(tmp_path):
    common = "请用中文回答下面的问题，只给出选项的字母，不要写任何解释。"
    for name, end in (("a", "甲"), ("b", "乙")):
        prompted(tmp_path / name, system=common + end)
    prompted(tmp_path / "c", system="Answer with one letter and nothing else.")
    scored_with(tmp_path / "d")
    assert sources(board_of(tmp_path)) == {
        "system=…何解释。甲": {"a"},
        "system=…何解释。乙": {"b"},
        "system=Answer with one letter …": {"c"},
        "system=(none)": {"d"},
    }


def test_a_score_with_a_limit_and_other_prompts_is_not_hidden_behind_the_whole_one(tmp_path):
    scored_with(tmp_path / "m1")
    scored_with(tmp_path / "m1b", num_items=50, **BRIEF)
    board = board_of(tmp_path)
    assert sources(board) == {"system=(none)": {"m1"}, "system=Be brief.": {"m1b"}}
    assert {column.num_items for column in board.columns} == {120, 50}


def test_a_limit_or_a_seed_of_absent_examples_makes_no_column(tmp_path):
    scored_with(tmp_path / "m1")
    scored_with(tmp_path / "m1b", num_items=50, fewshot_seed=7)
    scored_with(tmp_path / "base", BASE, num_items=50)
    board = board_of(tmp_path)
    [column] = board.columns
    assert column.label == "toy-reading-zh"
    assert {cell.source for cell in board.cells} == {"m1b", "base"}, "the items that most models answered"


def test_windows_that_are_in_a_rule_are_named(tmp_path):
    scored_with(tmp_path / "long", fields={"rule": "a" * 16})
    scored_with(tmp_path / "short", max_length=14, fields={"rule": "b" * 16})
    forget_settings(scored_with(tmp_path / "old", fields={"rule": "c" * 16}))
    assert set(sources(board_of(tmp_path))) == {"max_length=null", "max_length=14", "rule cccc"}
