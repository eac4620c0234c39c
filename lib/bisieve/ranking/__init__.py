"""How scored rollouts are ordered: strategies, ties, and an external merge sort in Arrow."""
