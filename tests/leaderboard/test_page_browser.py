"""The page of models in a browser."""

import json
from dataclasses import replace

import numpy as np
import pytest
from board_maker import HOSTILE, MadeTexts, Size, make_board
from browser import CHROMIUM, Browser
from scipy import stats

from workbench.leaderboard.page import NoTexts, write
from workbench.shown import message
from workbench.statistics.binary_pairs import compare_flips

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
VIEWS = [
    "scores",
    "differences",
    "pair",
    "subjects",
    "forgetting",
    "seeds",
    "decisions",
    "cost",
    "training",
    "contamination",
    "provenance",
]


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests of this file."""
    started = Browser()
    yield started
    started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages and boards by name."""
    sizes = {
        "usual": Size(models=10, columns=8, items=120, cluster=4),
        "hostile": Size(models=7, columns=6, items=24, hostile=True),
        "many": Size(models=90, columns=6, items=40),
    }
    boards = {name: make_board(size) for name, size in sizes.items()}
    folder = tmp_path_factory.mktemp("pages")
    return {name: (write(board, MadeTexts(board), folder / name), board) for name, board in boards.items()}


@pytest.fixture
def usual(browser, pages):
    """The usual page, opened in English, and its board."""
    path, board = pages["usual"]
    browser.resize(1280, 900)
    browser.open(path)
    browser.run("document.documentElement.lang === 'zh-Hans' && document.getElementById('language').click()")
    browser.errors.clear()
    return board


def key(number):
    return f"{number:016x}"


def cells(browser, selector):
    """Return the texts of the elements of a selector."""
    return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")


def test_every_view_opens_without_an_error_or_a_request(browser, usual):
    browser.requests.clear()
    for view in VIEWS:
        browser.view(view)
        assert len(browser.text("#content")) > 80, view
    assert browser.errors == [] and browser.requests == []


def test_every_control_and_table_has_a_name(browser, usual):
    for view in VIEWS:
        browser.view(view)
        nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "combobox", "searchbox", "textbox", "table", "link", "region", "image")
        for node in nodes:
            role = node.get("role", {}).get("value")
            if role in roles and not node["ignored"]:
                assert node.get("name", {}).get("value"), (view, role, node.get("description"))


def test_every_view_fits_a_phone_and_speaks_chinese(browser, usual):
    browser.resize(390, 844)
    browser.click("#language")
    for view in VIEWS:
        browser.view(view)
        assert browser.run("document.documentElement.scrollWidth") == 390, view
        assert "undefined" not in browser.text() and "NaN" not in browser.text(), view
    assert browser.run("document.documentElement.lang") == "zh-Hans" and "来源" in browser.text("#views")
    browser.click("#language")
    place = "document.querySelector('nav [aria-current]').getBoundingClientRect()"
    assert browser.run(f"{place}.left") >= 0 and browser.run(f"{place}.right") <= 390


def test_scores_ranks_and_letters_are_those_of_the_board(browser, usual):
    [cell] = [c for c in usual.cells if c.model == key(3) and c.column == key(0xC000)]
    text = browser.text(f"td[data-place='3 {0}'] .value").split()[0]
    assert text == f"{100 * cell.score.value:.1f}"
    below = browser.text("td[data-place='3 0'] .below")
    assert below == f"{cell.best_rank}–{cell.worst_rank} {cell.letters}"


def test_means_are_shown_as_they_are_tested_unless_raw_ones_are_chosen(browser, usual):
    [mean] = [mean for mean in usual.means if mean.name == "all"]
    place = len(usual.columns) + usual.means.index(mean)
    for query, name in (("", "normalized"), ("means=raw", "raw")):
        browser.view("scores", query)
        text = browser.text(f"td[data-place='3 {place}'] .value").split()[0]
        assert text.replace("−", "-") == f"{100 * getattr(mean.scores[key(3)], name):.1f}"


def test_why_a_score_is_set_apart_is_said_in_chinese(browser, usual):
    browser.click("#language")
    browser.wait("document.querySelector('td.apart')")
    assert "11,582 题中的 2,680 题" in browser.text("td.apart")
    browser.click("#language")


