"""Sizes, lists and tables as text; the first line of another library's error."""

import re
from pathlib import Path

import pytest

from scarlet_jax import texts
from scarlet_jax.errors import first_line

PACKAGE = Path(__file__).parents[1] / "scarlet_jax"


@pytest.mark.parametrize(
    "value,shown",
    [(0, "0 B"), (999, "999 B"), (1000, "1.000 kB"), (1_234_000, "1.234 MB"), (5e9, "5.000 GB"), (2e15, "2000.000 TB")],
)
def test_a_size_is_in_the_largest_unit_that_it_fills(value, shown):
    assert texts.size(value) == shown


def test_a_long_list_is_cut_and_counted():
    assert texts.listing([]) == "" and texts.listing(range(5)) == "0, 1, 2, 3, 4"
    assert texts.listing(range(7)) == "0, 1, 2, 3, 4 and 2 more" and texts.listing("abc", most=1) == "a and 2 more"


def test_a_table_is_aligned():
    found = texts.table(["name", "n"], [["a", "12,000"], ["longer", "3"]], rule=True)
    assert found == ["  name         n", "  ------  ------", "  a       12,000", "  longer       3"]
    assert texts.table(["a", "b"], [["x", "y"]], left=2) == ["  a  b", "  x  y"]
    assert texts.line(["x", "1"], [4, 3], between="") == "x     1"


@pytest.mark.parametrize(
    "error,said",
    [
        (ValueError("one.\ntwo"), "one"),
        (ValueError("\n  two  words:\n"), "two words"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "name"),
        (KeyError(), "KeyError"),
        (OSError("a\x00b"), "a?b"),
        (ValueError(5), "5"),
    ],
)
def test_the_first_line_of_an_error(error, said):
    assert first_line(error) == said


def test_a_long_line_of_an_error_is_cut():
    assert len(first_line(ValueError("x" * 5000))) == 300


def test_no_module_has_its_own_way_to_shorten_an_error():
    own = re.compile(r"str\(error\)[^\n]*splitlines|splitlines\(\)[^\n]*type\(error\)")
    assert [path.name for path in PACKAGE.rglob("*.py") if own.search(path.read_text())] == ["errors.py"]
