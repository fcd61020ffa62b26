"""Where processes meet, and that one process alone waits for nobody."""

import jax
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import hosts


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("a:1", None, None), "--num_processes and --process_id missing"),
        ((None, 2, 0), "--coordinator missing"),
        (("a", 2, 0), "--coordinator is 'a'; allowed is HOST:PORT"),
        (("a:70000", 2, 0), "--coordinator is 'a:70000'; allowed is HOST:PORT"),
        (("a:1", 2, 2), "--process_id is 2; allowed is 0 to 1"),
        (("a:1", 0, 0), "--num_processes is 0; allowed is 1 or more"),
        (("a:1", 2, -1), "--process_id is -1; allowed is a whole number"),
    ],
)
def test_impossible_clusters_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        hosts.find_cluster(*given, environment={})


def test_flags_come_before_the_environment():
    environment = {"JAX_COORDINATOR_ADDRESS": "b:2", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert hosts.find_cluster(None, None, None, environment) == hosts.Cluster("b:2", 4, 3)
    assert hosts.find_cluster("a:1", 2, 0, environment) == hosts.Cluster("a:1", 2, 0)
    assert hosts.find_cluster(None, None, None, {}) is None
    with pytest.raises(UserError, match="JAX_PROCESS_ID is 'x'"):
        hosts.find_cluster(None, None, None, environment | {"JAX_PROCESS_ID": "x"})


@pytest.mark.parametrize(("tasks", "nodes", "devices"), [("2", "2", []), ("8", "2", None)])
def test_a_slurm_task_with_a_node_to_itself_takes_all_its_devices(monkeypatch, tasks, nodes, devices):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: asked.append((args, options)))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", nodes)
    hosts.connect(None)
    ((args, options),) = asked
    assert args == () and options["cluster_detection_method"] == "slurm"
    assert options["local_device_ids"] == devices  # None: jax's choice, one for each task; []: all


@pytest.mark.parametrize("tasks", ["", "1"])
def test_a_single_task_joins_nobody(monkeypatch, tasks):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: pytest.fail("joined"))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    hosts.connect(None)
    hosts.connect(hosts.Cluster("a:1", 1, 0))
    assert not hosts.several()


def test_one_process_agrees_with_itself():
    """Nothing is sent, and what the work returns is passed on as it is."""
    result = object()
    assert hosts.together(lambda: result) is hosts.from_first(lambda: result) is result
    assert hosts.largest(7) == 7 and hosts.is_first()
    hosts.check_same(object(), "they differ")
