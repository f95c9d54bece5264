"""The leaderboard's page, and the Markdown and JSON beside it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from leaderboard_runs import Spec, write_run

from workbench.evaluation.records import (
    Prediction,
    read_predictions,
    read_results,
    write_predictions,
    write_results,
)
from workbench.leaderboard import run_page as page
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """The elements of a page, and whether they are nested well."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text, self.faults = [], [], [], []
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def content(self):
        return " ".join(" ".join(self.text).split())


def board_of(folder):
    return compare(collect(folder))


def test_the_page_is_well_formed_and_shows_every_run_and_benchmark_of_both_languages(runs):
    parsed = Page(page.html(board_of(runs)))
    assert parsed.faults == []
    text = parsed.content()
    for name in ("quickstart", "quickstart-0badcafe", "toy-reading-zh", "toy-reading-en", "常识问答"):
        assert name in text
    assert "31.4 s" in text and "1.15 GiB" in text


def test_scores_intervals_and_differences_are_those_of_the_board(runs):
    board = board_of(runs)
    text = Page(page.html(board)).content()
    for view in board.runs:
        for row in view.rows:
            for score in row.scores.values():
                assert f"{100 * score.interval[0]:.1f}–{100 * score.interval[1]:.1f}" in text
            assert f"{100 * row.difference.value:+.1f}".replace("-", "−") in text
            assert row.difference.verdict in text


def test_dots_and_whiskers_stand_where_the_scores_are(tmp_path):
    write_run(tmp_path / "run", [Spec()])
    board = board_of(tmp_path)
    [row] = board.runs[0].rows
    [panel] = page.panels(board.runs)
    parsed = Page(page.html(board))
    base = row.scores["base"]
    [dot] = [a for tag, a in parsed.elements if tag == "circle" and a["class"] == "base" and "%" in a["cx"]]
    assert dot["cx"] == f"{panel.axis.x(base.value)}%"
    [line] = [
        a for tag, a in parsed.elements if tag == "line" and a["class"] == "whisker base" and "%" in a["x1"]
    ]
    assert (line["x1"], line["x2"]) == tuple(f"{panel.axis.x(end)}%" for end in base.interval)
    assert panel.axis.x(panel.axis.low) == 0 and panel.axis.x(panel.axis.high) == 100
    [picture] = [a for tag, a in parsed.elements if tag == "svg" and "base" in a.get("aria-label", "")]
    assert f"base {100 * base.value:.1f}" in picture["aria-label"]


