"""Columns and cells of the board: what is asked alike, what stands apart, what contradicts itself."""

import json
from dataclasses import replace

from leaderboard_runs import Spec, write_run
from test_board_rows import board_of

from workbench.evaluation.records import (
    prompt_hash,
    read_predictions,
    read_results,
    write_predictions,
    write_results,
)
from workbench.run_dir import file_fingerprint, write_json

ONE = {"base": 0.4}


def changed_scores(files, **fields):
    facts, scores = read_results(files.results_json)
    write_results(files.results_json, facts, [replace(score, **fields) for score in scores])


def test_a_cell_with_a_limit_is_set_apart_and_never_ranked(tmp_path):
    for number, weights in enumerate(("aa", "bb")):
        write_run(tmp_path / weights, [Spec(right=ONE, num_total=120)], seed=number, weights=weights * 32)
    write_run(tmp_path / "cc", [Spec(right=ONE, num_items=50, num_total=120)], seed=3, weights="cc" * 32)
    board = board_of(tmp_path)
    [column] = board.columns
    assert (column.num_items, column.num_total) == (120, 120)
    cells = {cell.source: cell for cell in board.cells}
    assert cells["cc"].apart == "50 of 120 items"
    assert cells["cc"].best_rank is None and cells["cc"].letters == ""
    assert cells["aa"].apart == cells["bb"].apart == "" and cells["aa"].worst_rank == 2
    assert len(board.outcomes[column.key].models) == 2


def test_a_cell_that_is_set_apart_is_compared_on_the_common_items(tmp_path):
    write_run(tmp_path / "aa", [Spec(right=ONE)], weights="aa" * 32)
    write_run(tmp_path / "bb", [Spec(right=ONE, num_items=50)], seed=3, weights="bb" * 32)
    [difference] = board_of(tmp_path).differences
    assert difference.num_pairs == 50 and difference.p_value is not None


def test_other_shots_or_another_rule_make_another_column(tmp_path):
    for name, fields in (("aa", {}), ("bb", {"num_fewshot": 5}), ("cc", {"rule": "f" * 16})):
        changed_scores(write_run(tmp_path / name, [Spec(right=ONE)], weights=name * 32), rule="e" * 16)
        facts, scores = read_results(tmp_path / name / "results.json")
        write_results(tmp_path / name / "results.json", facts, [replace(one, **fields) for one in scores])
    board = board_of(tmp_path)
    assert len(board.columns) == 3 and len({column.label for column in board.columns}) == 3
    assert board.family.num_comparisons == 0
    assert any("5-shot" in column.label for column in board.columns)


def test_a_heading_has_no_digits_of_a_rule_where_words_tell_the_columns_apart(tmp_path):
    for name, fields in (("aa", {"rule": "e" * 16}), ("bb", {"rule": "f" * 16, "num_fewshot": 5})):
        changed_scores(write_run(tmp_path / name, [Spec(right=ONE)], weights=name * 32), **fields)
    labels = {column.label.split(" · ", 1)[1] for column in board_of(tmp_path).columns}
    assert labels == {"0-shot", "5-shot"}


def test_scores_of_an_earlier_version_without_a_rule_join_the_only_rule(tmp_path):
    changed_scores(write_run(tmp_path / "aa", [Spec(right=ONE)], weights="aa" * 32), rule="e" * 16)
    write_run(tmp_path / "bb", [Spec(right=ONE)], seed=1, weights="bb" * 32)
    [column] = board_of(tmp_path).columns
    assert column.rule == "e" * 16
    (tmp_path / "aa").rename(tmp_path / "zz")
    assert board_of(tmp_path).columns == (column,)  # in whichever order they are found


