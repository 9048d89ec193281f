"""What Kubernetes says: the kinds, their text, their defaults and rules. Pure data, no I/O.

Everything above imports this layer; it imports only `supervisor.errors`.
"""
