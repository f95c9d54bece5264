"""The board in the terminal."""

import csv
import io
import re
from dataclasses import replace

import pytest
from leaderboard_runs import Spec, write_run
from rich.cells import cell_len
from rich.console import Console

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import read_results, write_results
from workbench.leaderboard import formatting, run_table, table
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.outputs import csv_files
from workbench.leaderboard.page.core import later
from workbench.pipeline.leaderboard import show
from workbench.run_dir import write_json


def output_of(renderable, width):
    output = io.StringIO()
    Console(width=width, file=output).print(renderable)
    return output.getvalue()


def printed(folder, width=80):
    return output_of(table.render(build(collect(folder), LeaderboardConfig()), width), width)


def own_printed(folder, width=80):
    board = run_table.own_board(collect(folder).runs[0], LeaderboardConfig())
    return output_of(run_table.render_run(board), width)


def test_base_adapter_and_merged_stand_side_by_side_with_intervals_and_a_plain_word(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="toy-reading-en", language="en")])
    text = own_printed(tmp_path)
    board = run_table.own_board(collect(tmp_path).runs[0], LeaderboardConfig())
    for cell in board.cells:
        assert f"{100 * cell.score.value:.1f}" in text
        assert f"{100 * cell.score.interval[0]:.1f}–{100 * cell.score.interval[1]:.1f}" in text
    assert f"{100 * board.differences[0].value:+.1f}" in text and "p < 0.001" in text
    assert "better" in text and "120 items" in text and "chance 25.0" in text
    assert "the merged model gives the same answers as the adapter to all 240 items" in text


def test_a_run_alone_is_corrected_for_its_own_comparisons(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="toy-reading-en", language="en")])
    assert "p is corrected for 9 comparisons" in " ".join(own_printed(tmp_path).split())


def test_ranks_stand_below_the_scores_with_what_they_rest_on(runs):
    text = printed(runs, width=120)
    assert "1–2 a" in text and "3 b" in text
    words = " ".join(text.split())
    assert "paired comparisons of any two models" in words and "is at most 3%" in words


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width, runs):
    for text in (printed(runs, width), own_printed(runs, width)):
        assert all(cell_len(line) <= width for line in text.splitlines())


def test_at_80_columns_no_number_is_cut(runs):
    assert "…" not in printed(runs) + own_printed(runs)


def test_chinese_names_are_aligned(tmp_path):
    write_run(tmp_path / "run", [Spec(name="常识问答")], base_model="模型/通义千问")
    lines = printed(tmp_path, width=100).splitlines()
    header = next(line for line in lines if "常识问答" in line)
    row = next(line for line in lines if "通义千问" in line)
    value = re.search(r"\d+\.\d", row)
    assert cell_len(row[: value.end()]) == cell_len(header[: header.index("答") + 1])


def test_columns_that_do_not_fit_are_shown_below(tmp_path):
    names = [f"benchmark-number-{number}" for number in range(6)]
    write_run(tmp_path / "run", [Spec(name=name, num_items=20) for name in names])
    lines = printed(tmp_path, width=60).splitlines()
    assert sum(line.split()[:1] == ["model"] for line in lines) > 1


def test_an_untrained_head_is_no_score(tmp_path):
    write_run(tmp_path / "run", [Spec(note={"base": "untrained head"})])
    text = own_printed(tmp_path)
    assert "untrained" in text and "majority 30.0" in text and "vs majority class" in text


def test_a_skipped_file_is_named(runs):
    (runs / "quickstart" / "results.json").write_text("{}")
    assert "skipped quickstart/results.json: not the results" in printed(runs)


def test_an_empty_folder_says_so(tmp_path):
    assert "no run has been scored yet" in printed(tmp_path)


