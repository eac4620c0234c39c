"""Estimates of tokens, FLOPs, device memory and hours, and the FLOPs of a real batch."""