def test_alarms_remarks_problems_and_tests_are_told_in_chinese(browser, usual, tmp_path):
    problem = message("too few clusters differ")
    board = replace(usual, differences=tuple(replace(one, problem=problem) for one in usual.differences))
    browser.open(write(board, MadeTexts(board), tmp_path))
    browser.wait("document.querySelector('.scores .sign')")
    assert "has 11,580 of the 11,582 items" in browser.text(".alarm")
    browser.click("#language")
    browser.wait("document.querySelector('.scores .sign')")
    assert (
        browser.text(".alarm")
        == f"警报： {usual.models[0].name}，cmmlu：所评的 11,582 题中，预测文件只有 11,580 题"
    )
    for place, told in (("0", "精确 McNemar 检验"), ("0", "结果不同的题组太少")):
        browser.click(f"td[data-place='3 {place}']")
        browser.wait("document.querySelector('dialog[open]')")
        assert told in browser.text("dialog")
        browser.run("document.querySelector('dialog').close()")
    browser.click(".scores button.model[title^='Qwen']")
    assert "未经核实：其分数没有校验和" in browser.text("dialog")
    browser.run("document.querySelector('dialog').close()")
    browser.click("button.about[aria-label*='全部']")
    assert "9 个模型中只有 2 个有此列" in browser.text("dialog")
    browser.run("document.querySelector('dialog').close()")
    browser.click("#language")


def test_how_a_comparison_was_stopped_is_said(browser, usual):
    browser.view("decisions")
    first, second = cells(browser, ".pair tbody tr")
    assert usual.models[0].name in first and "b (models/elsewhere)" in first
    assert "decided after 1,203 of 11,582 items (1,250 asked)" in first and "better" in first
    assert "error rate 2.5% · margin 2 points · order by seed 7" in first and "+6.3" in first
    assert "2,376 of 2,376 items asked, and not decided" in second and "direction only" in second


@pytest.mark.parametrize(
    ("name", "view"), [("usual", "differences"), ("many", "differences"), ("usual", "forgetting")]
)
def test_a_forest_is_read_on_a_phone_without_scrolling_sideways(name, view, browser, pages):
    browser.resize(390, 844)
    browser.open(pages[name][0])
    browser.view(view)
    browser.wait("document.querySelector('.stacked tbody tr[aria-rowindex]')")
    box = "document.querySelector('.scroll')"
    assert browser.run(f"{box}.scrollWidth <= {box}.clientWidth")
    outside = """[...document.querySelectorAll('.stacked tbody tr[aria-rowindex]')].flatMap((row) => {
        const whole = row.getBoundingClientRect();
        const isOutside = ({ left, right, top, bottom, width }) => left < whole.left || right > whole.right
            || top < whole.top || bottom > whole.bottom || !width;
        const parts = [...row.querySelectorAll('th, td:not(.none), .strip')];
        return parts.filter((part) => isOutside(part.getBoundingClientRect()));
    }).length"""
    assert browser.run(outside) == 0
    plotted = (
        "[...document.querySelectorAll('.stacked svg.strip')].map((strip) => strip.getBoundingClientRect()"
    )
    assert (
        browser.run(f"new Set({plotted}.left)).size") == 1
        and browser.run(f"Math.min(...{plotted}.width))") > 280
    )
    roles = [
        node["role"]["value"]
        for node in browser.send("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"]
    ]
    assert roles.count("rowheader") > 1 and roles.count("columnheader") > 3


def test_a_difference_of_a_metric_of_all_labels_has_no_interval_of_right_answers(browser, usual, tmp_path):
    scores = [replace(cell.score, item_score="1 where right") for cell in usual.cells]
    cells_of_labels = [replace(cell, score=score) for cell, score in zip(usual.cells, scores, strict=True)]
    for own, has_interval in ((usual.cells, True), (tuple(cells_of_labels), False)):
        browser.open(write(replace(usual, cells=own), MadeTexts(usual), tmp_path))
        browser.view("pair", f"a={key(0)}&b={key(6)}")
        below = cells(browser, ".pair tbody td:nth-child(4) .below")
        assert below and any("…" in text for text in below) == has_interval


def test_the_details_of_a_score_say_how_its_texts_end(browser, usual, tmp_path):
    texts = {"texts": 1200, "stop": 1100, "length": 60, "in_thought": 0, "unextracted": 30}
    scores = [replace(cell.score, texts=texts) for cell in usual.cells]
    cells_with_texts = [replace(cell, score=score) for cell, score in zip(usual.cells, scores, strict=True)]
    browser.open(write(replace(usual, cells=tuple(cells_with_texts)), MadeTexts(usual), tmp_path))
    browser.wait("document.querySelector('.scores .sign')")
    browser.click("td[data-place='3 0']")
    browser.wait("document.querySelector('dialog[open]')")
    ends = "1,200 texts · no answer in 2.5% · 5.0% cut at the token limit"
    assert ends in browser.text("dialog") and "within a thought" not in browser.text("dialog")
    browser.run("document.querySelector('dialog').close()")


