"""The layers of the house: who may import whom, read from the syntax tree of every file."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "workbench"
LAYER = {
    "errors": 0,
    "shown": 0,
    "made_by": 0,
    "shipped": 0,
    "reading_once": 0,
    "plain_values": 0.5,
    "trust": 0.5,
    "file_errors": 0.5,
    "machine": 0.5,
    "files": 0.5,
    "folders": 0.75,
    "log_once": 0.5,
    "config": 1,
    "run_dir": 1,
    "run_record": 1.5,
    "weights": 1.75,
    "patterns": 1,
    "modelscope": 1,
    "wrapping": 1,
    "statistics": 1,
    "models": 2,
    "data": 2,
    "toy": 2,
    "distributed": 1.5,
    "contexts": 1.5,
    "progress": 1.5,
    "model_trials": 1.5,
    "training": 3,
    "evaluation": 3,
    "leaderboard": 4,
    "serving": 4,
    "api": 4.5,
    "__init__": 4.75,
    "pipeline": 5,
    "cli": 6,
    "__main__": 7,
}
NO_TORCH = (
    "errors.py",
    "shown.py",
    "made_by.py",
    "shipped.py",
    "plain_values.py",
    "file_errors.py",
    "files.py",
    "folders.py",
    "machine.py",
    "reading_once.py",
    "trust.py",
    "run_dir.py",
    "run_record.py",
    "cli/",
    "config/",
    "leaderboard/",
    "statistics/",
    "evaluation/__init__.py",
    "evaluation/records.py",
    "evaluation/metrics/__init__.py",
    "api/__init__.py",
    "api/benchmarks.py",
)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> list[tuple[str, Path]]:
    return [(str(path.relative_to(PACKAGE)), path) for path in sorted(PACKAGE.rglob("*.py"))]


def test_every_part_imports_only_from_layers_below_it():
    offences = []
    for name, path in files():
        part = name.split("/")[0].removesuffix(".py")
        for module in imports(path):
            words = module.split(".")
            if words[0] != "workbench" or len(words) < 2 or words[1] not in LAYER:
                continue
            if (
                words[1] != part
                and LAYER[words[1]] >= LAYER[part]
                and (part, words[1]) != ("config", "errors")
            ):
                offences.append(f"{name} imports {module}")
    assert offences == []


def room(path: Path) -> str:
    """The room of a file: models/gguf for models/gguf/reader.py, else the file itself."""
    return "/".join(path.relative_to(PACKAGE).parts[:2])


def imported_file(module: str) -> Path | None:
    """The file of `workbench.x.y.z`, where z may be a name inside the module."""
    names = module.split(".")[1:]
    for length in (len(names), len(names) - 1):
        stem = PACKAGE.joinpath(*names[:length])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.exists():
                return file
    return None


def test_rooms_do_not_import_each_other_in_a_circle():
    edges: dict[str, set[str]] = {}
    for _, path in files():
        for module in imports(path):
            target = imported_file(module) if module.startswith("workbench.") else None
            if target is not None and room(target) != room(path):
                edges.setdefault(room(path), set()).add(room(target))
    TopologicalSorter(edges).prepare()  # a CycleError names the circle


def test_training_and_evaluation_are_handed_their_models():
    offences = [
        f"{name} imports {module}"
        for name, path in files()
        if name.startswith(("training/", "evaluation/"))
        for module in imports(path)
        if module.startswith("workbench.models")
    ]
    assert offences == []


def test_the_harness_is_an_extra_that_no_other_file_needs():
    offences = [
        name
        for name, path in files()
        if name not in ("evaluation/harness/model.py", "evaluation/harness/scores.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom | ast.Import) and "lm_eval" in ast.unparse(node)
    ]
    assert offences == []


def test_no_folder_has_more_than_twenty_files():
    folders = {path.parent for _, path in files()}
    assert [str(folder) for folder in sorted(folders) if len(list(folder.glob("*.py"))) > 20] == []


def test_no_file_but_the_models_has_more_than_three_hundred_lines():
    long = [name for name, path in files() if len(path.read_text(encoding="utf-8").splitlines()) > 300]
    assert long == ["models/open_llama/modeling_open_llama.py"]


def test_no_function_but_the_models_forward_has_more_than_sixty_lines():
    long = {
        f"{name}: {node.name}"
        for name, path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    }
    assert long == {"models/open_llama/modeling_open_llama.py: forward"}


def test_no_function_assigns_a_name_of_its_module_that_it_also_calls():
    """Python calls the local value then; in a file that needs an extra package, only its users see that."""
    offences = []
    for name, path in files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        known = imported | {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            nodes = list(ast.walk(function))
            names = [node for node in nodes if isinstance(node, ast.Name)]
            assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            called = {
                node.func.id
                for node in nodes
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            offences += [f"{name}: {function.name} assigns {each}" for each in assigned & called & known]
    assert offences == []


def test_each_listed_path_exists():
    assert [name for name in NO_TORCH if not (PACKAGE / name).exists()] == []


def test_third_parties_stay_in_their_rooms():
    offences = []
    for name, path in files():
        for module in imports(path):
            top = module.split(".")[0]
            hydra = top in ("hydra", "omegaconf") and not name.startswith("cli/")
            training = name.startswith("evaluation/") and (
                top == "peft" or module.startswith("transformers.Trainer")
            )
            torch = top == "torch" and name.startswith(NO_TORCH)
            heavy = name.startswith("weights/") and top in ("transformers", "peft", "datasets", "accelerate")
            root = ("errors.py", "files.py", "folders.py", "shown.py", "shipped.py", "plain_values.py")
            standard_only = name.startswith(("config/", "run_dir.py", *root)) and top in (
                "numpy",
                "yaml",
                "rich",
                "transformers",
                "peft",
                "datasets",
                "jinja2",
            )
            if hydra or training or torch or heavy or standard_only:
                offences.append(f"{name} imports {module}")
    assert offences == []
