"""From files and command lines to pods: manifests, podvisor.toml, and what both are to a pod."""
