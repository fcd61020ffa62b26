"""The commands that users type: train, plan, sweep, report, data; and their flags and help."""
