"""What the page of models carries, and how it is packed."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from board_maker import HOSTILE, MadeTexts, Size, make_board, with_values

from workbench import shown
from workbench.leaderboard.board import BETTER, UNSURE, WORSE
from workbench.leaderboard.page import ColumnTexts, NoTexts, bundle, html, items, packed_differences, write
from workbench.leaderboard.page.containers import packed
from workbench.leaderboard.page.size_limit import Shelf

SMALL = Size(models=5, columns=3, items=30)
DTYPES = {"u1": np.uint8, "i1": np.int8, "u2": np.uint16, "i2": np.int16, "u4": np.uint32, "i4": np.int32}


def unpacked(text):
    """Return values and arrays of a packed container, read by zlib and numpy."""
    data = zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS)
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    return header["values"], {
        name: np.frombuffer(data, np.dtype(DTYPES[kind]), size, 4 + length + offset)
        for name, (kind, offset, size) in header["arrays"].items()
    }


def chunks(page):
    """Return the packed chunks of a page by name."""
    return dict(re.findall(r'<script type="application/octet-stream" id="([\w-]+)">([^<]*)</script>', page))


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_arrays_come_back_as_they_were_and_start_at_multiples_of_eight():
    first, second = np.arange(5, dtype=np.uint8), np.array([-3, 70000], np.int32)
    text = packed({"a": "中<"}, {"first": first, "second": second})
    values, arrays = unpacked(text)
    assert values == {"a": "中<"}
    assert arrays["first"].tolist() == first.tolist() and arrays["second"].tolist() == [-3, 70000]
    assert zlib.decompress(base64.b64decode(text), -15).index(b"\x00\x01\x02\x03\x04") % 8 == 0


def test_outcomes_are_one_bit_each_items_outermost():
    outcomes = make_board(SMALL).outcomes[f"{0xC000:016x}"]
    values, arrays = unpacked(items.packed_outcomes(outcomes))
    bits = np.unpackbits(arrays["scores"], count=5 * 30, bitorder="little").reshape(30, 5)
    assert values["levels"] == [0, 1] and (outcomes.values == bits.T).all()
    assert values["ids"] == list(outcomes.ids) and "clusters" not in arrays
    assert [values["subsets"][code] for code in arrays["subsets"]] == list(outcomes.subsets)


def test_scores_of_several_levels_keep_their_values():
    board, key = make_board(SMALL), f"{0xC000:016x}"
    scores = np.random.default_rng(0).integers(0, 7, (5, 30)) / 6
    values, arrays = unpacked(items.packed_outcomes(with_values(board, key, scores).outcomes[key]))
    assert np.allclose(np.array(values["levels"])[arrays["scores"].reshape(30, 5)].T, scores, atol=1e-6)


def test_items_of_one_text_carry_their_cluster():
    outcomes = make_board(replace(SMALL, cluster=3)).outcomes[f"{0xC002:016x}"]
    assert unpacked(items.packed_outcomes(outcomes))[1]["clusters"].tolist() == [i // 3 for i in range(30)]


def test_a_margin_is_the_right_option_minus_the_best_wrong_one():
    likelihoods = np.array([[[-1.0, -3.5, -2.0], [-9.0, -4.0, np.nan]]], np.float32)
    margins = items.margins_of(likelihoods, [(1,), (0, 1)])
    assert margins[0, 0] == pytest.approx(-2.5) and np.isnan(margins[0, 1])  # of the second, none is wrong
    values, arrays = unpacked(items.packed_margins(likelihoods, [(1,), (0, 1)]))
    assert (arrays["margins"] * values["step"]).tolist() == pytest.approx([-2.5, -12.8])


def test_likelihoods_keep_two_digits_and_long_texts_a_coarser_step():
    likelihoods = np.array([[[-1.234, -900.0], [-3.0, -4.0]]], np.float32)
    mask = np.array([[True, False]])
    values, arrays = unpacked(items.packed_likelihoods(likelihoods, mask))
    assert arrays["values"].size == 2 and np.unpackbits(arrays["mask"], bitorder="little")[:2].tolist() == [
        1,
        0,
    ]
    assert np.allclose(arrays["values"] * values["step"], [-1.234, -900.0], atol=values["step"] / 2 + 1e-3)


def test_an_equal_text_is_carried_once():
    texts = [["same", "a"], ["same", None]]
    values, arrays = unpacked(items.packed_generations(texts, np.ones((2, 2), bool)))
    assert values["texts"] == ["same", "a"] and arrays["codes"].tolist() == [1, 1, 2, 0]


def test_a_long_question_keeps_its_end():
    texts = ColumnTexts(questions=["长" * 3000 + "问？"], choices=[[]], targets=[("x",)])
    values, _ = unpacked(items.packed_questions(texts, np.array([True])))
    assert values["questions"][0].endswith("长问？") and values["questions"][0].startswith("… (1,002)")


def test_targets_of_numpy_and_columns_without_options_are_packed():
    outcomes = make_board(SMALL).outcomes[f"{0xC000:016x}"]
    texts = ColumnTexts(
        questions=["?"] * 30,
        choices=[[]] * 30,
        targets=[(np.int64(2), "two")] * 30,
        loglikelihoods=np.zeros((5, 30, 0), np.float32),
    )
    shelf = Shelf(10**6)
    items.add_items(shelf, 0, outcomes, texts, 0)
    packed_parts = {chunk.name: chunk.text for chunk in shelf.chunks}
    assert set(packed_parts) == {"items-0", "questions-0", "more_questions-0"}
    assert unpacked(packed_parts["questions-0"])[0]["targets"][0] == [2, "two"]


def test_what_is_needed_most_stays_on_a_full_shelf():
    shelf = Shelf(10)
    for name, priority, size in (("texts", 5, 6), ("outcomes", 0, 4), ("chosen", 1, 5), ("more", 7, 1)):
        shelf.add(name, priority, "x" * size)
    assert [chunk.name for chunk in shelf.chunks] == ["outcomes", "chosen", "more"]
    assert shelf.dropped == ["texts"] and shelf.left(1) == 1


def test_a_page_never_exceeds_its_size_and_names_what_it_left_out():
    board = make_board(Size(models=6, columns=8, items=200))
    texts = MadeTexts(board)
    whole = html(board, texts)
    room = len(whole.encode()) - 150_000
    page = html(board, texts, room)
    index = json.loads(re.search(r'id="chunks">(.*?)</script>', page)[1])
    assert len(page.encode()) <= room and 'dropped":[]' in whole
    assert index["dropped"] and not any(name.startswith("items") for name in index["dropped"])
    assert set(index["chunks"]) == set(chunks(page)) - {"later"}


def test_each_column_is_asked_for_once_in_order():
    board = make_board(SMALL)
    texts = MadeTexts(board)
    html(board, texts)
    assert texts.asked == [column.key for column in board.columns]


def test_equal_boards_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        board = make_board(SMALL)
        write(board, MadeTexts(board), tmp_path / name)
    first, second = ((tmp_path / name / "leaderboard.html").read_bytes() for name in ("a", "b"))
    assert first == second and str(tmp_path).encode() not in first


def test_a_secret_is_masked_inside_what_is_packed(monkeypatch):
    monkeypatch.setattr(shown, "_secrets", {"hf_secret_token"})
    board = make_board(SMALL)
    record = {
        "command": "HF_TOKEN=hf_secret_token python",
        "config": {"hf_secret_token": ["hf_secret_token"]},
    }
    page = html(replace(board, title="hf_secret_token", provenance={"run-0": record}), NoTexts())
    values, _ = unpacked(chunks(page)["later"])
    assert "hf_secret_token" not in page and "hf_secret_token" not in json.dumps(values)
    assert values["provenance"]["run-0"]["command"] == "HF_TOKEN=*** python"


def test_numbers_that_json_does_not_know_are_left_out():
    board = make_board(SMALL)
    first = replace(board.models[0], facts={"rank": float("nan"), "curves": {"loss": [[1, float("inf")]]}})
    values, _ = unpacked(chunks(html(replace(board, models=(first, *board.models[1:])), NoTexts()))["later"])
    assert values["curves"][0] == {"loss": [[1, None]]}


def test_the_policy_lets_only_the_pages_own_style_and_script_run():
    page = html(make_board(SMALL), NoTexts())
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for tag in ("style", "script"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_is_loaded_from_anywhere():
    page = html(make_board(SMALL), NoTexts())
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or (tag, value) == ("link", "data:,")
        assert not any(name == "style" or name.startswith("on") for name in attributes)
    addresses = set(re.findall(r"https?://[^\s\"'`]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a format, not an address
    assert "@import" not in page and "url(" not in page and "eval(" not in page and "innerHTML" not in page


def test_names_from_files_can_not_become_markup():
    board = make_board(replace(SMALL, models=8, columns=6, hostile=True))
    evil = HOSTILE[0]
    board = replace(board, title=evil, alarms=(evil,), provenance={evil: {evil: evil}})
    page = html(board, MadeTexts(board))
    kinds = [attributes.get("type") for tag, attributes in Elements(page).found if tag == "script"]
    assert kinds.count(None) == 1 and not any(tag == "img" for tag, _ in Elements(page).found)
    assert "\x1b" not in page and "\u202e" not in page
    core = json.loads(re.search(r'id="core">(.*?)</script>', page)[1])
    assert core["title"] == evil and "␛[31mred" in core["models"][2]["name"]


def test_an_empty_board_is_a_page_too():
    board = make_board(SMALL)
    empty = replace(
        board, models=(), columns=(), cells=(), outcomes={}, differences=(), means=(), subjects=()
    )
    empty = replace(empty, forgetting=(), seeds=(), provenance={})
    assert "0 models, 0 columns" in html(empty, NoTexts())


def test_readers_without_javascript_find_every_score():
    board = make_board(SMALL)
    [table] = re.findall(r"<noscript>(.*?)</noscript>", html(board, NoTexts()), re.DOTALL)
    for cell in board.cells:
        assert f"<td>{100 * cell.score.value:.1f}</td>" in table


def test_of_too_many_differences_those_with_a_verdict_stay(monkeypatch):
    monkeypatch.setattr(packed_differences, "MOST", 10)
    board = make_board(Size(models=6, columns=8, items=200))
    found = sum(difference.verdict in (BETTER, WORSE) for difference in board.differences)
    assert found > 0
    models = {model.key: number for number, model in enumerate(board.models)}
    columns = {column.key: number for number, column in enumerate(board.columns)}
    values = packed_differences.packed_differences(board.differences, models, columns)
    shown_verdicts = [packed_differences.VERDICTS[code] for code in values["verdict"]]
    assert len(shown_verdicts) == 10 and values["total"] == len(board.differences)
    assert sum(verdict != UNSURE for verdict in shown_verdicts) == min(10, found)


def test_no_two_modules_of_the_script_use_one_name():
    names = re.findall(r"^(?:async )?(?:const|let|function) (\w+)", bundle.script(), re.MULTILINE)
    assert sorted(set(names)) == sorted(names)
    assert not re.findall(r"^(?:import|export)\b", bundle.script(), re.MULTILINE)
    assert "</script" not in bundle.script() and "<!--" not in bundle.script()


def test_both_languages_have_the_same_texts_with_the_same_values():
    texts = {}
    for language in ("english", "chinese"):
        source = (bundle.HERE / "js" / f"{language}.js").read_text(encoding="utf-8")
        found = re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', source)
        texts[language] = {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in found}
        assert len(found) == len(texts[language]) > 200
    assert texts["english"] == texts["chinese"]
