"""What a table names is found, and a function stands for itself."""

import collections

from scarlet_jax.tables import load


def test_a_name_is_of_a_module_and_its_function():
    assert load("collections:OrderedDict") is collections.OrderedDict and load("os.path:join")("a", "b") == "a/b"


def test_a_function_is_itself():
    assert load(len) is len