def test_names_can_neither_style_the_terminal_nor_move_its_cursor(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    facts, scores = read_results(files.results_json)
    named = [replace(score, benchmark="[red]x[/red]\x1b[2J") for score in scores]
    write_results(files.results_json, facts, named)
    for text in (printed(tmp_path), own_printed(tmp_path)):
        assert "[red]x[/red]" in text and "␛" in text and "\x1b[2J" not in text


def test_forgetting_is_said_in_a_line(tmp_path):
    right = {"base": 0.9, "adapter": 0.5}
    write_run(tmp_path / "run", [Spec(right=right), Spec(name="b", right=right), Spec(name="c", right=right)])
    board = build(collect(tmp_path), LeaderboardConfig(trained_for=["b"]))
    text = " ".join(output_of(table.render(board, 80), 80).split())
    assert "forgetting: toy · adapter against toy on 2 benchmarks that it was not trained for: −" in text
    assert ", worse" in text


def test_the_letters_that_a_model_prefers_are_shown_and_examples_that_did_not_fit(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    letters = {"base": {"A": 90, "B": 10, "C": 0}, "adapter": {"A": 30, "B": 40, "C": 30}}
    scores = [
        replace(one, letters=letters.get(one.model, {}), permutations=3, num_shots_dropped=7, num_skipped=2)
        for one in scores
    ]
    write_results(files.results_json, about, scores)
    text = " ".join(own_printed(tmp_path, width=200).split())
    assert "toy-reading-zh: base answers A 90% · B 10% · C 0%, over 3 orders of the options" in text
    assert "adapter answers A 30% · B 40% · C 30%" in text
    assert "toy-reading-zh: 7 few-shot examples left out of too long prompts" in text
    assert "toy-reading-zh: 2 questions left out, longer than the model's context" in text
    details = later(build(collect(tmp_path), LeaderboardConfig()))["details"]
    assert details and all(detail["too_long"] == [0, 2] for detail in details)


def test_how_generated_texts_end_is_shown_beside_their_score(tmp_path):
    files = write_run(tmp_path / "run", [Spec(metric="exact_match")])
    about, scores = read_results(files.results_json)
    texts = {"texts": 120, "stop": 90, "length": 30, "in_thought": 6, "unextracted": 12}
    other = {"texts": 120, "stop": 0, "length": 0, "in_thought": 0}
    cut = {"texts": 120, "stop": 117, "length": 3, "in_thought": 0, "unextracted": 0}
    of_model = {"base": texts, "adapter": other, "merged": cut}
    scores = [replace(score, texts=of_model.get(score.model, {})) for score in scores]
    write_results(files.results_json, about, scores)
    text = " ".join(own_printed(tmp_path, width=200).split())
    ends = "120 texts: no answer in 10.0% · 25.0% cut at the token limit · 5.0% within a thought"
    assert f"toy-reading-zh: base writes {ends}" in text
    assert "toy-reading-zh: merged writes 120 texts: 2.5% cut at the token limit" in text
    assert "adapter writes" not in text and " 0.0%" not in text
    board = build(collect(tmp_path), LeaderboardConfig())
    assert [detail.get("texts") for detail in later(board)["details"]] == [texts, other, cut]
    table_rows = list(csv.DictReader(io.StringIO(csv_files.scores(board))))
    shares = ("unextracted", "cut_at_limit", "in_thought")
    assert [table_rows[0][name] for name in shares] == ["0.1", "0.25", "0.05"]
    assert [table_rows[1][name] for name in shares] == ["", "0.0", "0.0"]
    assert [table_rows[2][name] for name in shares] == ["0.0", "0.025", "0.0"]


@pytest.mark.parametrize("counts", [["texts"], {"texts": -1}, {"texts": 1.5}])
def test_malformed_counts_of_texts_are_refused(tmp_path, counts):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    write_results(files.results_json, about, [replace(score, texts=counts) for score in scores])
    assert "texts" in collect(tmp_path).skipped[0].reason


@pytest.mark.parametrize("width", [72, 80, 93, 100, 101, 110, 125])
def test_names_of_benchmarks_are_not_broken_at_any_width(tmp_path, width):
    names = ("toy_choice_zh", "toy_exact_zh", "toy_choice_en", "toy_exact_en")
    write_run(tmp_path / "run", [Spec(name=name, language=name[-2:]) for name in names])
    text = printed(tmp_path, width)
    assert [name for name in names if name not in text] == []


def test_means_are_above_chance_as_they_are_tested_and_as_the_note_says(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="another", num_items=50)])
    board = build(collect(tmp_path), LeaderboardConfig())
    for score in board.means[0].scores.values():
        assert score.raw != pytest.approx(score.normalized)
        assert f"{100 * score.normalized:.1f}" in printed(tmp_path)
        assert f"{100 * score.raw:.1f}" not in printed(tmp_path)


def test_the_title_is_on_one_line_above_a_narrow_table(tmp_path):
    write_run(tmp_path / "run", [Spec()])
    assert re.match(r"Leaderboard: 3 models on 1 benchmark\s*\n", printed(tmp_path))


def test_the_title_counts_a_benchmark_once_and_says_where_it_has_two_columns(tmp_path):
    for name, shots in (("aa", 0), ("bb", 5)):
        files = write_run(tmp_path / name, [Spec(right={"base": 0.4})], weights=name * 32)
        facts, scores = read_results(files.results_json)
        write_results(files.results_json, facts, [replace(score, num_fewshot=shots) for score in scores])
    assert re.match(r"Leaderboard: 2 models on 1 benchmark in 2 columns\s*\n", printed(tmp_path))


def test_a_column_has_room_for_the_longest_word_said_instead_of_ranks():
    assert cell_len("untrained") <= table.NARROWEST_CELL


def test_a_mean_that_rounds_to_zero_has_no_sign():
    assert [formatting.number(value, True) for value in (-0.0004, -0.0, -0.0006)] == ["0.0", "0.0", "-0.1"]


def test_the_title_of_a_run_names_the_model_without_its_folders_and_its_quantization(tmp_path):
    write_run(tmp_path / "run", [Spec()])
    board = run_table.own_board(collect(tmp_path).runs[0], LeaderboardConfig())
    facts = {"path": "/data/models/Smol-135M.Q4_1.gguf", "quantization": "nf4"}
    board = replace(board, models=[replace(model, facts=facts) for model in board.models])
    assert "run · Smol-135M.Q4_1 · nf4" in output_of(run_table.render_run(board), 80)


def shown(folder, capsys, **settings):
    collection, config = collect(folder), LeaderboardConfig(**settings)
    show(build(collection, config), collection.runs, config)
    return " ".join(capsys.readouterr().out.split())


def test_a_model_that_failed_is_named_although_only_one_run_has_scores(tmp_path, capsys):
    write_run(tmp_path / "run", [Spec()])
    assert "Leaderboard:" not in shown(tmp_path, capsys)
    (tmp_path / "lost").mkdir()
    failure = {"name": "lost", "model": {"path": "nowhere"}, "reason": "no such folder"}
    write_json(tmp_path / "lost/failure.json", failure)
    assert "lost: not scored: no such folder" in shown(tmp_path, capsys)


def test_a_folder_with_brackets_in_its_name_keeps_them(tmp_path, capsys):
    write_run(tmp_path / "run [b]", [Spec()])
    assert "run [b] · toy" in shown(tmp_path, capsys)


def test_forgetting_that_was_asked_for_is_told_of_a_single_run(tmp_path, capsys):
    write_run(tmp_path / "run", [Spec(), Spec(name="toy-reading-en", language="en")])
    assert "forgetting: " in shown(tmp_path, capsys, trained_for=["toy-reading-zh"])