def test_a_test_of_fewer_items_says_how_many(browser, usual, tmp_path):
    fewer = [replace(found, num_pairs=60) for found in usual.differences]
    browser.open(write(replace(usual, differences=tuple(fewer)), MadeTexts(usual), tmp_path))
    browser.wait("document.querySelector('.scores .sign')")
    browser.click("td[data-place='3 0']")
    browser.wait("document.querySelector('dialog[open]')")
    assert "60 items that both were asked alike" in browser.text("dialog")
    browser.run("document.querySelector('dialog').close()")


def test_a_click_on_a_head_sorts_and_says_so(browser, usual):
    head = "button.sort[data-key='000000000000c001']"
    for direction, sign in (("descending", -1), ("ascending", 1)):
        browser.click(head)
        assert browser.run(f"document.querySelector(\"{head}\").closest('th').ariaSort") == direction
        values = [float(text.split()[0]) for text in cells(browser, "td[data-place$=' 1'] .value")]
        assert values == sorted(values, key=lambda value: sign * value) and len(values) == 9
        assert browser.run("document.activeElement.dataset.key") == "000000000000c001"


def test_search_and_filters_leave_the_rows_that_fit(browser, usual):
    browser.run(
        "const f = document.getElementById('find'); f.value = 'r8'; f.dispatchEvent(new Event('input'))"
    )
    assert len(cells(browser, ".scores tbody tr")) == sum("r8" in model.name for model in usual.models) > 0
    assert f"of {len(usual.models)} models" in browser.run("document.getElementById('status').textContent")
    browser.run("document.getElementById('find').value = ''")


def test_benchmarks_are_chosen_by_words_and_means_stay(browser, usual):
    browser.view("scores", "labels=mmlu ceval")
    heads = cells(browser, ".scores thead tr:nth-child(2) .label")
    assert heads == ["Chinese", "English", "all", "cmmlu", "ceval", "mmlu"]


def test_where_lower_is_better_items_with_a_lower_score_are_gained(browser, usual, tmp_path):
    column = replace(usual.columns[0], lower_is_better=True)
    board = replace(usual, columns=(column, *usual.columns[1:]))
    browser.open(write(board, MadeTexts(usual), tmp_path))
    browser.view("pair", f"a={key(0)}&b={key(6)}")
    first, second = usual.outcomes[key(0xC000)].values[[0, 6]]
    [row] = [row for row in cells(browser, ".pair tbody tr") if row.startswith("cmmlu")]
    assert f"\t{int((second < first).sum())}\t{int((second > first).sum())}\t" in row


def test_other_items_are_set_apart_and_a_failure_is_named(browser, usual):
    browser.wait("document.querySelector('td.apart')")
    assert "2,680 of 11,582 items" in browser.text("td.apart")
    assert "failed" in browser.text(".scores .warn.failed")


def test_differences_are_the_boards_and_others_are_marked(browser, usual):
    browser.view("differences", "measure=000000000000c000")
    tested = [d for d in usual.differences if d.column == key(0xC000)]
    rows = cells(browser, ".forest tbody tr")
    assert len(rows) == len(tested)
    for difference in tested:
        name = usual.models[int(difference.second, 16)].name
        [row] = [row for row in rows if row.startswith(f"{name}\n") or row.startswith(f"{name}\t")]
        assert difference.verdict in row and "outside the family" not in row


def test_another_reference_mirrors_what_the_board_tested_and_describes_the_rest(browser, usual):
    tested = [d for d in usual.differences if d.column == key(0xC000) and d.verdict == "better"]
    own = tested[0]
    browser.view("differences", f"measure=000000000000c000&reference={own.second}")
    rows = cells(browser, ".forest tbody tr")
    assert sum("outside the family" in row for row in rows) == len(rows) - 1
    [row] = [row for row in rows if row.split("\t")[0].strip() == usual.models[0].name]
    assert "worse" in row and f"{-100 * own.value:+.1f}".replace("-", "−") in row


