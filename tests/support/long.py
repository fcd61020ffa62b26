"""Which tests take long: `make test` leaves them out, `make test-all` runs them.

What they test at length has its simplest case among the short ones: those named here, or tests of a single module.
"""

from __future__ import annotations

# File under tests/ -> beginnings of the names of its tests that are short all the same.
LONG: dict[str, tuple[str, ...]] = {
    "commands/test_plan.py": ("test_bytes_are_those_of_a_training_run[scarlet", "test_counts", "test_the_number",
                              "test_an_invalid", "test_help", "test_shares"),
    "commands/test_sweep.py": ("test_a", "test_w", "test_e", "test_n", "test_t"),
    "docs/test_pages.py": ("test_the_python_of_a_page_runs[README.md]", "test_links", "test_readme", "test_every_page",
                           "test_pages_that"),
    "end_to_end/test_cache_keys.py": (),
    "end_to_end/test_compilation.py": ("test_each_phase",),
    "end_to_end/test_damage.py": ("test_one_garbage_line", "test_a_torn_summary_is_written_again[unfinished",
                                  "test_another_version"),
    "end_to_end/test_devices.py": (),
    "end_to_end/test_evaluated_clients.py": (),
    "end_to_end/test_faults.py": ("test_a_disk_that_is_full",),
    "end_to_end/test_feed.py": (),
    "end_to_end/test_hosts.py": ("test_impossible", "test_flags", "test_a_slurm", "test_a_single"),
    "end_to_end/test_interrupts.py": ("test_a_main_thread", "test_importing"),
    "end_to_end/test_learns.py": (),
    "end_to_end/test_methods.py": ("test_a_method_runs_resumes_and_compiles_once[scarlet-1-0.5",
                                   "test_a_method_runs_resumes_and_compiles_once[fedavg-None-0.5", "test_what"),
    "end_to_end/test_permissions.py": (),
    "end_to_end/test_resume.py": ("test_a_killed_run", "test_fewer", "test_another_config", "test_a_damaged_newest"),
    "end_to_end/test_round.py": ("test_a_round",),
    "end_to_end/test_screen.py": ("test_a_quiet_run_still",),
    "end_to_end/test_signals.py": ("test_sigterm",),
    "end_to_end/test_streams.py": ("test_a_run_in_python",),
    "engine/test_learner.py": ("test_golden_training_in_float32[a", "test_a", "test_n", "test_s"),
    "engine/test_phases.py": ("test_every_phase_of_every_method_lowers_for_cuda[scarlet", "test_r", "test_a_p"),
    "data/test_hostile.py": ("test_an_npz", "test_what"),
    "methods/test_distillation.py": ("test_a_federation_is", "test_every"),
    "models/test_conv_timing.py": ("test_t", "test_w", "test_n"),
    "models/test_golden_resnet20.py": ("test_logits_and_loss[float32",),
    "models/test_least_image.py": ("test_the_least_image_is_exact[cnn", "test_a"),
    "models/test_models.py": ("test_u", "test_small", "test_padding_is_never_seen[cnn"),
    "models/conv/test_conv.py": ("test_vmap_over_clients[both-cpu", "test_u", "test_r"),
    "preview/test_memory.py": ("test_t", "test_s"),
    "report/test_report_pictures.py": ("test_a_report_says",),
    "runtime/test_predictor.py": ("test_top1",),
    "test_wheel.py": (),
}  # fmt: skip


def is_long(nodeid: str) -> bool:
    """Whether a test, as pytest names it, is left out by `make test`."""
    path, _, name = nodeid.partition("::")
    short = LONG.get(path.removeprefix("tests/"))
    return short is not None and not name.startswith(short or ("-",))
