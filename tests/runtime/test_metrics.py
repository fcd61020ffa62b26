"""Rows and summaries against plain arithmetic."""

import numpy as np
import pytest

from scarlet_jax.engine.evaluation import PublicValidation
from scarlet_jax.protocol.ledger import LEDGERS, Bytes
from scarlet_jax.runtime import metrics
from tests.support.reports import evaluation, report, scores

BILLED = {"reference": Bytes(100, 300), "wire": Bytes(7, 2**40)}


def row_of(round_=3, report_=None, evaluation_=None, billed=BILLED, totals=None, groups=None, servers=()):
    made = round_, report_ or report(), evaluation_, billed, totals or metrics.no_totals(), 1.23456789
    return metrics.make_row(*made, groups or {"a": ()}, servers)


def test_a_row_by_hand():
    row, _ = row_of(evaluation_=evaluation(public_val=PublicValidation(np.float32(0.25), np.float32(0.5))))
    expected = {
        "round": 3, "participants": 3, "server_top1": 8 / 20, "server_top5": 16 / 20, "server_loss": 5 / 20,
        "client_top1": (3 / 5 + 1 / 4) / 2, "client_top5": (4 / 5 + 2 / 4) / 2, "client_loss": (2.5 / 5 + 6 / 4) / 2,
        "clients_evaluated": 2, "private_val_top1": None, "private_val_loss": None, "public_val_loss": 0.25,
        "public_val_agreement": 0.5, "fit_loss": 3.0, "fit_accuracy": 0.25, "kd_loss": 1.0, "server_kd_loss": 0.5,
        "target_entropy": None, "disagreement": None, "requested": 6, "hit": 2, "stale": 1, "caught_up": 3,
        "uplink_bytes_reference": 100, "downlink_bytes_reference": 300, "uplink_bytes_wire": 7,
        "downlink_bytes_wire": 2**40, "seconds": 1.234568,
    }  # fmt: skip
    own = {name: value for name, value in row.items() if not name.startswith("total_")}
    assert own == pytest.approx(expected) and list(own) == list(expected)
    assert all(type(value) in (int, float, type(None)) for value in row.values()), "JSON's own numbers"


def test_a_round_without_evaluation_has_no_scores():
    row, _ = row_of()
    scored = [*metrics.summarised(), "private_val_top1", "private_val_loss", "public_val_loss", "public_val_agreement"]
    assert {row[name] for name in scored} == {None} and row["fit_loss"] == 3


def test_scores_by_the_nearest_prototype_are_columns_of_the_methods_that_have_them():
    own = evaluation()
    clients = own.clients._replace(sums=own.clients.sums | {"prototype_top1": np.float32([4, 0, 3])})
    own = own._replace(clients=clients)

    def row_with(evaluation_):
        arguments = 3, report(), evaluation_, BILLED, metrics.no_totals(), 1.0, {"a": ()}
        return metrics.make_row(*arguments, prototypes=True)[0]

    row, before = row_with(own), row_with(None)
    assert row["client_prototype_top1"] == pytest.approx((4 / 5 + 3 / 4) / 2)
    assert before["client_prototype_top1"] is None and list(before) == list(row)
    assert [name for name in row if "prototype" in name] == ["client_prototype_top1"]
    assert [r["prototype_top1"] for r in metrics.client_rows(3, own, True)] == pytest.approx([4 / 5, None, 3 / 4])
    summary = metrics.summarise(metrics.no_summary(), row, metrics.no_totals())
    summary = metrics.summarise(summary, before, metrics.no_totals())
    assert summary["client_prototype_top1"] == row["client_prototype_top1"]
    assert "by the nearest prototype 0.7750" in metrics.summary_text(summary)
    others, _ = row_of(evaluation_=evaluation())
    assert not [name for name in others if "prototype" in name]
    assert "prototype" not in metrics.summary_text(metrics.summarise(metrics.no_summary(), others, metrics.no_totals()))


def test_totals_are_exact_integers_and_count_what_was_drawn():
    totals, before = metrics.no_totals(), None
    for round_ in range(3):
        row, totals = row_of(round_, billed={"reference": Bytes(2**62, 1), "wire": Bytes(3, 4)}, totals=totals)
        assert row["total_uplink_bytes_reference"] == 2**62 * (round_ + 1)
        assert row["total_downlink_bytes_wire"] == 4 * (round_ + 1)
        assert totals is not before
        before = totals
    assert (totals["drawn"], totals["hit"]) == (3 * 8, 3 * 2)


def test_a_method_that_bills_nothing_has_no_bytes():
    row, totals = row_of(report_=report(counts=None), billed={})
    names = [f"{t}{d}link_bytes_{ledger}" for t in ("", "total_") for d in ("up", "down") for ledger in LEDGERS]
    assert {row[name] for name in names} == {row["requested"], row["hit"]} == {None}
    assert {totals[name] for name in names if name.startswith("up") or name.startswith("down")} == {None}


