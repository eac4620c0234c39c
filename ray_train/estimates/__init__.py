"""Estimates of tokens, FLOPs, device memory and hours, and the FLOPs and the speed of real steps."""
