"""scores and ranks as pictures."""

import importlib.util
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from board_maker import Size, make_board

pytest.importorskip("matplotlib")

from workbench.leaderboard.outputs import pictures, writing  # noqa: E402 -- it imports matplotlib


def texts_of(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def small():
    return make_board(Size(models=4, columns=2, items=20))


def test_equal_boards_give_equal_pictures(small):
    first, second = pictures.draw(small), pictures.draw(small)
    assert first == second and list(first) == ["scores.png", "scores.svg", "ranks.png", "ranks.svg"]
    assert first["scores.png"].startswith(b"\x89PNG")


def test_every_model_and_column_is_named_in_the_svg(small):
    texts = texts_of(pictures.draw(small)["scores.svg"])
    assert {model.name for model in small.models} <= set(texts)
    assert {"cmmlu", "accuracy, 20 of 11,582 items"} <= set(texts)


def test_names_of_others_are_text_in_the_svg(hostile):
    texts = texts_of(pictures.draw(hostile)["scores.svg"])
    assert "</script><img src=x onerror=alert(1)>" in texts
    assert "=1+1 {{ 7*7 }} ${x} `y`" in texts


def test_a_dot_is_at_its_score(small):
    figure = pictures.scores_figure(small)
    models = pictures.shown(small)
    scores = {(cell.model, cell.column): 100 * cell.score.value for cell in small.cells}
    for axes, column in zip(figure.axes, small.columns, strict=True):
        dots = axes.collections[-1].get_offsets().tolist()
        assert dots == [[scores[model.key, column.key], place] for place, model in enumerate(models)]


def test_a_board_of_many_models_shows_the_best_and_says_how_many():
    board = make_board(Size(models=33, columns=2, items=20))
    models = pictures.shown(board)
    means = next(mean.scores for mean in board.means if mean.name == "all")
    assert len(models) == 30 and models[0].key == max(means, key=lambda key: means[key].raw)
    assert "30 of 33 models" in texts_of(pictures.draw(board)["scores.svg"])


def test_without_scores_nothing_is_drawn(small):
    assert pictures.draw(replace(small, cells=(), means=())) == {}


def test_without_matplotlib_one_line_says_what_to_install_and_no_old_picture_stays(
    small, tmp_path, monkeypatch
):
    writing.write_pictures(small, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(writing, "find_spec", importlib.util.find_spec)
    writing.write_pictures(small, tmp_path)
    assert not list(tmp_path.iterdir())
    assert writing.missing_pictures() == "pictures: none (pip install 'open-llama-workbench[plots]' for them)"


def test_a_picture_of_ones_own_is_left_alone_where_none_is_drawn(tmp_path, small, monkeypatch):
    writing.write_pictures(small, tmp_path)
    (tmp_path / "ranks.svg").write_text("<svg>mine</svg>")
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    writing.write_pictures(small, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.svg"]
