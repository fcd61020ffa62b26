"""Which tests take long: `make test` leaves them out, `make test-all` runs them.

What they test at length has its simplest case among the short ones: those named here, or tests of a single module.
tests/test_repository.py checks that every name here is the beginning of a test's.
"""

from __future__ import annotations

from scarlet_jax.models.conv import CONVS

# The first of `ConvLaws.shapes`, of each convolution.
_FIRST_SHAPE = tuple(f"Test_{name}::test_value_and_gradients[(2, 8, 6" for name in CONVS)

# Files whose tests are long -> beginnings of the names of those that are short all the same.
LONG: dict[str, tuple[str, ...]] = {
    "commands/test_plan.py": ("test_the_number", "test_an_invalid", "test_help", "test_shares"),
    "commands/test_sweep.py": ("test_a_report", "test_what_the_report", "test_everything", "test_the_baselines",
                               "test_one_run_alone", "test_side_by_side", "test_a_job_array", "test_options"),
    "docs/test_pages.py": ("test_links", "test_readme", "test_every_page", "test_pages_that"),
    "end_to_end/test_cache_keys.py": (),
    "end_to_end/test_compilation.py": ("test_each_phase",),
    "end_to_end/test_damage.py": ("test_one_garbage_line", "test_a_torn_summary_is_written_again[unfinished",
                                  "test_another_version"),
    "end_to_end/test_devices.py": (),
    "end_to_end/test_evaluated_clients.py": (),
    "end_to_end/test_faults.py": ("test_a_disk_that_is_full",),
    "end_to_end/test_feed.py": (),
    "end_to_end/test_given_participants.py": ("test_the_planner",),
    "end_to_end/test_hosts.py": (),
    "end_to_end/test_interrupts.py": ("test_a_main_thread", "test_importing"),
    "end_to_end/test_learns.py": (),
    "end_to_end/test_methods.py": ("test_a_method_runs_resumes_and_compiles_once[scarlet-1-0.5",
                                   "test_a_method_runs_resumes_and_compiles_once[fedavg-None-0.5"),
    "end_to_end/test_permissions.py": (),
    "end_to_end/test_planned_bytes.py": (),
    "end_to_end/test_precision_learns.py": (),
    "end_to_end/test_resume.py": ("test_a_killed_run", "test_fewer", "test_another_config", "test_a_damaged_newest"),
    "end_to_end/test_round.py": ("test_a_round",),
    "end_to_end/test_screen.py": ("test_a_quiet_run_still",),
    "end_to_end/test_signals.py": ("test_sigterm",),
    "end_to_end/test_streams.py": ("test_a_run_in_python",),
    "engine/test_learner.py": ("test_golden_training_in_float32[a", "test_nothing", "test_every_sample", "test_scores"),
    "engine/test_numbers.py": ("test_two_seeds_two_rates_and_two_betas_have_the_same_programs[scarlet",
                               "test_two_seeds_two_rates_and_two_betas_have_the_same_programs[fedavg",
                               "test_no_program_is_compiled_twice[fields0", "test_numbers_are", "test_a_federation"),
    "engine/test_phases.py": ("test_every_phase_of_every_method_lowers_for_cuda[scarlet", "test_a_call"),
    "data/test_hostile_archives.py": ("test_what_numpy",),
    "data/test_hostile_npz.py": ("test_npz[True-a pickle", "test_npz[True-a header"),
    "data/test_hostile_prepared.py": ("test_a_name",),
    "end_to_end/test_taken_away.py": ("test_another_failure",),
    "gpu/test_bench.py": ("test_it_ends",),
    "methods/test_distillation.py": ("test_a_federation_is",),
    "methods/test_outside.py": ("test_a_registered_name", "test_what_cannot", "test_a_parameter_without"),
    "methods/test_table.py": ("test_an_entry", "test_every", "test_help", "test_a_new_method_refuses", "test_a_field",
                              "test_a_card"),
    "models/test_conv_timing.py": ("test_the_fastest",),
    "models/test_golden_resnet20.py": ("test_logits_and_loss[float32]",),
    "models/test_least_image.py": ("test_the_least_image_is_exact[cnn", "test_a_server_model"),
    "models/test_models.py": ("test_unknown", "test_small_models", "test_padding_is_never_seen[cnn"),
    "models/conv/test_conv.py": ("test_resolve", "test_choice", "test_cpu_maps"),
    "models/conv/test_implementations.py": ("test_a_new", "test_what", *_FIRST_SHAPE),
    "preview/test_memory.py": ("test_the_refusal", "test_what_fits", "test_the_chunk_size", "test_a_cpu"),
    "protocol/test_planner.py": ("test_counts_are_those_of_a_plain_loop[drop",),
    "report/test_figures.py": ("test_entropy",),
    "report/test_overlap.py": (),
    "report/test_text.py": ("test_markdown", "test_csv", "test_a_varied"),
    "runtime/test_predictor.py": ("test_top1",),
    "test_metric_tables.py": ("test_every", "test_sums", "test_a_removed", "test_the"),
    "test_wheel.py": (),
}  # fmt: skip

# Files whose tests are short -> beginnings of the names of those that are long.
LONG_IN: dict[str, tuple[str, ...]] = {
    "data/test_builders.py": ("test_a_federation_of_tiny_imagenet",),
    "data/test_federation.py": ("test_the_small_cifar_experiment",),
    "data/test_partitioners.py": ("test_a_new_partitioner",),
    "data/test_picture.py": ("test_one_image", "test_what_is_held_is_seen_of_many[1000-1000",
                             "test_what_is_held_is_seen_of_many[2500"),
    "data/test_prepared.py": ("test_decoding_needs",),
    "end_to_end/test_records.py": ("test_the_environment", "test_a_learning_rate"),
    "end_to_end/test_schedules.py": ("test_more_rounds",),
    "methods/test_selective_fd.py": ("test_rounds_in_which_nothing_passes_a_selector[+cache",),
    "models/test_fused.py": ("test_a_model_is_that_of_the_reference_form[resnet", "test_bfloat16"),
    "models/conv/test_native.py": ("test_processes",),
    "models/test_form_timing.py": ("test_a_step_of_the_fused_form_is_about_as_exact_as_one_of_the_default[bfloat16",),
    "models/test_precision.py": ("test_every_model_multiplies_as_it_is_told[resnet",),
    "preview/test_choices.py": ("test_a_run_and_a_dry_run",),
    "report/test_write.py": ("test_same_input",),
}  # fmt: skip


def is_long(nodeid: str) -> bool:
    """Whether a test, as pytest names it, is left out by `make test`."""
    path, _, name = nodeid.removeprefix("tests/").partition("::")
    if path in LONG:
        return not any(name.startswith(short) for short in LONG[path])
    return any(name.startswith(long) for long in LONG_IN.get(path, ()))
