"""Many models on devices: training of one model, stacked clients, phases of a round, evaluation."""
