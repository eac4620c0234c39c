"""What a run would cost, and what a step does cost."""
