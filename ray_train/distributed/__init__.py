"""What keeps ranks in step: collectives, heartbeats, preemption and retries."""
