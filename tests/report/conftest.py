"""Runs that several tests report, and one report of them."""

import pytest

from scarlet_jax import report
from tests.support.report_runs import write_run


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Two seeds of SCARLET, one unfinished run, one without a server, one without bytes."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / "a", seed=1),
        write_run(folder / "b", seed=0, server=(0.2, 0.5, 0.6)),
        write_run(folder / "c", "dsfl", up=200, down=600),
        write_run(folder / "d", "dsfl", server=(0.2, 0.3), cache__duration=50, rounds=3),
        write_run(folder / "e", "individual", server=(None,) * 3, up=0, down=0),
        write_run(folder / "f", "centralized", up=None, down=None, clients=()),
    ]


@pytest.fixture(scope="session")
def made(many, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    options = report.Options((0.3, 0.5), "dsfl", uplink_mbps=10, downlink_mbps=50)
    report.write_report(many, out, options)
    return out, options
