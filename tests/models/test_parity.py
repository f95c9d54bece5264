"""Open-Llama gives the numbers of transformers 4.31.0, except where those are bugs."""

import parity
import pytest


def held(kinds, load):
    return [
        (name, run)
        for name, run in parity.runs(held=True)
        for spec in [parity.case(name).run_named(run)]
        if spec["kind"] in kinds and (spec.get("load") == "from_pretrained") == load
    ]


@pytest.mark.parametrize(("name", "run"), held(("calls", "tuple", "generate"), load=False))
def test_recorded_run_is_reproduced(name, run):
    case = parity.case(name)
    run = case.run_named(run)
    assert parity.differences(case, run, parity.replay(case, run, parity.build(case, run))) == {}


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
