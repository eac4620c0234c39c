"""The published artefact: its manifest, its files, its versions, and what is selected of it."""
