import pytest
import torch
from test_fit import TASKS, same, settings, weights
from tiny_training import causal_rows, class_rows, load_with_lora

from workbench.data.collate import Collator
from workbench.errors import TrainingError
from workbench.machine import is_out_of_memory
from workbench.training.fit import fit
from workbench.training.microbatches import split_batch


def tokens(batch):
    """Padding included."""
    return batch["input_ids"].numel()


def gpu_runs_out():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def cpu_runs_out():
    torch.empty(1 << 60)  # the allocator's own error


def limited(model, limit, runs_out, *, backward=False, spared=0):
    """The model on a machine that holds `limit` tokens, which runs out after `spared` passes over them."""
    passes = []

    def check(_, __, inputs):
        if model.training and tokens(inputs) > limit:
            passes.append(tokens(inputs))
            if len(passes) > spared and not backward:
                runs_out()

    def check_gradient(gradient):
        if passes:
            passes.clear()
            runs_out()
        return gradient

    model.register_forward_pre_hook(check, with_kwargs=True)
    if backward:  # of an adapter in the first layer, when those behind it have their gradients already
        next(p for p in model.parameters() if p.requires_grad).register_hook(check_gradient)
    return model


@pytest.mark.parametrize("runs_out", [gpu_runs_out, cpu_runs_out])
@pytest.mark.parametrize("task", TASKS)
def test_out_of_memory_ends_with_the_adapter_of_half_the_batch_and_twice_the_accumulation(
    tmp_path, base, tokenizer, task, runs_out, caplog
):
    rows = TASKS[task]()
    halved = load_with_lora(base, task)
    train = settings(per_device_batch_size=4, gradient_accumulation_steps=4, max_steps=3)
    fit(halved, tokenizer, rows, None, train, tmp_path / "halved", 7)
    small = limited(load_with_lora(base, task), 40, runs_out)  # 4 rows of up to 10 tokens
    whole = settings(per_device_batch_size=8, gradient_accumulation_steps=2, max_steps=3)
    report = fit(small, tokenizer, rows, None, whole, tmp_path / "whole", 7)
    assert report.pieces == 2
    assert "out of memory at step 1; batches of 8 rows are now split into 2 microbatches" in caplog.text
    assert same(weights(small), weights(halved))


def test_a_backward_pass_that_runs_out_leaves_nothing_in_the_gradient(tmp_path, base, tokenizer):
    halved, small = load_with_lora(base), limited(load_with_lora(base), 40, gpu_runs_out, backward=True)
    for model, size, accumulated in ((halved, 4, 2), (small, 8, 1)):
        train = settings(per_device_batch_size=size, gradient_accumulation_steps=accumulated, max_steps=2)
        report = fit(model, tokenizer, causal_rows(), None, train, tmp_path / str(size), 7)
    assert report.pieces == 2
    assert same(weights(small), weights(halved))


def test_memory_that_runs_out_in_the_second_micro_batch_begins_the_step_anew(tmp_path, base, tokenizer):
    halved, small = load_with_lora(base), limited(load_with_lora(base), 40, gpu_runs_out, spared=1)
    for model, size, accumulated in ((halved, 4, 4), (small, 8, 2)):
        train = settings(per_device_batch_size=size, gradient_accumulation_steps=accumulated, max_steps=2)
        report = fit(model, tokenizer, causal_rows(), None, train, tmp_path / str(size), 7)
    assert report.pieces == 2
    assert report.tokens == sum(causal_rows()["length"])
    assert same(weights(small), weights(halved))


def test_a_token_budget_is_halved_as_often_as_it_takes(tmp_path, base, tokenizer):
    plain, small = load_with_lora(base, dropout=0.0), load_with_lora(base, dropout=0.0)
    limited(small, 25, gpu_runs_out)
    for model, name in ((plain, "plain"), (small, "small")):
        train = settings(max_tokens_per_batch=80, max_steps=2, max_grad_norm=0.0)
        report = fit(model, tokenizer, causal_rows(), None, train, tmp_path / name, 7)
    assert report.pieces >= 4
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(small)[name], weight, rtol=1e-3, atol=1e-4)


def test_a_single_row_that_does_not_fit_ends_in_one_line(tmp_path, base, tokenizer):
    model = limited(load_with_lora(base), 3, cpu_runs_out)
    with pytest.raises(
        TrainingError, match=r"out of memory at step 1, with 1 rows? at once of up to \d+ tokens"
    ):
        fit(model, tokenizer, causal_rows(), None, settings(), tmp_path, 7)


def test_other_errors_of_the_model_are_not_taken_for_a_lack_of_memory(tmp_path, base, tokenizer):
    def fails():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(limited(load_with_lora(base), 3, fails), tokenizer, causal_rows(), None, settings(), tmp_path, 7)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2"))
    assert is_out_of_memory(MemoryError())


def test_a_training_goes_on_in_pieces_after_an_interruption(tmp_path, base, tokenizer):
    train = settings(per_device_batch_size=8, max_steps=6, save_steps=2)
    whole = limited(load_with_lora(base), 40, gpu_runs_out)
    fit(whole, tokenizer, causal_rows(), None, train, tmp_path / "whole", 7)
    first = limited(load_with_lora(base), 40, gpu_runs_out)
    stopper = first.register_forward_hook(lambda *_: stop_after(first, 7))
    with pytest.raises(KeyboardInterrupt):
        fit(first, tokenizer, causal_rows(), None, train, tmp_path / "parts", 7)
    stopper.remove()
    again = load_with_lora(base)
    report = fit(again, tokenizer, causal_rows(), None, train, tmp_path / "parts", 7)
    assert report.resumed_from == 2
    assert report.pieces == 2
    assert same(weights(again), weights(whole))


def stop_after(model, count):
    model.passes = getattr(model, "passes", 0) + model.training
    if model.passes == count:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("rows", "joined"), [(causal_rows, True), (causal_rows, False), (class_rows, False)])
def test_pieces_are_what_the_collator_makes_of_fewer_rows(rows, joined):
    some = [dict(row) for row in rows(10)]
    for row in some:
        del row["row"]
    collate = Collator(0, joined)
    found = split_batch(collate(some), [row["length"] for row in some], 4)
    expected = [collate(some[:4]), collate(some[4:8]), collate(some[8:])]
    assert len(found) == 3
    for piece, made in zip(found, expected, strict=True):
        assert piece.keys() == made.keys()
        assert all(torch.equal(piece[name], made[name]) for name in made)
