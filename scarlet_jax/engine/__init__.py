"""Many models on devices: training of one model, stacked clients, their layout, phases, evaluation."""
