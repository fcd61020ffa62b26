"""The experiments of configs/paper at a size that a CPU finishes."""
