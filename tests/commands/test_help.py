"""The text of --help."""

from configs import base
from scarlet_jax.commands import config_files, help
from scarlet_jax.options import fields
from tests.support.harness import ROOT, launch


def test_every_field_of_base_is_described():
    described = [
        field
        for heading, rows in help.descriptions((ROOT / "configs/base.py").read_text())
        for field, comment in rows
        if heading and comment
    ]
    assert sorted(described) == sorted(fields.leaves(base.get_config()))


def test_comments_are_grouped_under_their_heading():
    source = "## A\nc.x = 1  # one\nc.y = 2\n\n## B\nc.z.w = 3  # three\n"
    assert help.field_comments(source) == [("A", [("x", "one")]), ("B", [("z.w", "three")])]


def test_a_comment_that_stands_alone_is_no_heading():
    source = (
        "## A\nc.x = 1  # one\n# Any remark.\n\n# More of y,\n# and still more.\nc.y = 2  # two\n"
        "# of no field\nc.g = d()\nc.z = 3  # three\n"
    )
    described = [("x", "one"), ("y", "two. More of y, and still more."), ("z", "three")]
    assert help.field_comments(source) == [("A", described)]


def test_the_groups_of_a_config_have_headings_of_their_own():
    found = help.descriptions((ROOT / "configs/base.py").read_text())
    headings = {}
    for heading, rows in found:
        for field, _ in rows:
            headings.setdefault(field.rpartition(".")[0], set()).add(heading.split()[0].strip(":;"))
    expected = {"data": "Data", "partition": "Partition", "model": "Models", "method": "Method", "cache": "Soft-label"}
    assert {group: headings[group] for group in expected} == {group: {word} for group, word in expected.items()}
    assert len({heading for heading, _ in found}) == len(found) == len([rows for _, rows in found if rows])


def test_help_is_instant_complete_and_narrow():
    done = launch("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines.index("Examples:") < lines.index("Flags:") < lines.index("Federation")
    for field, value in fields.leaves(base.get_config()).items():
        [line] = [line for line in lines if line.startswith(f"  {field} ")]
        assert value in (None, "") or line.split()[1].lower() == str(value).lower()
    assert any(line.startswith("  --workdir") for line in lines)


def test_help_shows_the_values_of_the_config_that_is_named(capsys):
    text = help.render(
        config_files.load_config(str(ROOT / "configs/digits.py")),
        (ROOT / "configs/base.py").read_text(),
        "configs/digits.py",
        [],
        "run",
        "",
        [],
    )
    assert "with their values in configs/digits.py" in text
    assert any(line.split()[:2] == ["rounds", "30"] for line in text.splitlines())
