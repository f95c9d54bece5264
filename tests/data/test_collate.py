import torch

from workbench.data.collate import Collator


def test_rows_are_padded_on_the_right_and_padding_is_never_trained():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "row": 3, "where": "a:4"},
        {"input_ids": [8], "labels": [8], "row": 0, "where": "a:1"},
    ]
    batch = Collator(pad_token_id=0)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["row"].tolist() == [3, 0]
    assert set(batch) == {"input_ids", "labels", "attention_mask", "row"}


def test_class_numbers_are_one_a_row():
    batch = Collator(pad_token_id=0)([{"input_ids": [1, 2], "labels": 1}, {"input_ids": [3], "labels": 0}])
    assert batch["labels"].tolist() == [1, 0]
    assert batch["labels"].dtype == torch.int64


def test_joined_rows_have_no_padding_and_are_told_apart_by_their_positions():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "row": 3},
        {"input_ids": [8, 9, 5, 4], "labels": [-100, 9, -100, 4], "position_ids": [0, 1, 0, 1], "row": 1},
    ]
    batch = Collator(pad_token_id=0, joined=True)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 5, 4]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9, -100, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["row"].tolist() == [3, 1]
    assert "attention_mask" not in batch
