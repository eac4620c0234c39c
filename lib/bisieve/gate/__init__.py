"""Whether a new version of an index may be trained on."""
