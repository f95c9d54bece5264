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
