"""The whole of it: real processes, a real Redis, real sockets; by use case."""
