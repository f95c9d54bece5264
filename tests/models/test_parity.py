"""Open-Llama gives the numbers of transformers 4.31.0, and right ones where those are bugs."""

from contextlib import nullcontext

import parity
import pytest
import torch

from workbench.models.ops.fused import plain_layers


@pytest.fixture(autouse=True, params=[True, False], ids=["fused", "plain"])
def kernels(request):
    with nullcontext() if request.param else plain_layers():
        yield


def held(kinds, load):
    return [
        (name, run)
        for name, run in parity.runs(held=True)
        for spec in [parity.case(name).run_named(run)]
        if spec["kind"] in kinds and (spec.get("load") == "from_pretrained") == load
    ]


def tagged(tag):
    return [
        (name, run["name"]) for name in parity.names() for run in parity.case(name).meta["runs"] if tag in run
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("name", "run"), held(("calls", "tuple", "generate"), load=False))
def test_recorded_run_is_reproduced(name, run, attention):
    case = parity.case(name)
    run = case.run_named(run)
    assert parity.differences(case, run, parity.replay(case, run, parity.build(case, run, attention))) == {}


# Without a GPU this is the fallback: the masks are those for xformers, the arithmetic is PyTorch's.
@pytest.mark.parametrize(
    ("name", "run"),
    [r for r in held(("calls", "generate"), load=False) if r[0][:2] in ("01", "21", "22", "31")],
)
def test_recorded_run_is_reproduced_when_xformers_is_asked_for(name, run):
    case = parity.case(name)
    run = case.run_named(run)
    assert parity.differences(case, run, parity.replay(case, run, parity.build(case, run, "xformers"))) == {}


@pytest.mark.parametrize(("name", "run"), held(("calls", "tuple", "generate"), load=True))
def test_recorded_run_of_a_loaded_folder_is_reproduced(name, run, tmp_path):
    case = parity.case(name)
    run = case.run_named(run)
    assert parity.differences(case, run, parity.replay(case, run, parity.load(case, run, tmp_path))) == {}


@pytest.mark.parametrize(("name", "run"), held(("error",), load=False))
def test_recorded_error_is_raised(name, run):
    case = parity.case(name)
    run = case.run_named(run)
    with pytest.raises(ValueError, match=run["expect"]["message_has"].split(".")[0]):
        parity.build(case, run)(**{key: case.inputs[ref] for key, ref in run["inputs"].items()})


@pytest.mark.parametrize(("name", "run"), tagged("modern_rule"))
def test_classification_reads_the_right_most_token_that_is_no_pad(name, run):
    case = parity.case(name)
    run = case.run_named(run)
    found = parity.replay(case, run, parity.build(case, run))
    wanted = {
        key: case.expected[run["modern_rule"][key]] for key in ("logits", "loss") if key in run["modern_rule"]
    }
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, **run["tolerance"]["value"])


@pytest.mark.parametrize(("name", "run"), tagged("modern_divergence"))
def test_positions_that_jump_separate_texts_unless_there_is_a_mask(name, run):
    case = parity.case(name)
    run = case.run_named(run)
    model = parity.build(case, run).eval()
    ids, positions = case.inputs["input_ids"], case.inputs["position_ids_custom"]
    text = (positions.diff(prepend=positions[:, :1] - 1) != 1).cumsum(-1)
    together = (text[:, :, None] == text[:, None, :]).tril()[:, None]
    mask = torch.zeros(together.shape).masked_fill(~together, torch.finfo(torch.float32).min)
    with torch.no_grad():
        packed = model(ids, position_ids=positions).logits
        torch.testing.assert_close(packed, model(ids, attention_mask=mask, position_ids=positions).logits)
        assert (packed - case.expected["custom_pos.logits"]).abs().max() > 1


@pytest.mark.parametrize("name", ["19_rope_dynamic2", "20_rope_dynamic2_stable_shared"])
def test_dynamic_rope_forgets_the_longest_text_it_has_seen(name):
    case = parity.case(name)
    model = parity.build(case, {}).eval()
    long = case.inputs["input_ids_long"]
    fresh = case.run_named("mid_fresh")
    with torch.no_grad():
        before = model(case.inputs["input_ids"]).logits
        model(long)
        assert torch.equal(model(case.inputs["input_ids"]).logits, before)
        found = {"logits": model(parity.arguments(case, fresh["calls"][0])["input_ids"]).logits}
    assert parity.differences(case, fresh, found) == {}


def test_left_padding_is_masked_in_training_too():
    case = parity.case("31_train_mode")
    wanted, run = case.run_named("train_left_eager"), case.run_named("train_left_memeff")
    found = parity.replay(case, run, parity.build(case, run, "sdpa"))
    assert parity.differences(case, wanted, found) == {}


@pytest.mark.parametrize("attention", ["eager", "sdpa", "xformers"])
def test_attention_dropout_acts_in_training_whatever_the_attention(attention):
    case = parity.case("31_train_mode")
    run = case.run_named("train_attention_dropout_ignored")
    found = parity.replay(case, run, parity.build(case, run, attention))
    assert (found["logits"] - case.expected["train_attention_dropout_ignored.logits"]).abs().max() > 1


def test_rope_theta_is_not_ignored():
    case = parity.case("17_rope_theta")
    run = case.run_named("theta_ignored")
    assert "logits" in parity.differences(case, run, parity.replay(case, run, parity.build(case, run)))


def test_llama_folder_loaded_as_open_llama_gives_the_numbers_of_llama(tmp_path):
    case = parity.case("35_llama_checkpoint")
    as_llama, run = case.run_named("as_llama"), case.run_named("openllama_defaults")
    model = parity.load(case, run, tmp_path)
    assert parity.differences(case, as_llama, parity.replay(case, as_llama, model)) == {}


@pytest.mark.parametrize("name", [name for name in parity.names() if "llama_checkpoint" not in name])
def test_a_loaded_folder_has_the_weights_of_the_file(name, tmp_path):
    case = parity.case(name)
    model = parity.load(case, {}, tmp_path)
    weights = model.state_dict()
    assert all(
        torch.equal(weights[key], value) for key, value in case.weights.items() if "inv_freq" not in key
    )
    assert set(weights) - set(case.weights) <= {"lm_head.weight"}
