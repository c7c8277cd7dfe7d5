"""Behaviour that every implementation of a protocol must show."""
