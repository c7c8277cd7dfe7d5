"""Each module alone: no server but one on loopback."""
