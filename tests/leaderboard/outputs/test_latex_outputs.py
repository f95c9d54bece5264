"""leaderboard.tex: that it is LaTeX, which shows names as they are."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from workbench.leaderboard.outputs import latex
from workbench.leaderboard.outputs.texts import latex as escaped


def tables(text):
    """The rows of each table, split into cells."""
    bodies = re.findall(r"\\begin\{tabular\}\{(l?c*)\}\n(.*?)\\end\{tabular\}", text, re.S)
    return [
        (columns, [re.split(r"(?<!\\)&", row) for row in re.findall(r"^(.*) \\\\$", body, re.M)])
        for columns, body in bodies
    ]


def is_balanced(text):
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("name", ["board", "hostile"])
def test_every_row_has_as_many_cells_as_its_table_has_columns(name, request):
    found = tables(latex.text(request.getfixturevalue(name)))
    assert len(found) == 5
    assert all(len(row) == len(columns) for columns, rows in found for row in rows)


@pytest.mark.parametrize("name", ["board", "hostile"])
def test_braces_are_balanced(name, request):
    assert is_balanced(latex.text(request.getfixturevalue(name)))


def test_special_characters_are_text():
    assert escaped("a&b_c%d#e$f") == r"a\&b\_c\%d\#e\$f"
    assert escaped(r"\input{x}~^") == r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}"
    assert escaped("<a|b>`c") == r"\textless{}a\textbar{}b\textgreater{}\textasciigrave{}c"


def test_a_name_in_brackets_is_not_the_option_of_the_line_end_before_it():
    assert escaped("[2em] *") == "{[}2em{]} {*}"


def test_hyphens_do_not_join_to_a_dash():
    assert escaped("a---b") == "a-{}-{}-b"


def test_wide_and_long_boards_are_split_into_tables_that_fit_a_page(board):
    models = tuple(replace(board.models[0], key=f"{number:x}", name=f"m{number}") for number in range(90))
    text = latex.text(replace(board, models=models, means=()))
    assert len(tables(text)) == 3 * 2
    assert max(len(rows) for _, rows in tables(text)) == 40 + 2


def test_a_score_that_nothing_beats_is_bold_and_one_apart_has_a_dagger(board):
    text = latex.text(board)
    best = next(cell for cell in board.cells if cell.best_rank == 1)
    assert rf"\textbf{{{100 * best.score.value:.1f}}}" in text
    assert r"40.0 {\scriptsize (38.1--41.9)}\textsuperscript{\dag}" in text


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("xelatex"), reason="XeLaTeX is not installed")
@pytest.mark.parametrize("name", ["board", "hostile"])
def test_xelatex_compiles_it(name, request, tmp_path):
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{fontspec}\\begin{document}\n"
    (tmp_path / "x.tex").write_text(
        head + latex.text(request.getfixturevalue(name)) + "\\end{document}\n", encoding="utf-8"
    )
    command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
