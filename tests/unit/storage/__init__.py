"""Claims about `storage`."""