def test_results_that_contradict_their_predictions_are_an_alarm_and_not_tested(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    facts, scores = read_results(files.results_json)
    changed = [replace(one, value=0.99) if one.model == "adapter" else one for one in scores]
    write_results(files.results_json, facts, changed)
    board = board_of(tmp_path)
    [alarm] = board.alarms
    assert "results.json says acc 0.99, its file of predictions 0.8" in alarm
    adapter = next(model.key for model in board.models if model.role == "adapter")
    touched = [each for each in board.differences if adapter in (each.first, each.second)]
    assert touched and all(
        each.verdict == "not tested" and "results.json" in each.problem for each in touched
    )


def test_a_file_of_predictions_with_fewer_items_than_were_scored_shows_both_counts(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    path = files.predictions("adapter", "toy-reading-zh")
    write_predictions(path, read_predictions(path)[:100])
    board = board_of(tmp_path)
    assert "100 of the 120 items" in board.alarms[0]
    assert [cell.apart for cell in board.cells if cell.apart] == ["100 of 120 items"]


def test_a_repeated_id_is_refused_by_name(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    path = files.predictions("adapter", "toy-reading-zh")
    items = read_predictions(path)
    write_predictions(path, [*items[:-1], items[7]])
    board = board_of(tmp_path)
    [found] = {each.problem for each in board.differences if each.problem}
    assert "item '7' is there twice (lines 8 and 120)" in found


def test_a_score_that_is_not_a_number_is_refused_by_line(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    path = files.predictions("adapter", "toy-reading-zh")
    lines = path.read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), "scores": {"acc": float("nan")}})
    path.write_text("\n".join(lines) + "\n")
    [found] = {each.problem for each in board_of(tmp_path).differences if each.problem}
    assert "toy-reading-zh.jsonl:5" in found and "nan" in found


def test_an_untrained_head_is_compared_as_the_most_frequent_class_and_not_ranked(tmp_path):
    write_run(tmp_path / "run", [Spec(note={"base": "untrained head"}, right={"base": 0.1, "adapter": 0.9})])
    board = board_of(tmp_path)
    [difference] = board.differences
    targets = [one.target for one in read_predictions(tmp_path / "run/predictions/base/toy-reading-zh.jsonl")]
    adapter = next(cell.score.value for cell in board.cells if cell.score.model == "adapter")
    most = max(targets.count(label) for label in set(targets)) / len(targets)
    assert abs(difference.value - (adapter - most)) < 1e-12 and "most frequent class" in difference.problem
    [base] = [cell for cell in board.cells if cell.score.model == "base"]
    assert base.apart == "untrained head" and base.best_rank is None


def test_flips_between_adapter_and_merged_model_are_counted(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    path = files.predictions("merged", "toy-reading-zh")
    changed = read_predictions(path)
    wrong = [number for number, one in enumerate(changed) if not one.scores["acc"]][:2]
    for number in wrong:
        changed[number] = replace(changed[number], prediction=(changed[number].prediction + 1) % 4)
    write_predictions(path, changed)
    [merged] = [model for model in board_of(tmp_path).models if model.role == "merged"]
    assert (merged.facts["differs_from_adapter"], merged.facts["compared_with_adapter"]) == (2, 120)
    assert merged.remarks[-1] == (
        "toy-reading-zh: the merged model answers 2 of 120 items otherwise than the adapter"
    )


def test_the_same_items_in_another_order_are_said_to_be_that(tmp_path):
    write_run(tmp_path / "a", [Spec(right={"base": 0.4})], weights="1" * 64)
    write_run(tmp_path / "b", [Spec(right={"base": 0.5})], weights="2" * 64)
    files = write_run(tmp_path / "c", [Spec(right={"base": 0.6})], weights="3" * 64)
    path = files.predictions("base", Spec().name)
    write_predictions(path, reversed(read_predictions(path)))
    board = board_of(tmp_path)
    assert sorted(cell.apart for cell in board.cells) == ["", "", "the same items in another order"]


def scored_with(
    path, weights="aa" * 32, rules=None, cut=(), benchmark=None, fields=None, num_items=None, **evaluate
):
    """A run whose run.json says what it was scored with; the prompts of the items `cut` are cut."""
    limit = {} if num_items is None else {"num_items": num_items, "num_total": 120}
    files = write_run(path, [Spec(right=ONE, **limit)], weights=weights)
    told = {"version": 2, "evaluate": evaluate, "benchmark": benchmark or {}} | (
        {"rules": rules} if rules else {}
    )
    entry = {"inputs": "", "output": "", "settings": told}
    name = Spec().name
    answers_file = files.predictions("base", name)
    items = read_predictions(answers_file)
    for number in cut:
        items[number] = replace(items[number], prompt_hash=prompt_hash([str(evaluate)])[:16])
    write_predictions(answers_file, items)
    prompts = prompt_hash([item.prompt_hash for item in items])
    changed_scores(files, **{"prompts": prompts, "num_truncated": len(cut), **(fields or {})})
    entry["output"] = file_fingerprint(answers_file)
    write_json(files.run_json, {"schema_version": 1, "steps": {f"evaluate/base/{name}": entry}})
    return files


def headings(board):
    return sorted(column.label.removeprefix("toy-reading-zh").removeprefix(" · ") for column in board.columns)


def test_scores_of_items_that_two_policies_cut_are_in_columns_that_name_the_policy(tmp_path):
    scored_with(tmp_path / "left", cut=(3,), too_long="truncate-left")
    scored_with(tmp_path / "middle", cut=(3,), too_long="truncate-middle")
    board = board_of(tmp_path)
    assert headings(board) == ["too_long=truncate-left", "too_long=truncate-middle"]
    assert [cell.source for cell in board.cells] == ["left", "middle"]
    assert board.family.num_comparisons == 0


def test_a_policy_without_an_item_that_is_too_long_makes_no_column(tmp_path):
    scored_with(tmp_path / "refuse")
    scored_with(tmp_path / "skip", weights="bb" * 32, too_long="skip")
    scored_with(tmp_path / "left", weights="cc" * 32, cut=(3, 4), too_long="truncate-left")
    [column] = board_of(tmp_path).columns
    assert column.label == "toy-reading-zh"
    scored_with(tmp_path / "middle", weights="dd" * 32, cut=(3,), too_long="truncate-middle")
    scored_with(tmp_path / "other", weights="ee" * 32, too_long="truncate-left")
    board = board_of(tmp_path)
    assert headings(board) == ["too_long=truncate-left", "too_long=truncate-middle"]
    labels = {column.key: column.label for column in board.columns}
    places = {cell.source: labels[cell.column].partition("truncate-")[2] for cell in board.cells}
    assert places["other"] == places["left"] == "left" and places["middle"] == "middle"
    assert places["refuse"] == places["skip"], "both fit each policy"


def test_a_model_that_was_asked_by_other_prompts_has_a_column_for_each_setting(tmp_path):
    scored_with(tmp_path / "plain", cut=())
    scored_with(tmp_path / "system", cut=range(120), system="Be brief.", fields={"num_truncated": 0})
    board = board_of(tmp_path)
    assert headings(board) == ["system=(none)", "system=Be brief."]
    assert len(board.cells) == 2


def test_a_score_of_short_items_does_not_name_the_policy_of_another_length(tmp_path):
    scored_with(tmp_path / "left", cut=(3,), too_long="truncate-left", max_length=14)
    scored_with(tmp_path / "middle", cut=(3,), too_long="truncate-middle", max_length=14)
    scored_with(tmp_path / "long")
    assert headings(board_of(tmp_path)) == [
        "max_length=14 · too_long=truncate-left",
        "max_length=14 · too_long=truncate-middle",
        "max_length=null",
    ]


def test_a_heading_names_the_settings_in_which_two_rules_differ(tmp_path):
    letter = {"output_type": "generation", "generation": {"extract": "letter"}}
    number = {"output_type": "generation", "generation": {"extract": "number"}}
    digits = [{"rule": digit * 16} for digit in "abc"]
    scored_with(tmp_path / "a", benchmark=letter, rules={"extraction rules": 8}, fields=digits[0])
    scored_with(tmp_path / "b", benchmark=letter, rules={"extraction rules": 9}, fields=digits[1])
    assert headings(board_of(tmp_path)) == ["extraction rules=8", "extraction rules=9"]
    scored_with(tmp_path / "c", benchmark=number, rules={"extraction rules": 9}, fields=digits[2])
    assert headings(board_of(tmp_path)) == [
        "extract=letter · extraction rules=8",
        "extract=letter · extraction rules=9",
        "extract=number · extraction rules=9",
    ]
    changed_scores(scored_with(tmp_path / "b", benchmark=letter, temperature=0.7), rule="b" * 16)
    (tmp_path / "c").rename(tmp_path.parent / "c")
    assert headings(board_of(tmp_path)) == [
        "temperature=0.0 · extraction rules=8",
        "temperature=0.7 · extraction rules=earlier",
    ]
