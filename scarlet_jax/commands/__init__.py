"""The commands that users type: run, plan, sweep, report, data; and their flags and help."""
