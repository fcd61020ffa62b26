"""Every field of a config with values that nobody expects: each is accepted, or refused in one sentence."""

import ast
import decimal
import fractions
import json
import math
import pathlib
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from ml_collections import config_dict

from configs import base, digits
from scarlet_jax import build
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.options import fields, rules
from scarlet_jax.options.groups import model_groups
from scarlet_jax.options.rules import validate
from scarlet_jax.options.without_effect import without_effect
from scarlet_jax.preview import checks

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIELDS = tuple(fields.leaves(base.get_config()))


class Unprintable:
    """An object whose text cannot be had."""

    def __repr__(self):
        raise RuntimeError


ODD = {
    "none": None, "true": True, "zero": 0, "minus one": -1, "one": 1, "beyond int32": 2**31, "beyond int64": 2**63,
    "more digits than Python prints": 10**5000, "denormal": 5e-324, "tiny": 1e-45, "huge": 1e39, "largest": 1.7e308,
    "most negative": -1.7e308, "nan": math.nan, "infinite": math.inf, "a float for an int": 3.0, "billion": 1e9,
    "empty": "", "blank": " ", "superscript": "²", "group of superscripts": "mlp:²", "many digits": "mlp:" + "9" * 5000,
    "group of none": "mlp:", "commas": ",,", "colons": "mlp:1:2", "lines": "a\nb", "no character": "a\0b",
    "no UTF-8": "a\udcffb", "long": "a" * 5000, "number as text": "3", "bytes": b"x", "list": [1], "empty list": [],
    "tuple": (), "dict": {}, "group": config_dict.ConfigDict({"x": 1}), "empty group": config_dict.ConfigDict(),
    "single": np.float32(0.5), "double": np.float64(0.5), "numpy int": np.int64(3), "numpy byte": np.uint8(3),
    "numpy bool": np.bool_(True), "numpy text": np.str_("mlp"), "numpy nan": np.float16(np.nan),
    "date": np.datetime64(0, "s"),
    "array": np.array([1, 2]), "0-d array": np.array(3), "no number": 1j, "fraction": fractions.Fraction(1, 3),
    "decimal": decimal.Decimal("0.1"), "set": {1}, "path": pathlib.Path("x"), "function": len, "type": int,
    "unprintable": Unprintable(), "reference": config_dict.FieldReference(3),
}  # fmt: skip


def config_of(field: str, value) -> config_dict.ConfigDict:
    """configs/digits.py with a field as a config written by hand might have it."""
    values = digits.get_config().to_dict()
    group, _, key = field.rpartition(".")
    (values[group] if group else values)[key] = value
    return config_dict.ConfigDict(values)


def refusal(config: config_dict.ConfigDict) -> str | None:
    """What a start does with a config before it loads data; None: it goes on."""
    try:
        config = fields.plain(config)
        validate(config)
        checks.check(config)
    except UserError as error:
        return str(error)
    without_effect(config)
    json.loads(config.to_json())
    assert fields.durations(config)["duration"] >= 0
    assert sum(group.participants for group in model_groups(config)) == build.num_participants(config) > 0
    return None


@pytest.mark.parametrize("field", FIELDS)
def test_an_odd_value_is_accepted_or_refused_in_one_sentence(field):
    for name, value in ODD.items():
        sentence = refusal(config_of(field, value))
        if sentence is not None:
            assert re.fullmatch(r"[^\n]{1,1000}\.", sentence), (name, sentence)
            # A value that is possible by itself may be impossible with that of another field.
            assert re.match(r"config\.\S+ is .*; allowed is ", sentence), (name, sentence)


@pytest.mark.parametrize("method", METHODS)
def test_an_odd_value_of_a_methods_own_field(method):
    config = digits.get_config()
    config.method.name, config.cache.duration = method, None
    for field in rules.method_rules(method):
        for name, value in ODD.items():
            config = config_of(field, value)
            config.method.name, config.cache.duration = method, None
            sentence = refusal(config)
            if sentence is not None:
                assert re.match(rf"config\.{field} is [^\n]*; allowed is [^\n]*\.$", sentence), (name, sentence)


