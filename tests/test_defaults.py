"""A default lives at its dataclass field, and nowhere else."""

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from workbench.config import Config
from workbench.shipped import shipped

CONF = shipped("conf")
SECTIONS = get_type_hints(Config)
OPTIONS = sorted(file for file in CONF.glob("*/*.yaml") if file.parent.name != "benchmark")
"""Options of a section. Benchmarks are left out: their YAML is their definition, whatever the defaults."""


@pytest.mark.parametrize("option", OPTIONS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_a_group_s_option_repeats_no_default_of_its_section_but_the_method_that_it_is_named_after(option):
    written = yaml.safe_load(option.read_text("utf-8")) or {}
    section = SECTIONS[option.parent.name]()
    defaults = {field.name: getattr(section, field.name) for field in fields(section)}
    as_yaml = {name: getattr(value, "name", value) for name, value in defaults.items()}
    assert {name for name, value in written.items() if value == as_yaml[name]} <= {"method"}


def test_a_group_that_is_shipped_offers_a_choice():
    for group in filter(Path.is_dir, CONF.iterdir()):
        assert len(list(group.glob("*.yaml"))) > 1, group.name
