"""Every architecture through the whole job: the table of conf/README.md, made again."""

import pytest
from architecture_cells import cells
from architecture_table import METHODS, outcomes
from architectures import ARCHITECTURES, architecture

from workbench.cli.reference.architectures import SUPPORT

PACKING = "refused: data.packing: with this model, "
EXPORT = "refused: model: only a checkpoint of Open-Llama or LLaMA can be exported"


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_does_the_whole_job_as_plain_transformers_or_is_refused_in_a_line(name, tmp_path):
    plain = architecture(name)
    support = SUPPORT[plain.config.model_type]
    made = outcomes(tmp_path, [name])[name]
    assert tuple(made) == METHODS
    for method, steps in made.items():
        row = cells(steps)
        works = {column: row[column] for column in ("trained", "scored", "merged", "resumed")}
        assert works == dict.fromkeys(works, "yes"), (method, row)
        own_class = type(plain).__name__
        assert row["runs as"] == ("OpenLlamaForCausalLM" if support.is_open_llama else own_class)
        assert row["joined"] == ("yes" if support.packs else "no"), (method, row)
        assert row["packed"] == "yes" if support.packs else row["packed"].startswith(PACKING), (method, row)
        assert row["shared"] == ("yes" if support.shares else "no"), (method, row)
        assert row["experts"] == ("unquantized" if support.has_experts and method == "int8" else "")
        exports = support.is_open_llama
        assert row["exported"] == "yes" if exports else row["exported"].startswith(EXPORT), (method, row)
        assert not exports or steps["exported"]["class"] == own_class
        assert all("\n" not in cell for cell in row.values())
        float(row["bf16"])


def test_every_architecture_of_the_table_is_tried():
    assert {architecture(name).config.model_type for name in ARCHITECTURES} == set(SUPPORT)
