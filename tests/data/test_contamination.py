from workbench.data.contamination import contamination
from workbench.data.rows import Row

LONG = "The quick brown fox jumps over the lazy dog near the river bank."
ROWS = [
    Row({"instruction": "Say it:", "output": f"Well, {LONG.upper()} Yes."}, "a:1"),
    Row({"conversations": [{"from": "human", "value": "三 加 四 等于几？"}]}, "a:2"),
]


def test_an_item_inside_a_row_is_found_whatever_its_case_width_and_spaces():
    found = contamination([LONG, "三加四等于几?", "五加一等于几?", LONG + " Never."], ROWS)
    assert found.num_items == 4
    assert found.found == ((LONG, "a:1"), ("三加四等于几?", "a:2"))
    assert found.count == 2


def test_an_item_that_only_begins_like_a_row_is_not_found():
    assert contamination([LONG[:40] + "under the table"], ROWS).count == 0


def test_an_item_is_not_put_together_from_two_columns():
    assert contamination(["Say it:Well, "], ROWS).count == 0


def test_short_and_empty_items_are_handled():
    assert contamination(["四等", "", " "], ROWS).found == (("四等", "a:2"),)
