"""Claims about `worker`."""
