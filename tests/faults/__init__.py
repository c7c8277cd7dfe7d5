"""The fault matrix: real processes, bad lines between them, and a ledger that judges the end."""
