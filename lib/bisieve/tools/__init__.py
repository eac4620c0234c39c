"""Consumers of an index: export, report, diff, gate and OpenLineage events."""