def test_nothing_is_loaded_from_anywhere(runs):
    text = page.html(board_of(runs))
    assert "http:" not in text and "https:" not in text
    for tag, attributes in Page(text).elements:
        for name in ("src", "href", "action", "data", "xlink:href", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or (tag, value) == ("link", "data:,")
        assert not any(name == "style" or name.startswith("on") for name in attributes)
    assert "@import" not in text and "url(" not in text


def test_the_policy_lets_only_the_pages_own_style_and_script_in(runs):
    text = page.html(board_of(runs))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none';")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


EVIL = "</div></script><script>alert(1)</script><img src=x onerror=alert(1)>"
EVIL += "\"' onmouseover='x {{ 7*7 }} \x1b[2J\x00\ud800"


def test_what_models_and_files_say_can_not_become_markup(tmp_path):
    files = write_run(
        tmp_path / "<img src=x onerror=alert(1)>", [Spec(), Spec(name="free", metric="exact_match")]
    )
    for model in ("base", "adapter", "merged"):
        path = files.predictions(model, "toy-reading-zh")
        told = [replace(one, context=EVIL, choices=[EVIL] * 4) for one in read_predictions(path)]
        path.write_text("".join(json.dumps({"schema_version": 1, **vars(one)}) + "\n" for one in told))
        path = files.predictions(model, "free")
        said = [
            replace(one, choices=[], loglikelihoods=[], generation=EVIL, target=EVIL)
            for one in read_predictions(path)
        ]
        path.write_text("".join(json.dumps({"schema_version": 1, **vars(one)}) + "\n" for one in said))
    text = files.results_json.read_text()
    values = json.loads(text)
    values |= {"recipe": EVIL, "base_model": EVIL, "models": {EVIL: {"quantization": EVIL, "weights": EVIL}}}
    for score in values["scores"]:
        score |= {"protocol": EVIL, "prompts": EVIL, "subsets": {EVIL: {"value": 0.5, "num_items": 3}}}
    files.results_json.write_text(json.dumps(values))
    files.run_json.write_text(json.dumps({"train": {EVIL: EVIL}, EVIL: {EVIL: 1}}))
    written = page.write(board_of(tmp_path), tmp_path / "out")
    parsed = Page(written.read_text(encoding="utf-8"))
    assert parsed.faults == []
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert not any(tag == "img" for tag, _ in parsed.elements)
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    raw = written.read_text(encoding="utf-8")
    assert "\x1b" not in raw and "\x00" not in raw
    assert "onmouseover='x {{ 7*7 }} ␛[2J␀?" in parsed.content()


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(tmp_path):
    for place in ("one", "two"):
        write_run(tmp_path / place / "a", [Spec(), Spec(name="b", language="en")])
        write_run(tmp_path / place / "b", [Spec(subsets=("法学", "医学"), average="macro")])
        page.write(board_of(tmp_path / place), tmp_path / place)
    one, two = ((tmp_path / place / "leaderboard.html").read_bytes() for place in ("one", "two"))
    assert one == two and str(tmp_path).encode() not in one


def test_items_that_the_trained_model_gained_are_shown_with_both_answers(tmp_path):
    write_run(tmp_path / "run", [Spec()])
    board = board_of(tmp_path)
    sample = board.runs[0].rows[0].gained[0]
    text = Page(page.html(board)).content()
    assert "Items gained: base wrong, adapter right" in text
    assert sample.first.context in text
    assert f"{sample.first.loglikelihoods[0]:.2f}".replace("-", "−") in text


def test_a_long_context_is_cut_at_its_front_where_the_question_is_not(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    for model in ("base", "adapter", "merged"):
        path = files.predictions(model, "toy-reading-zh")
        told = [replace(one, context="长" * 5000 + "问题") for one in read_predictions(path)]
        write_predictions(path, told)
    text = page.html(board_of(tmp_path))
    assert "长" * 1198 + "问题" in text and "长" * 1199 not in text and "(3,802 characters)" in text


def test_runs_that_were_asked_otherwise_stand_in_panels_of_their_own(tmp_path):
    for name in ("a", "b", "c"):
        files = write_run(tmp_path / name, [Spec()])
    facts, scores = read_results(files.results_json)
    write_results(files.results_json, facts, [replace(score, prompts="ff" * 32) for score in scores])
    board = board_of(tmp_path)
    panels = page.panels(board.runs)
    assert [[entry.row.run for entry in panel.entries] for panel in panels] == [["a", "b"], ["c"]]
    assert all(panel.several_prompts for panel in panels)
    assert "other runs were asked otherwise" in page.html(board)


def test_an_untrained_head_is_no_dot(tmp_path):
    write_run(tmp_path / "run", [Spec(note={"base": "untrained head"})])
    board = board_of(tmp_path)
    [panel] = page.panels(board.runs)
    assert [mark.model for mark in panel.entries[0].marks] == ["adapter", "merged"]
    assert "untrained head" in Page(page.html(board)).content()


def test_a_skipped_file_is_named_on_the_page(runs):
    (runs / "quickstart" / "results.json").write_text('{"schema_version": 7}')
    text = Page(page.html(board_of(runs))).content()
    assert "quickstart/results.json" in text and "7 (known: 1)" in text


def test_an_empty_board_is_a_page_too(tmp_path):
    parsed = Page(page.html(board_of(tmp_path)))
    assert parsed.faults == [] and "No run has been scored yet" in parsed.content()


def test_the_page_survives_values_of_a_shape_that_nobody_wrote(tmp_path):
    odd = {
        "train": {"seconds": "long", "peak_bytes": None},
        "evaluate": {"base": [1]},
        "versions": 3,
        "x": {"y": {}},
    }
    files = write_run(tmp_path / "run", [Spec()], measured=odd)
    files.merge_report.write_text('{"merged": {"largest": "x"}, "dtype": 3}')
    assert Page(page.html(board_of(tmp_path))).faults == []


@pytest.mark.parametrize(
    ("target", "choices", "prediction", "right", "chosen"),
    [
        (1, ["A", "B"], 0, [1], [0]),
        ([0, 1], ["A", "B", "C"], 2, [0, 1], [2]),
        ("B", ["A", "B"], "A", [1], [0]),
        (["A", "C"], ["A", "B", "C"], None, [0, 2], []),
    ],
)
def test_right_and_chosen_choices_are_known_by_number_or_text(target, choices, prediction, right, chosen):
    answer = Prediction(
        id="0", prompt_hash="", context="", choices=choices, prediction=prediction, target=target, scores={}
    )
    numbers = range(len(choices))
    assert [number for number in numbers if page.is_target(answer, number)] == right
    assert [number for number in numbers if page.is_chosen(answer, number)] == chosen


def test_several_right_texts_are_shown_side_by_side():
    target = ["北京", "Beijing"]
    answer = Prediction(id="0", prompt_hash="", context="", prediction="", target=target, scores={})
    assert page.right_answer(answer) == "北京 / Beijing"


def test_the_page_says_how_many_answers_ended_and_nothing_where_train_json_is_odd(tmp_path):
    counts = {"base": {"stopped": 3, "repeating": 9}, "adapter": {"stopped": 16, "repeating": 0}}
    about = {"prompts": 16, "of": "held-out", "max_new_tokens": 64, "models": counts}
    files = write_run(tmp_path / "run", [Spec()])
    files.train_json.write_text(json.dumps({"answers": about}))
    text = page.html(compare(collect(tmp_path)))
    assert "Of 16 answers to held-out prompts, at most 64 tokens each: base 3 end by themselves" in text
    for odd in ('{"answers": {"prompts": 1e999}}', '{"answers": []}', "[1]", "{"):
        files.train_json.write_text(odd)
        assert "end by themselves" not in page.html(compare(collect(tmp_path)))
