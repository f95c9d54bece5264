"""Functions that `model.compile` compiles are one kernel each, and compute what they compute otherwise."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import model, tokens
from torch._inductor.utils import run_and_get_code
from transformers.activations import ACT2FN

from workbench.config.model import ModelConfig
from workbench.errors import ConfigError
from workbench.models.ops import elementwise, fused

pytestmark = [
    pytest.mark.skipif(
        not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="torch.compile needs a C++ compiler"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),  # torch's own use of its script_method
]


@pytest.fixture(autouse=True)
def compiling(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "inductor"))
    fused.enable_compiled(True)
    yield
    fused.enable_compiled(False)


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def values_and_gradients(function, inputs):
    inputs = [each.clone().requires_grad_() for each in inputs]
    output = function(*inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, output.detach().cos())]


def functions(dtype):
    """Name -> function and its inputs."""
    hidden, weight = random(2, 30, 64, dtype=dtype), random(64, dtype=dtype)
    gate, up = random(2, 30, 48, dtype=dtype), random(2, 31, 48, dtype=dtype)[:, 1:]
    states, tables = random(2, 30, 4, 16, dtype=dtype), (random(1, 30, 1, 16), random(1, 31, 1, 16)[:, 1:])
    return {
        "rms_norm": (lambda h, w: elementwise.rms_norm(h, w, 1e-5), [hidden, weight]),
        "norm_in_float32": (lambda h, w: elementwise.norm_in_float32(h, w, 1e-5, 1.0), [hidden, weight]),
        "centred": (lambda h, w: elementwise.norm_in_float32(h, w, 1e-5, 0.0, True), [hidden, weight]),
        "silu": (lambda g, u: elementwise.gated(ACT2FN["silu"], g, u), [gate, up]),
        "gelu": (lambda g, u: elementwise.gated(ACT2FN["gelu_pytorch_tanh"], g, u), [gate, up]),
        "rotate": (lambda s: elementwise.rotate(s, *tables), [states]),
    }


@pytest.mark.parametrize("name", functions(torch.float32))
def test_values_and_gradients_are_those_without_compilation(name):
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 0.02)):
        function, inputs = functions(dtype)[name]
        found = values_and_gradients(function, inputs)
        with fused.not_compiled():
            expected = values_and_gradients(function, inputs)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        same = [torch.equal(*pair) for pair in zip(found, expected, strict=True)]
        assert dtype == torch.float32 or sum(same) >= len(same) - 1  # rounded at the same places


def test_a_row_does_not_depend_on_the_rows_beside_it():
    for name in (
        "rms_norm",
        "centred",
        "silu",
    ):  # sums, and what isn't rounded alike in all lanes of a vector
        function, (first, *others) = functions(torch.bfloat16)[name]
        with torch.no_grad():
            whole = function(first, *others)
            for rows in (slice(0, 1), slice(3, 9), slice(4, 29)):
                shared = [each[:, rows] if each.dim() > 1 else each for each in others]
                assert torch.equal(function(first[:, rows], *shared), whole[:, rows]), (name, rows)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (elementwise._normalized, (random(40, 64), random(64), 1e-5)),
        (
            elementwise._norm_gradients,
            (random(40, 64), random(40, 64), random(64), random(40, 1), True, False),
        ),
        (elementwise._gated, (random(40, 48), random(41, 48)[1:], "silu")),
        (elementwise._gated_gradients, (random(40, 48), random(41, 48)[1:], random(42, 48)[2:], "silu")),
        (elementwise._rotated, (random(2, 20, 4, 16), random(1, 20, 1, 16), random(1, 21, 1, 16)[:, 1:], 1)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_pass_is_one_kernel(function, inputs):
    torch._dynamo.reset()
    _, [code] = run_and_get_code(function, *inputs)
    assert code.count("async_compile.cpp_pybinding(") == 1


def test_gradients_of_a_model_are_as_exact_as_without_compilation():
    made = model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0, num_key_value_heads=2).train()
    ids = tokens()

    def gradients(of):
        of.zero_grad()
        of(ids, labels=ids).loss.backward()
        return {name: weight.grad.double() for name, weight in of.named_parameters()}

    compiled = gradients(made)
    fused.enable_compiled(False)
    plain, exact = gradients(made), gradients(copy.deepcopy(made).double())
    for name, gradient in exact.items():
        rounding = (plain[name] - gradient).abs().max() + 1e-6 * gradient.abs().max()
        assert (compiled[name] - gradient).abs().max() <= 2 * rounding, name


def test_without_kernels_there_is_nothing_to_compile():
    with pytest.raises(ConfigError, match=r"model\.compile: .*model\.fused=false"):
        ModelConfig(compile=True, fused=False)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [({}, "'g++' is not in PATH"), ({"CXX": ""}, "CXX is empty")],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems' compilers have other names")
def test_a_machine_without_a_compiler_is_told_before_the_weights_are_read(tmp_path, compiler, reason):
    command = [sys.executable, "-m", "workbench", "recipe=quickstart", "model.compile=true"]
    environment = {
        "PYTHONPATH": str(Path(fused.__file__).parents[3]),
        "PATH": str(tmp_path),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        **compiler,
    }
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 1
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("error: model.compile: torch.compile doesn't work on this machine (")
    assert f"(no C++ compiler is found, {reason}: set CXX to one; or set model.compile=false)" in line
    assert "model.compile=false" in line and os.fspath(tmp_path) not in line


@pytest.mark.gpu
@pytest.mark.parametrize("name", functions(torch.float32))
def test_on_a_gpu_values_and_gradients_are_those_without_compilation(name):
    function, inputs = functions(torch.bfloat16)[name]
    inputs = [each.cuda() for each in inputs]
    if name == "rotate":
        tables = (random(1, 30, 1, 16).cuda(), random(1, 31, 1, 16)[:, 1:].cuda())
        function = lambda states: elementwise.rotate(states, *tables)  # noqa: E731
    found = values_and_gradients(function, inputs)
    with fused.not_compiled():
        expected = values_and_gradients(function, inputs)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)