def test_any_two_models_are_compared_as_scipy_does(browser, usual):
    browser.view("pair", f"a={key(4)}&b={key(6)}")
    outcomes = usual.outcomes[key(0xC000)]
    first, second = outcomes.values[4], outcomes.values[6]
    gained, lost = int((second > first).sum()), int((second < first).sum())
    [row] = [row for row in cells(browser, ".pair tbody tr") if row.startswith("cmmlu")]
    p_value = stats.binomtest(gained, gained + lost).pvalue
    shown = f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"
    assert f"\t{gained}\t{lost}\t{shown}\t" in row and "outside the family" in row
    test = compare_flips(gained, lost, 120, 0.05)
    text = f"{100 * float(test.low):+.1f} … {100 * float(test.high):+.1f}".replace("-", "−")
    assert text in row


def test_items_of_one_text_are_tested_together(browser, usual):
    browser.view("pair", f"a={key(0)}&b={key(6)}")
    outcomes = usual.outcomes[key(0xC002)]
    signs = np.sign(outcomes.values[6] - outcomes.values[0]).reshape(-1, 4).sum(1)
    chances = np.ones(1)
    for size in np.abs(signs[signs != 0]).astype(int):
        step = np.zeros(2 * size + 1)
        step[[0, -1]] = 0.5
        chances = np.convolve(chances, step)
    sums = np.arange(len(chances)) - len(chances) // 2
    p_value = chances[np.abs(sums) >= abs(signs.sum())].sum()
    cell = (
        "[...document.querySelectorAll('.pair tbody tr')].find((r) => r.innerText.startsWith('c3')).cells[6]"
    )
    assert "clusters" in browser.run(f"{cell}.title")
    assert float(browser.run(f"{cell}.innerText").replace("−", "-")) == pytest.approx(p_value, rel=0.5)


def test_a_question_shows_both_answers_the_target_and_likelihoods(browser, usual):
    browser.view("pair", f"a={key(0)}&b={key(6)}&column={key(0xC000)}&kind=gained")
    outcomes, texts = usual.outcomes[key(0xC000)], MadeTexts(usual).column(key(0xC000))
    item = int(np.flatnonzero(outcomes.values[6] > outcomes.values[0])[0])
    text = browser.run("document.querySelector('.questions > li').textContent")
    assert outcomes.ids[item] in text and texts.questions[item] in text
    chosen = browser.run(
        "[...document.querySelectorAll('.question:first-child .choices > li')].map((l) => l.textContent)"
    )
    assert "◀ A" in chosen[texts.chosen[0, item]] and "◀ B" in chosen[texts.chosen[6, item]]
    assert "right answer" in chosen[texts.targets[item][0]]
    assert f"{texts.loglikelihoods[0, item, 1]:.2f}".replace("-", "−") in chosen[1]


def test_questions_are_searched_and_counted_by_subject(browser, usual):
    browser.view("pair", f"a={key(0)}&b={key(6)}&column={key(0xC000)}&kind=all&subject=法学&find=第6题")
    outcomes = usual.outcomes[key(0xC000)]
    assert outcomes.ids[6] == "法学/6"
    ids = "[...document.querySelectorAll('.questions code')].map((code) => code.textContent)"
    assert browser.run(ids) == ["法学/6"]
    browser.view("pair", f"a={key(0)}&b={key(6)}&column={key(0xC000)}&kind=all&subject=法学")
    assert browser.run(ids) == [name for name in outcomes.ids if name.startswith("法学/")]
    rows = cells(browser, ".by-subject tbody tr")
    places = np.flatnonzero(np.array(outcomes.subsets) == "法学")
    gained = int((outcomes.values[6] > outcomes.values[0])[places].sum())
    [row] = [row for row in rows if row.startswith("法学")]
    assert row.split("\t")[1:3] == [str(len(places)), str(gained)]


def test_generated_answers_of_both_are_shown(browser, usual):
    browser.view("pair", f"a={key(0)}&b={key(6)}&column={key(0xC007)}&kind=gained")
    text = browser.run("document.querySelector('.questions > li').textContent")
    assert "Let me think about step 0" in text and "The answer is" in text


def test_subjects_show_the_means_of_their_items(browser, usual):
    browser.view("subjects", f"column={key(0xC000)}")
    outcomes = usual.outcomes[key(0xC000)]
    mean = outcomes.values[0][np.array(outcomes.subsets) == "医学"].mean()
    heads, first = cells(browser, ".heat thead th"), cells(browser, ".heat tbody tr:first-child > *")
    assert first[heads.index("医学")] == f"{100 * mean:.1f}"


