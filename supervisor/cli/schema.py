"""`podvisor schema`: print a JSON schema of manifests, for editors."""

from __future__ import annotations


def command() -> None:
    """Print a JSON schema of manifests, for editors to complete and check them with.

    It covers pods, the workloads that podvisor runs, ConfigMaps, Secrets and Lists of them. What
    an editor shows of a field is what podvisor does with it: see `podvisor fields`.

    Examples:

      podvisor schema > podvisor.schema.json

    Then, as the first line of a manifest, for editors with a YAML language server:

      # yaml-language-server: $schema=podvisor.schema.json

    Or for all manifests at once, in the settings of VS Code:

      "yaml.schemas": {"./podvisor.schema.json": "*.yaml"}
    """
    import msgspec

    from supervisor.api import definitions

    text = msgspec.json.format(msgspec.json.encode(definitions.for_editors()), indent=2)
    print(text.decode())
