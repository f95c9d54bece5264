"""The documents: each command composes, each link leads to a file, each table has whole rows."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from workbench import cli
from workbench.cli.arguments import prepare
from workbench.cli.composition import register
from workbench.config import Config

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "README.zh.md",
    "CHANGELOG.md",
    "recipes/README.md",
    "tests/performance/README.md",
    ".github/CONTRIBUTING.md",
)
INSTALLED_LAUNCHERS = ("hydra/launcher", "hydra.launcher")
QUIZ = "quiz"
"""The benchmark that recipes/README.md writes."""


def code_blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def workbench_commands(document: str) -> list[list[str]]:
    """The arguments of each `python -m workbench` in the document's blocks and tables."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [
        line for block in code_blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"`([^`\n]*python -m workbench[^`\n]*)`", text)
    commands = []
    for line in lines:
        words = shlex.split(line.partition(" #")[0])
        if "workbench" in words and "..." not in words:
            commands.append(words[words.index("workbench") + 1 :])
    return [words for words in commands if words and not words[0].startswith("--")]


COMMANDS = [(document, words) for document in DOCUMENTS for words in workbench_commands(document)]


def test_there_are_commands_in_the_documents():
    assert len(COMMANDS) > 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the benchmark of one's own that the cookbook writes."""
    (tmp_path / "conf/benchmark").mkdir(parents=True)
    (quiz,) = [block for block in code_blocks("recipes/README.md", "yaml") if "@package" in block]
    (tmp_path / f"conf/benchmark/{QUIZ}.yaml").write_text(quiz, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("document", "words"), COMMANDS, ids=lambda part: " ".join(part) if isinstance(part, list) else part
)
def test_each_command_composes(document, words, folder):
    sweep = "-m" in words
    plugins = (*INSTALLED_LAUNCHERS, "hydra/sweeper", "hydra.sweeper")
    words = [word for word in words if word != "-m" and not word.startswith(plugins)]
    words = [word for word in words if "interval(" not in word]  # a range is the sweeper's, not a value
    register()
    flags, overrides = prepare(["-m", *words] if sweep else words)
    singles = [
        re.sub(r"^([\w./]+=)([^\[{('\"]*?),.*$", r"\1\2", word) if sweep else word for word in overrides
    ]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        composed = compose("config", overrides=[*singles, "recipe_name=documents"])
    assert isinstance(OmegaConf.to_object(composed), Config)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_run_folder_that_a_command_reads_was_named_by_a_command_before_it(document):
    named, unknown = set(), []
    for words in workbench_commands(document):
        given = dict(word.partition("=")[::2] for word in words)
        folder = given.get("run_dir")
        if "model.path" in given:  # a run of its own, or another's; the others go on in a folder
            named.add(folder)
        elif folder and folder not in named:
            unknown.append(folder)
    assert unknown == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_link_leads_to_a_file(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_file_that_a_document_names_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:workbench|tests|conf|recipes)/[\w/.\-]*)`", text)
    own = {f"conf/benchmark/{QUIZ}.yaml"}
    assert [name for name in named if name not in own and not (ROOT / name).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= 7500


def test_both_readmes_give_the_same_commands():
    def keys(document: str) -> list[list[str]]:
        return [[word.partition("=")[0] for word in words] for words in workbench_commands(document)]

    english = keys("README.md")
    assert [command for command in english if command not in keys("README.zh.md")] == []
