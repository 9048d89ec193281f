"""podvisor whose ConfigMaps and Secrets come from one JSON file, named by CONFIGURATION:

    {"ConfigMap": {"default/settings": {"KEY": "value"}}, "Secret": {}}

It is read again whenever podvisor asks for what its documents hold.
"""

from __future__ import annotations

import json
import os

from supervisor.__main__ import main
from supervisor.cli import manifests, sources
from supervisor.runtime.spec import Configuration


def read(_: object) -> Configuration:
    with open(os.environ["CONFIGURATION"]) as file:
        held = json.load(file)

    def maps(kind: str) -> dict[tuple[str, str], dict[str, bytes]]:
        return {
            (namespace, name): {key: value.encode() for key, value in keys.items()}
            for path, keys in held.get(kind, {}).items()
            for namespace, name in [path.split("/")]
        }

    return Configuration(config_maps=maps("ConfigMap"), secrets=maps("Secret"))


if __name__ == "__main__":
    manifests.Loaded.configuration = read
    sources.Sources.configuration = property(read, lambda *_: None)
    main()
