"""What a run will take, before it starts: memory, programs and bytes."""
