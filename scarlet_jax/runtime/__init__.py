"""Host input and output while a run lasts: the loop, the workdir, checkpoints, metrics, progress, signals."""
