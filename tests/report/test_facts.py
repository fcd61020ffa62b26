"""What a report says was run."""

import csv
import io

import pytest

from scarlet_jax import report
from scarlet_jax.report import facts
from tests.support.report_runs import environment, write_run


def test_a_report_says_what_was_run(tmp_path):
    paths = [
        write_run(tmp_path / "a", lr=0.05, seed=3, partition__alpha=0.3, momentum=0.9),
        write_run(tmp_path / "b", "dsfl", lr=0.05, partition__alpha=0.3, momentum=0.9, epochs=1),
        write_run(tmp_path / "c", "cfd", lr=0.05, partition__alpha=0.3, momentum=0.9),
    ]
    environment(paths[0], "abc", "def-dirty")
    environment(paths[1], "abc")
    (paths[2] / "environment.json").write_text('{"starts": [')  # damaged: nothing is known, and nothing is refused
    report.write_report(paths, tmp_path / "out")
    markdown = (tmp_path / "out" / "table.md").read_text()
    for line in (
        "| private data | cifar10 |",
        "| public data | cifar100, N = 10,000, P = 1,000 |",
        "| clients | K = 2, participation 1 |",
        "| partition | dirichlet, alpha 0.3 |",
        "| rounds | 3 |",
        "| distillation | 5 epochs, batches of 50, optimizer sgd, lr 0.1 |",
        "| models | client resnet20, server resnet20 |",
        "| seeds | 3 (SCARLET, epochs=5); 0 (DS-FL, epochs=1; CFD, epochs=5) |",
        "| commit | abc; def-dirty (SCARLET, epochs=5); abc (DS-FL, epochs=1); not recorded (CFD, epochs=5) |",
    ):
        assert line in markdown, line
    assert (
        "5 epochs, batches of 50, optimizer sgd, lr 0.05, momentum 0.9 (SCARLET, epochs=5; CFD, epochs=5); 1 epoch, "
        in markdown
    )
    assert "python 3.11.7, jax 0.10.2, flax 0.12.1" in markdown
    assert "2 x cpu:cpu" in markdown and "What was run" in (tmp_path / "out" / "report.html").read_text()
    row = next(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    expected = {"private": "cifar10", "num_clients": "2", "alpha": "0.3", "lr": "0.05", "commit": "abc; def-dirty"}
    assert expected.items() <= row.items()


def test_a_servers_architecture_is_named_where_it_has_one_of_its_own(tmp_path):
    groups = {"model__client": "mlp:1,cnn:1", "model__server": "cnn"}
    found = {}
    for name in ("scarlet", "feddf", "individual", "mine:build"):
        run = report.load(write_run(tmp_path / name.replace(":", ""), name, **groups))
        found[name] = facts.described(report.group_runs([run])[0])["models"]
    assert found == {
        "scarlet": "client mlp:1,cnn:1, server cnn",
        "feddf": "client mlp:1,cnn:1",
        "individual": "client mlp:1,cnn:1",
        "mine:build": "client mlp:1,cnn:1, server cnn",
    }


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fedproto", ("none", "none", "client resnet20")),
        ("centralized", ("none", "none", "client resnet20, server resnet20")),
        (
            "fedmd",
            ("cifar100, N = 10,000, P = 1,000", "5 epochs, batches of 50, optimizer sgd, lr 0.1", "client resnet20"),
        ),
    ],
)
def test_what_a_method_does_not_use_is_not_said_to_have_been_run(tmp_path, method, expected):
    (group,) = report.group_runs([report.load(write_run(tmp_path / "a", method))])
    found = facts.described(group)
    assert tuple(found[name] for name in ("public data", "distillation", "models")) == expected