@hypothesis.given(
    st.sampled_from(FIELDS),
    st.one_of(st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()), st.fractions()),
)
@hypothesis.settings(max_examples=500)
def test_any_value_is_accepted_or_refused_in_one_sentence(field, value):
    sentence = refusal(config_of(field, value))
    assert sentence is None or re.fullmatch(r"config\.\S+ is [^\n]*; allowed is [^\n]*\.", sentence), sentence


@pytest.mark.parametrize(
    "config",
    [config_dict.ConfigDict(), config_dict.ConfigDict({"method": {}}), config_dict.ConfigDict({"a": {"b": {}}})],
    ids=["empty", "empty group", "unknown groups"],
)
def test_a_config_without_fields_is_one_sentence(config):
    assert re.fullmatch(r"config\.seed is missing: .*\.|.*nothing reads, .*\.", refusal(config))


def test_numpy_scalars_are_read_as_pythons_own_numbers():
    config = digits.get_config().unlock()
    with config.ignore_type():
        config.lr, config.rounds, config.same_init = np.float32(0.1), np.int32(7), np.bool_(False)
    config = fields.plain(config)
    assert (config.lr, config.rounds, config.same_init) == (0.1, 7, False)
    assert [type(v) for v in (config.lr, config.rounds, config.same_init)] == [float, int, bool]


@pytest.mark.parametrize("clients", [49, 98, 103, 107, 161, 187, 196, 197])
def test_one_client_of_all_is_accepted_everywhere(clients):
    config = digits.get_config()
    config.num_clients, config.participation = clients, 1 / clients
    assert refusal(config) is None
    assert build.make_planner(config, 10).draws.num_participants == build.num_participants(config) == 1
    config.participation = math.nextafter(1 / clients, 0)
    assert refusal(config).startswith(f"config.participation is {config.participation!r}, which gives no client")


def test_the_least_share_that_a_refusal_names_is_accepted():
    for clients in (3, 7, 49, 1_000_003):
        config = digits.get_config()
        config.num_clients, config.participation = clients, 1e-9
        least = re.search(r"a number from (\S+) to 1", refusal(config))[1]
        config.participation = float(least)
        assert refusal(config) is None


@pytest.mark.parametrize("fields_", [{"rounds": 2**31 - 1}, {"num_clients": 2**31 - 1, "participation": 0.5}], ids=str)
def test_a_plan_that_no_memory_holds_is_refused(fields_):
    config = digits.get_config()
    config.update(fields_)
    with pytest.raises(
        UserError, match=r"^config\.rounds is .* GB of memory with config\.num_clients = .*; allowed is "
    ):
        build.make_planner(config, 10, memory=10**10).run()


def test_a_batch_is_at_most_what_there_is():
    from scarlet_jax.engine.optimizers import sgd
    from scarlet_jax.engine.training import Training

    training = Training(1, 2**31 - 1, sgd(0.1, 0, 0))
    assert [training.of(size).batch_size for size in (0, 1, 30, 2**31 - 1)] == [1, 1, 30, 2**31 - 1]
    assert training._replace(batch_size=20).of(30).batch_size == 20


def _sentences():
    """Every literal of the source that is raised as a refusal, by its place; what is filled in is a word."""
    for path in sorted([*(ROOT / "scarlet_jax").rglob("*.py"), *(ROOT / "configs").rglob("*.py"), ROOT / "launch.py"]):
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            if called in ("UserError", "NonFiniteError") and node.args:
                text = _text(node.args[0])
                if text is not None:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "word" for part in node.values)
    if isinstance(node, ast.BinOp):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    return None


def test_every_refusal_of_the_source_is_one_sentence_that_ends():
    found = list(_sentences())
    assert len(found) > 80
    for place, text in found:
        # One that ends with the words of a library gets their full stop when it is made.
        assert "\n" not in text and text.endswith((".", "word")) and not text.endswith(".."), place


def test_every_refusal_of_a_field_has_one_form():
    """`errors.bad_field` makes it. What depends on the data says what is there, and is left to the folder data."""
    for place, text in _sentences():
        named = re.match(r"((?:[a-z_]+\.)?[a-z_]+)(?: is |=)", text)
        argument = "predictor.py" in place  # of a function, which has the name of a field
        assert not named or named[1] not in FIELDS or argument or "/data/" in place, (place, text)
