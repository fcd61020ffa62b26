"""Two processes with two CPU devices each, over gloo: the bits of one process, in files that the first one writes."""

import signal
import socket
import subprocess
import sys

from scarlet_jax.runtime import checkpoint
from tests.support import harness
from tests.support.harness import assert_same_run, command, wait_for

# 6 clients do not divide by 4 devices; half of them take part. Equality is of bits: sums have one order on any mesh.
FIELDS = {"num_clients": 6, "participation": 0.5, "batch_size": 10, "clients_per_chunk": 1, "checkpoint.every": 10**6}


def start(workdir, processes, each=None, **fields):
    """Start `processes` processes; `each` gives further arguments by process id."""
    with socket.socket() as free:  # freed just before process 0 binds it; nothing else here asks for that port
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = harness.environment(devices=2)
    started = []
    for i in range(processes):
        meeting = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}", f"--process_id={i}"]
        arguments = command(workdir, **FIELDS | fields) + (meeting if processes > 1 else []) + (each or {}).get(i, [])
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(arguments, cwd=harness.ROOT, env=environment, **pipes))
    return started


def end(processes, code):
    """Output and errors of each; all must end with `code`."""
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [code] * len(processes), outputs
    return outputs


def train(workdir, processes, **fields):
    return end(start(workdir, processes, **fields), 0)


def final_lines(output):
    """What a run prints at its end."""
    return output[output.index("rounds: server top-1") :]


def test_a_run_passed_between_two_processes_and_one_has_the_bits_of_one(tmp_path):
    """Two processes fed from the host until a signal to one, one process for a round, two until a bound that the next
    round reaches; against one process until this bound."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    stopped = start(run, 2, rounds=1_000_000, **{"data.device_budget_mb": 0.001})
    try:
        wait_for(lambda: (run / "metrics.jsonl").exists(), stopped[0])
        stopped[1].send_signal(signal.SIGTERM)
        (out, _), _ = end(stopped, 128 + signal.SIGTERM)
    finally:
        for process in stopped:
            process.kill()
    done = checkpoint.steps(run)[-1]
    assert f"stopped by SIGTERM after {done} rounds" in out
    assert len(harness.rows(run)) == done

    assert f"resuming after {done} rounds" in train(run, 1, rounds=done + 1)[0][0]
    spent = harness.rows(run)[-1]
    total = spent["total_uplink_bytes_reference"] + spent["total_downlink_bytes_reference"]
    bound = {"rounds": done + 9, "stop.megabytes": (total + 1) / 1e6}
    (first, _), (second, _) = train(run, 2, **bound)
    assert f"resuming after {done + 1} rounds" in first
    assert "round" not in second and "workdir" not in second  # only process 0 speaks

    ((whole, _),) = train(alone, 1, **bound)
    assert_same_run(run, alone)
    assert len(harness.rows(run)) == done + 2 and "reached config.stop.megabytes" in first
    assert final_lines(first) == final_lines(whole)
    assert [len(start["devices"]) for start in harness.starts(run)] == [4, 2, 4]


def test_what_one_process_refuses_all_refuse(tmp_path):
    outputs = end(start(tmp_path / "run", 2, each={1: ["--config.lr=0.5"]}), 1)
    for _, errors in outputs:
        assert "different configs or workdirs" in errors and "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_process_whose_others_do_not_come_ends_with_a_sentence():
    lone = (
        "from scarlet_jax.runtime import hosts; hosts.PATIENCE = 1; hosts.connect(hosts.Cluster('127.0.0.1:1', 2, 1))"
    )
    ended = subprocess.run([sys.executable, "-c", lone], cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Not all processes of 127.0.0.1:1 joined within 1 s; ")
