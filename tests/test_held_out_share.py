"""What `data.validation_fraction` means where it is not given, in the folder of a run that has begun."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from workbench import cli
from workbench.cli import composition
from workbench.errors import ConfigError
from workbench.run_dir import RunDir

NAMED = "benchmark=[toy_choice_en]"
OTHERS = ("recipe=sft", "model.path=tiny", "data.path=x.jsonl")


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """What a command of these overrides takes on, in the folder of one that has begun with others."""
    cli.register()
    GlobalHydra.instance().clear()

    def typed(*overrides: str) -> tuple[float | None, RunDir]:
        choices, task = {"recipe": "sft"}, list(overrides)
        hydra = OmegaConf.create({"runtime": {"choices": choices}, "overrides": {"task": task, "hydra": []}})
        monkeypatch.setattr(composition.HydraConfig, "get", lambda: hydra)
        config, run_dir, text = composition.typed(composed(*overrides))
        run_dir.path.mkdir(parents=True, exist_ok=True)
        if not run_dir.config_yaml.exists():
            run_dir.config_yaml.write_text(text)
        return config.data.validation_fraction, run_dir

    def composed(*overrides: str) -> DictConfig:
        return compose("config", overrides=[*OTHERS, *overrides])

    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        yield typed


@pytest.mark.parametrize(("first", "then", "share"), [((), (NAMED,), None), ((NAMED,), (), 0.0)])
def test_a_run_goes_on_with_the_share_that_it_began_with_in_the_same_folder(begin, first, then, share):
    began, folder = begin(*first)
    assert began == share
    assert begin(*then) == (share, folder)


def test_a_share_that_is_given_makes_another_run(begin):
    shares = [[], ["data.validation_fraction=0"], ["data.validation_fraction=0.1"]]
    assert len({begin(*share)[1].path for share in shares}) == 3
    with pytest.raises(ConfigError, match="holds another run, with data.validation_fraction=None, not 0"):
        begin("run_dir=runs/" + begin()[1].name, "data.validation_fraction=0")
