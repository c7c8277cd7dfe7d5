"""What runs in the child processes of `worker.imaging`.

Of the rest of the house it imports the container walk alone, so that a child is small and soon up.
"""
