"""The leaderboard in the terminal."""

import io
from dataclasses import replace

import pytest
from leaderboard_runs import Spec, write_run
from rich.cells import cell_len
from rich.console import Console

from workbench.evaluation.records import read_results, write_results
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare
from workbench.leaderboard.run_page import html
from workbench.leaderboard.table import render


def printed(folder, label=None, width=80):
    output = io.StringIO()
    Console(width=width, file=output).print(render(compare(collect(folder)), label))
    return output.getvalue()


def test_base_adapter_and_merged_stand_side_by_side_with_intervals_and_a_plain_word(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="toy-reading-en", language="en")])
    text = printed(tmp_path)
    [row] = compare(collect(tmp_path)).runs[0].rows[:1]
    for model in ("base", "adapter", "merged"):
        score = row.scores[model]
        assert f"{100 * score.value:.1f}" in text
        assert f"{100 * score.interval[0]:.1f}–{100 * score.interval[1]:.1f}" in text
    assert f"{100 * row.difference.value:+.1f}" in text and "p < 0.001" in text
    assert "better" in text and "120 items" in text and "chance 25.0" in text
    assert "the merged model gives the same answers as the adapter to all 240 items" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width, runs):
    text = printed(runs, width=width)
    assert all(cell_len(line) <= width for line in text.splitlines())


def test_at_80_columns_no_number_is_cut(runs):
    text = printed(runs)
    assert "…" not in text


def test_several_runs_are_listed_and_the_named_one_is_shown_in_full(runs):
    text = printed(runs, "quickstart", width=100)
    assert "quickstart-0badcafe" in text and "toy-reading-en" in text
    assert "常识问答" not in text
    assert "常识问答" in printed(runs)


def test_an_untrained_head_is_no_score(tmp_path):
    write_run(tmp_path / "run", [Spec(note={"base": "untrained head"})])
    text = printed(tmp_path)
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
    text = printed(tmp_path)
    assert "[red]x[/red]␛[2J" in text and "\x1b[2J" not in text


def test_the_letters_that_a_model_prefers_are_shown_and_examples_that_did_not_fit(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    letters = {"base": {"A": 90, "B": 10, "C": 0}, "adapter": {"A": 30, "B": 40, "C": 30}}
    scores = [
        replace(one, letters=letters.get(one.model, {}), permutations=3, num_shots_dropped=7)
        for one in scores
    ]
    write_results(files.results_json, about, scores)
    text = " ".join(printed(tmp_path, width=200).split())
    assert "toy-reading-zh: base answers A 90% · B 10% · C 0%, over 3 orders of the options" in text
    assert "adapter answers A 30% · B 40% · C 30%" in text
    assert "toy-reading-zh: 7 few-shot examples left out of too long prompts" in text
    page = html(compare(collect(tmp_path)))
    assert "Likeliest letter" in page and "A 90% · B 10% · C 0%, over 3 orders of the options" in page
