"""The front: answers HTTP and dials nobody."""
