"""Divergence of next-token distributions, against torch's own formula on whole texts."""

import pytest
import torch
import torch.nn.functional as F
from tiny import model, tokens

from workbench.models.token_divergence import divergences, text_logits

ROWS = [tokens(1, length, seed)[0].tolist() for seed, length in enumerate((70, 40, 1, 33))]
LONG = {"max_position_embeddings": 80}


def by_hand(first, second, row):
    """Sum of KL(first || second) in nats over all positions, and equal argmax tokens, in float64."""
    with torch.no_grad():
        ours, theirs = (one(torch.tensor([row])).logits[0].double() for one in (first, second))
    kl = F.kl_div(theirs.log_softmax(-1), ours.log_softmax(-1), reduction="sum", log_target=True)
    return kl.item(), int((ours.argmax(-1) == theirs.argmax(-1)).sum())


def test_divergence_and_agreement_of_each_text_are_those_of_a_hand_computation():
    first, second = model(**LONG), model(seed=1, **LONG)
    texts = divergences(text_logits(first, ROWS), text_logits(second, ROWS))
    for text, row in zip(texts, ROWS, strict=True):
        kl, agreeing = by_hand(first, second, row)
        assert (text.num_tokens, text.num_agreeing) == (len(row), agreeing)
        assert text.kl == pytest.approx(kl, rel=1e-5) and text.kl > 0.1


def test_the_divergence_is_taken_from_the_first_model():
    first, second = model(**LONG), model(seed=1, **LONG)
    [text] = divergences(text_logits(second, ROWS[:1]), text_logits(first, ROWS[:1]))
    assert text.kl == pytest.approx(by_hand(second, first, ROWS[0])[0], rel=1e-5)
    assert text.kl != pytest.approx(by_hand(first, second, ROWS[0])[0], rel=1e-2)


def test_a_model_does_not_diverge_from_itself():
    first = model(**LONG)
    for text in divergences(text_logits(first, ROWS), text_logits(first, ROWS)):
        assert (text.kl, text.num_agreeing) == (0.0, text.num_tokens)
