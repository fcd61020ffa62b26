"""Functions of the package assign to no variable of a module: what they know is passed to them."""

import ast
from pathlib import Path

import scarlet_jax

FOLDER = Path(scarlet_jax.__file__).parent
ALLOWED = {"models/conv/triton/primitive.py"}  # the card that kernels are compiled for, where none is there


def assigned(path):
    """Variables of a module that its functions assign to."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Global):
            yield from node.names


def test_no_function_assigns_to_a_variable_of_its_module():
    files = sorted(FOLDER.rglob("*.py"))
    assert len(files) > 100
    found = {str(path.relative_to(FOLDER)) for path in files if list(assigned(path))}
    assert found <= ALLOWED


def targets(path):
    """What a file assigns to, as text: `config.model.conv`, for example."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                parts = [part for part in ast.walk(target) if isinstance(part, ast.Attribute | ast.Subscript)]
                yield from map(ast.unparse, parts)


def test_only_parsing_and_cards_assign_to_fields_of_a_config():
    """Everything behind the validation of a config reads it only."""
    rooms = ["build.py", "data", "engine", "learners.py", "methods", "models", "preview", "protocol", "runtime"]
    files = [path for room in rooms for path in [FOLDER / room, *(FOLDER / room).rglob("*.py")] if path.suffix == ".py"]
    assert len(files) > 80
    found = [f"{path.name}: {target}" for path in files for target in targets(path) if target.startswith("config")]
    assert found == []
