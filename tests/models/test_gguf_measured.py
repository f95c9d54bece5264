"""Exported GGUF files are compared with their model by llama.cpp (`pip install llama-cpp-python`)."""

import json
import logging

import pytest
import torch
from test_export_gguf import byte_level, write
from tiny_checkpoints import at

from workbench.config.publishing.export import ExportConfig, ExportFormat, GgufType
from workbench.errors import CheckpointError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.export import export
from workbench.models.exported.measured_file import measure_file

pytestmark = pytest.mark.peer
TEXTS = ["the thin theory of 2024!", "two  spaces, then the 好的 end", "the the the", "1\n\n2\n\n3"]


@pytest.fixture
def exported(tmp_path):
    """Exports a small model; returns its section and the file."""
    pytest.importorskip("llama_cpp")

    def exported(kind: str, **options):
        write(tmp_path / "in", byte_level(), **options)
        section = ExportConfig(format=ExportFormat["gguf"], gguf_type=GgufType[kind])
        export(at(tmp_path / "in"), section, tmp_path / "out.gguf")
        return at(tmp_path / "in"), tmp_path / "out.gguf"

    return exported


@pytest.mark.parametrize(("kind", "most"), [("f32", 0.005), ("f16", 0.01), ("bf16", 0.05)])
def test_a_file_of_whole_weights_is_near_its_model(exported, kind, most):
    """llama.cpp keeps keys and values in float16."""
    model, file = exported(kind)
    difference = measure_file(file, model, GgufType[kind], TEXTS)
    assert 0 < difference.largest_nats < most
    assert difference.num_same_tokens == difference.num_texts == len(TEXTS)
    assert difference.num_agreeing >= difference.num_tokens - 1 and difference.num_continued == 4


def test_a_file_of_four_bits_is_farther_and_not_refused(exported, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    differences = []
    for kind in ("f16", "q4_0"):
        model, file = exported(kind)
        differences.append(measure_file(file, model, GgufType[kind], TEXTS))
    whole, quantized = differences
    assert quantized.mean_nats > 5 * whole.mean_nats and quantized.kl > whole.kl
    assert "greedy texts" in caplog.text


def test_a_file_of_another_model_is_refused(exported, tmp_path):
    section, file = exported("f16")
    model = OpenLlamaForCausalLM.from_pretrained(tmp_path / "in")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "mlp" in name:
                weight.neg_()
    model.save_pretrained(tmp_path / "in")
    with pytest.raises(CheckpointError, match="llama.cpp computes another model"):
        measure_file(file, section, GgufType.f16, TEXTS)


def test_a_file_of_another_tokenizer_is_refused(exported, tmp_path):
    section, file = exported("f16")
    text = json.loads((tmp_path / "in" / "tokenizer.json").read_text("utf-8"))
    text["post_processor"] = None  # no beginning token
    (tmp_path / "in" / "tokenizer.json").write_text(json.dumps(text), "utf-8")
    with pytest.raises(CheckpointError, match="other tokens of all 4 texts"):
        measure_file(file, section, GgufType.f16, TEXTS)
