"""One input record: read options, decoding, the typed structs, and the reasons for a rejection."""
