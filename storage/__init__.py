"""The memory: what was asked, what became of it, and where the bytes are."""
