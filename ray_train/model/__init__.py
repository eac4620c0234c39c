"""The model: backbone, families, what is read at a marker, how it is trained towards and published."""
