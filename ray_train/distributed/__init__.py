"""Coordination of the ranks of a run: collectives, heartbeats, preemption and retries."""
