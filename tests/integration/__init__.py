"""The processes together, on a real Redis."""
