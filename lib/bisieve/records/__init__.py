"""One input record: how it is read, what it says, and why it is rejected."""
