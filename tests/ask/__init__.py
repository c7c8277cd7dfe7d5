"""Deployments at the fake upstreams, and how to ask them as a worker does."""