def test_an_item_found_in_training_rows_can_be_read(browser, usual):
    browser.view("contamination")
    assert "1 of 120 items found · clean part 31.0" in browser.text("#content details summary")
    browser.click("#content details summary")
    browser.wait("document.querySelector('.found')")
    row = browser.text(".found tbody tr")
    question = MadeTexts(usual).column(key(0xC000)).questions[0]
    assert question in row and "train.jsonl:17" in row and "verbatim" in row


def test_names_from_files_stay_text_in_every_view(browser, pages):
    path, board = pages["hostile"]
    browser.errors.clear()
    browser.open(path)
    for view in VIEWS:
        browser.view(view)
        assert browser.run("document.querySelectorAll('img').length") == 0, view
    browser.view("scores")
    assert HOSTILE[0] in browser.text(".scores")
    browser.run("document.querySelectorAll('.scores tbody .model').forEach((button) => button.click())")
    browser.run("document.querySelector('dialog').close()")
    assert browser.errors == [] and browser.run("document.querySelectorAll('img').length") == 0


def test_of_many_rows_only_those_in_sight_are_drawn_and_counted_right(browser, pages):
    path, board = pages["many"]
    browser.open(path)
    assert 0 < len(cells(browser, ".scores tbody tr:not(.spacer)")) < 60
    assert browser.run("document.querySelector('.scores').getAttribute('aria-rowcount')") == "92"
    browser.run("document.querySelector('.scroll').scrollTop = 1e6")
    browser.wait("document.querySelector('tr[aria-rowindex=\"92\"]')")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert len(cells(browser, ".scores tbody tr:not(.spacer)")) == 90


def test_arrow_keys_move_between_cells_and_enter_opens_one(browser, usual):
    browser.run("document.querySelector('.scores tbody .model').focus()")
    for name in ("ArrowRight", "ArrowDown"):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key=name)
    assert browser.run("document.activeElement.closest('tr').getAttribute('aria-rowindex')") == "4"
    browser.send("Input.dispatchKeyEvent", type="keyDown", key="Enter")
    browser.wait("document.querySelector('dialog')?.open")
    assert "Score" in browser.text("dialog")
    browser.run("document.querySelector('dialog').close()")


def test_a_browser_that_can_not_unpack_shows_scores_and_says_so(browser, pages):
    script = browser.send(
        "Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream"
    )
    browser.errors.clear()
    browser.open(pages["usual"][0])
    assert "DecompressionStream" in browser.text("#notices")
    assert len(cells(browser, ".scores tbody tr")) == 10
    for view in VIEWS:
        browser.view(view)
    assert browser.errors == []
    browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])


def test_a_page_without_item_texts_says_where_they_are(browser, usual, tmp_path):
    browser.open(write(usual, NoTexts(), tmp_path))
    browser.view("pair", f"a={key(0)}&b={key(6)}")
    assert "items.parquet" in browser.text("#pair-items")


def test_an_empty_board_says_that_there_is_nothing(browser, usual, tmp_path):
    empty = replace(
        usual, models=(), columns=(), cells=(), outcomes={}, differences=(), means=(), subjects=()
    )
    browser.open(write(replace(empty, forgetting=(), seeds=()), NoTexts(), tmp_path))
    for view in VIEWS:
        browser.view(view)
    assert "Nothing to show" in browser.text("#content") and browser.errors == []


def test_further_metrics_of_a_cell_are_in_percent_where_they_are_shares(browser, usual, tmp_path):
    cell = next(one for one in usual.cells if one.score.metric == "acc")
    majority = replace(cell.score, metric="acc,maj@3", value=0.25, interval=[0.125, 0.5])
    loss = replace(cell.score, metric="word_perplexity", value=12.3456, interval=None)
    further = {score.metric: score for score in (majority, loss)}
    cells = tuple(replace(one, further=further) if one is cell else one for one in usual.cells)
    board = replace(usual, cells=cells)
    browser.open(write(board, MadeTexts(board), tmp_path))
    browser.wait("document.querySelector('.scores .sign')")
    model = [one.key for one in board.models].index(cell.model)
    column = [one.key for one in board.columns].index(cell.column)
    browser.click(f"td[data-place='{model} {column}']")
    browser.wait("document.querySelector('dialog[open]')")
    shown = browser.text("dialog")
    assert "acc,maj@3\t25.0 (12.5–50.0)" in shown and "word_perplexity\t12.35\n" in shown
