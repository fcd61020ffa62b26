"""Experiment configurations, one file each."""
