"""Before a run starts: whether its config can be trained, and what it will take: memory, programs and bytes."""
