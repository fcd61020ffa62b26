"""What the files around the code say of it: make targets, paths and modules exist. And how the tests are arranged."""

import ast
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks import __main__ as every_benchmark
from tests.support import long

ROOT = Path(__file__).resolve().parents[1]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / ".github").rglob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_only_calls_make(file):
    """And the actions that fetch the source and Python, and keep the wheel."""
    steps = [step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]]
    commands = [shlex.split(step["run"]) for step in steps if "run" in step]
    assert {make for make, *_ in commands} == {"make"}
    assert {target for _, target, *_ in commands} <= TARGETS
    actions = {step["uses"].split("@")[0] for step in steps if "uses" in step}
    assert actions <= {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}


def test_the_workflows_test_check_and_build():
    text = "".join(file.read_text() for file in WORKFLOWS)
    assert {"test", "check", "wheel"} <= set(re.findall(r"make (\w+)", text))
    assert 'python: ["3.11", "3.13"]' in text


def test_the_targets_that_are_named_exist():
    named = set(re.findall(r"(?:`|^    )make ([\w-]+)", "\n".join(file.read_text() for file in PROSE), re.MULTILINE))
    assert {"setup", "test", "check", "run"} <= named <= TARGETS
    listed = subprocess.check_output(["make", "--no-print-directory", "help"], cwd=ROOT, text=True)
    assert set(re.findall(r"^make ([\w-]+)", listed, re.MULTILINE)) == TARGETS - {"help"}


def test_the_paths_of_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall("`(.*?)`", row)]
    for name in packages:
        assert (ROOT / "scarlet_jax" / name).exists(), name
    tracked = {f"{file.parent.name}/" for file in (ROOT / "scarlet_jax").glob("*/__init__.py")}
    assert tracked <= set(packages)
    for name in re.findall(r"`((?:tests|tools|configs|docs|methods|models|data|options)/[\w/.]*)`", text):
        assert (ROOT / name).exists() or (ROOT / "scarlet_jax" / name).exists(), name


def test_pre_commit_calls_what_is_installed():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [shlex.split(hook["entry"])[:2] for hook in repository["hooks"]] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
    ]


