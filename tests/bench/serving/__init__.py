"""The load test of `bisieve serve`."""
