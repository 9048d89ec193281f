"""The Kubernetes API of one node: objects, lists, watches, logs and streams over HTTP."""