SCRIPTS = [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci" / "run", ROOT / "tools" / "container.sh", *WORKFLOWS]
PROGRAMS = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tools").glob("*.py"), ROOT / "launch.py"]


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_the_paths_and_modules_of_a_script_exist(file):
    """Of the folders that are tracked; what a script makes itself (.venv, dist) is in none of them."""
    text = file.read_text()
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*") if path.parent.name not in ("build", "dist", "runs")}
    for path in re.findall(rf"(?<![\w./$-])((?:{'|'.join(folders)})(?:/[\w.-]+)+)", text):
        made = path.startswith("benchmarks/.venv-torch")
        assert made or (ROOT / path.rstrip(".")).exists(), f"{file.name} names {path}"
    for module in re.findall(r"-m ((?:benchmarks|scarlet_jax|tools)[\w.]*)", text):
        own = ROOT / module.replace(".", "/")
        assert own.with_suffix(".py").exists() or (own / "__main__.py").exists(), f"{file.name} runs {module}"
    assert set(re.findall(r"^(?:\s*- run: )?make ([a-z][\w-]*)", text, re.MULTILINE)) <= TARGETS
    if text.startswith("#!"):
        subprocess.run(["bash", "-n", file], check=True)


def test_every_benchmark_that_is_named_is_there():
    files = {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
    assert set(every_benchmark.NAMES) <= files
    for name in ("Makefile", "CONTRIBUTING.md", "docs/speed.md"):
        assert set(re.findall(r"-m benchmarks\.(\w+)", (ROOT / name).read_text())) <= files


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_a_program_uses_of_the_package_is_there(file):
    """Benchmarks and tools are run rarely: a name that has moved would be found late."""
    tree = ast.parse(file.read_text())
    used, missing = {}, object()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not re.match("scarlet_jax|benchmarks|tools", node.module or ""):
            continue
        for alias in node.names:
            try:
                value = getattr(importlib.import_module(node.module), alias.name, missing)
                value = importlib.import_module(f"{node.module}.{alias.name}") if value is missing else value
            except ModuleNotFoundError as error:
                assert error.name in ("triton", "torch", "jax_triton"), error  # of the extras, which need not be here
            else:
                used[alias.asname or alias.name] = value
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in used:
            assert hasattr(used[node.value.id], node.attr), f"line {node.lineno}: {node.value.id} has no {node.attr}"


TESTS = sorted((ROOT / "tests").rglob("*.py"))
PACKAGE = ROOT / "scarlet_jax"

# Modules that are tested under another name than their own. `__init__` files are tested with their folder.
TESTED_IN = {
    "configs": "options/test_configs.py",
    "data/archives.py": "data/test_sources.py",
    "data/builders": "data/test_builders.py",
    "data/clients.py": "data/test_given.py",
    "data/describe.py": "data/test_picture.py",
    "data/description.py": "commands/test_data.py",
    "data/packed.py": "data/test_unreadable.py",
    "data/pickles.py": "data/test_hostile_archives.py",
    "data/record.py": "data/test_sources.py",
    "engine/training.py": "engine/test_learner.py",
    "learners.py": "engine/test_numbers.py",
    "methods/base.py": "methods/test_outside.py",
    "models/conv": "models/conv/test_conv.py",
    "models/conv/native": "models/conv/test_native.py",
    "models/conv/triton": "models/test_fused.py",
    "models/resnet.py": "models/test_models.py",
    "models/small.py": "models/test_models.py",
    "options/fields.py": "options/test_odd_values.py",
    "options/relations.py": "options/test_rules.py",
    "options/without_effect.py": "options/test_rules.py",
    "preview/cards.py": "gpu/test_cards.py",
    "preview/checks.py": "options/test_odd_values.py",
    "report/panels.py": "test_metric_tables.py",
    "report/style.py": "report/test_figures.py",
    "runtime/checkpoint_record.py": "runtime/test_checkpoint.py",
    "runtime/interrupts.py": "end_to_end/test_interrupts.py",
    "runtime/opening.py": "end_to_end/test_damage.py",
    "runtime/run.py": "end_to_end/test_resume.py",
    "runtime/session.py": "end_to_end/test_resume.py",
    "runtime/start.py": "end_to_end/test_resume.py",
    "runtime/stopping.py": "end_to_end/test_stops.py",
    "runtime/streams.py": "end_to_end/test_streams.py",
    "runtime/trace.py": "end_to_end/test_profile.py",
}
# Two-line ways to start a command, and records without a decision.
DECIDE_NOTHING = {"plan.py", "sweep.py", "types.py"}


def test_every_module_has_a_test_file():
    """FOLDER/test_NAME.py for scarlet_jax/FOLDER/NAME.py, or what `TESTED_IN` names for it or for its folder."""
    modules = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    for module in sorted(modules - {Path(name) for name in DECIDE_NOTHING}):
        own = module.with_name(f"test_{module.name}")
        named = [TESTED_IN[str(place)] for place in (module, *module.parents) if str(place) in TESTED_IN]
        assert (ROOT / "tests" / own).exists() or named, f"{module} has no tests/{own}"
    for place, tests in TESTED_IN.items():
        assert (PACKAGE / place).exists() and (ROOT / "tests" / tests).exists(), (
            f"{place} is said to be tested in {tests}"
        )
        own = Path(place).with_name(f"test_{Path(place).name}")
        assert not (ROOT / "tests" / own).exists(), f"{place} has a test file of its own name"


def test_the_list_of_long_tests_is_of_tests_that_there_are():
    """A name that changed would make its test short, or long, unnoticed."""
    assert not set(long.LONG) & set(long.LONG_IN)
    for file, names in (long.LONG | long.LONG_IN).items():
        texts = [path.read_text() for path in (ROOT / "tests" / file, ROOT / "tests" / "support" / "convolutions.py")]
        defined = re.findall(r"^ *def (test_\w+)", "".join(texts), re.MULTILINE)  # those of `ConvLaws` are inherited
        for name in names:
            function, bracket, _ = name.partition("[")
            function = function.rpartition("::")[2]
            assert any(own == function if bracket else own.startswith(function) for own in defined), f"{file}: {name}"
        assert file in long.LONG or names, file


def parsed(path):
    """The trees of a test file: its own, and those of the programs that it holds as text for another process."""
    tree = ast.parse(path.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    trees = [tree]
    for text in texts:
        if "import " in text and "\n" in text:
            try:
                trees.append(ast.parse(text))
            except SyntaxError:
                continue  # prose, or a text with places to fill in
    return trees


def imported(tree):
    """Full names of all that a tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or '.'}.{alias.name}" for alias in node.names)


def test_no_test_imports_another():
    """What several tests share is in tests/support."""
    found = [(path, name) for path in TESTS for tree in parsed(path) for name in imported(tree)]
    assert len(found) > 500
    for path, name in found:
        shared = name.startswith(("tests.support", "tests.conftest"))
        assert shared or not name.startswith(("tests", ".")), f"{path} imports {name}"
        assert not re.match(r"(\w+\.)*(test_\w+|conftest)(\.|$)", name), f"{path} imports {name}"


# Of named tuples; and of other packages, which offer nothing else for what is tested.
NOT_PRIVATE = {"_replace", "_fields", "_asdict", "_make", "_preprocess_math", "_open_url", "_GzipReader", "_rewind",
               "_Pickler", "_name"}  # fmt: skip


def private(name):
    return name.startswith("_") and not name.startswith("__") and name not in NOT_PRIVATE


def private_names(tree):
    """Line and name of each private name that a tree uses: an attribute of anything but `self`, an import, and a text
    for monkeypatch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
            yield from ((node.lineno, part) for text in texts for part in str(text).split("."))
    yield from ((0, part) for name in imported(tree) for part in name.split("."))


def test_no_test_uses_a_private_name():
    found = [(path, *use) for path in TESTS for tree in parsed(path) for use in private_names(tree)]
    assert len(found) > 500
    assert [use for use in found if private(use[-1])] == []
    # As a text for monkeypatch, too, that stands in a list of cases.
    functions = set(re.findall(r"def (_[a-z]\w+)", "".join(file.read_text() for file in PACKAGE.rglob("*.py"))))
    programs = {name for name in functions if name.endswith(("_phase", "_block"))}  # as XLA names what it compiled
    texts = {(path, node.value) for path in TESTS for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
    own = {"_rows", "_client_mean", *NOT_PRIVATE}  # parts of names in the golden files, and what is allowed above
    assert [(path, text) for path, text in texts if text in functions - programs - own] == []