def test_each_architecture_has_columns_of_its_own():
    groups = {"mlp": range(5), "cnn": range(5, 8)}
    row, _ = row_of(evaluation_=evaluation(), groups=groups)
    assert row["client_top1_mlp"] == pytest.approx(3 / 5) and row["client_loss_cnn"] == pytest.approx(6 / 4)
    empty, _ = row_of(groups=groups)
    assert empty["client_top1_mlp"] is None and set(empty) == set(row)
    assert not [name for name in row_of(evaluation_=evaluation(), groups={"mlp": range(8)})[0] if "mlp" in name]


def test_the_servers_score_is_the_mean_of_its_models():
    servers = {"mlp": scores(8, 16, 5, 20), "cnn": scores(12, 18, 15, 20)}
    public = {"mlp": PublicValidation(np.float32(0.25), np.float32(0.5)), "cnn": PublicValidation(0.75, 1.0)}
    own = report(server_kd_loss=np.array([0.5, 1.5]))
    row, _ = row_of(report_=own, evaluation_=evaluation(server=servers, public_val=public), servers=("mlp", "cnn"))
    assert (row["server_top1_mlp"], row["server_top1_cnn"]) == (8 / 20, 12 / 20)
    assert (row["server_top1"], row["server_loss"], row["server_loss_cnn"]) == pytest.approx((0.5, 0.5, 0.75))
    assert (row["public_val_loss"], row["public_val_agreement"], row["server_kd_loss"]) == (0.5, 0.75, 1.0)
    empty, _ = row_of(servers=("mlp", "cnn"))
    assert empty["server_top1_mlp"] is None and list(empty) == list(row)


def test_client_rows_are_shares_and_null_without_samples():
    assert metrics.client_rows(3, evaluation()) == [
        {"round": 3, "client": 1, "top1": pytest.approx(0.6), "top5": 0.8, "loss": 0.5, "samples": 5},
        {"round": 3, "client": 4, "top1": None, "top5": None, "loss": None, "samples": 0},
        {"round": 3, "client": 6, "top1": 0.25, "top5": 0.5, "loss": 1.5, "samples": 4},
    ]


def test_the_summary_keeps_the_latest_evaluation():
    totals = metrics.no_totals() | {"drawn": 4, "hit": 1, "uplink_bytes_wire": 5}
    row = dict.fromkeys(metrics.summarised(), 0.5) | {"round": 0}
    summary = metrics.summarise(metrics.no_summary(), row, totals)
    later = metrics.summarise(summary, dict.fromkeys(metrics.summarised()) | {"round": 1}, totals)
    assert later["server_top1"] == 0.5 and later["rounds"] == 2 and later["cache_share"] == 0.25
    assert later["uplink_bytes"] == {"reference": 0, "wire": 5} and not later["complete"]
    assert set(metrics.no_summary()) == set(later) and metrics.no_summary()["cache_share"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((9, 10, True, 0), "the 9 of 10 clients that have test images"),
        ((10, 10, True, 0), "all 10 clients"),
        ((10, 10, True, 1), "all 10 clients (the server's model)"),
        ((10, 10, True, 2), "all 10 clients (the server's models)"),
        ((3, 10, False, 0), "the 3 participants last evaluated"),
        ((None, 10, True, 0), ""),
    ],
)
def test_whose_mean_a_client_score_is(arguments, words):
    assert metrics.averaged_over(*arguments) == words


def test_the_summary_for_people():
    summary = metrics.no_summary() | {
        "rounds": 1, "server_top1": 0.5, "server_top5": 0.75, "client_top1": None, "client_top5": 1.0,
        "uplink_bytes": {"reference": 1_234_567, "wire": None}, "downlink_bytes": {"reference": 0, "wire": None},
        "cache_share": 0.25,
    }  # fmt: skip
    assert metrics.summary_text(summary).splitlines() == [
        "1 round: server top-1 0.5000, mean client top-1 -",
        "  reference ledger:       1.235 MB up,      0.000 MB down",
        "  labels served from the cache: 25.0% of those drawn",
    ]
    many = metrics.summary_text(summary | {"rounds": 2, "headline": "top5", "client_mean_over": "all 4 clients"})
    assert many.splitlines()[:2] == [
        "2 rounds: server top-5 0.7500, mean client top-5 1.0000 over all 4 clients",
        "  server top-1 0.5000, mean client top-1 -",
    ]
    assert [metrics.headline(classes) for classes in (10, 99, 100, 200)] == ["top1", "top1", "top5", "top5"]
