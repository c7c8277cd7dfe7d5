"""Claims about `service`."""
