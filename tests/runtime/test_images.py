"""What an image stands for: references, entries, and how their words meet a container's."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.api import v1
from supervisor.runtime import images
from supervisor.runtime.images import Image, Images, Reference

# --- references --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("nginx", Reference("docker.io/library/nginx")),
        ("library/nginx", Reference("docker.io/library/nginx")),
        ("docker.io/nginx", Reference("docker.io/library/nginx")),
        ("docker.io/library/nginx", Reference("docker.io/library/nginx")),
        ("index.docker.io/library/nginx", Reference("docker.io/library/nginx")),
        ("grafana/loki:3", Reference("docker.io/grafana/loki", "3")),
        ("registry.example/web", Reference("registry.example/web")),
        ("registry.example/a/b:1.2", Reference("registry.example/a/b", "1.2")),
        ("registry:5000/web", Reference("registry:5000/web")),
        ("registry:5000/web:2", Reference("registry:5000/web", "2")),
        ("localhost/web", Reference("localhost/web")),
        ("web@sha256:ab", Reference("docker.io/library/web", "", "sha256:ab")),
        ("a.b/web:1@sha256:ab", Reference("a.b/web", "1", "sha256:ab")),
    ],
)
def test_a_reference_is_taken_apart_as_runtimes_do(text: str, meant: Reference) -> None:
    assert images.parse(text) == meant
    assert images.parse(str(meant)) == meant


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("nginx:1.27", "nginx"),
        ("docker.io/library/nginx", "nginx"),
        ("docker.io/grafana/loki:3", "grafana/loki"),
        ("registry.example/team/web:1@sha256:ab", "registry.example/team/web"),
    ],
)
def test_the_key_to_add_is_short_and_has_neither_tag_nor_digest(reference: str, key: str) -> None:
    assert images.suggested_key(reference) == key
    assert known(key).find(reference) is not None


# --- which entry ---------------------------------------------------------------------------------


def known(*keys: str) -> Images:
    return Images(tuple((key, Image(entrypoint=(key,))) for key in keys))


@pytest.mark.parametrize(
    ("reference", "keys", "rule"),
    [
        pytest.param("web:1@sha256:ab", ["web", "web:1", "web:1@sha256:ab"], "web:1@sha256:ab",
                     id="the reference itself"),
        pytest.param("web:1@sha256:ab", ["web", "web:1"], "web:1", id="then without digest"),
        pytest.param("web:1@sha256:ab", ["web", "web:1", "web@sha256:ab"], "web@sha256:ab",
                     id="a digest says more than a tag"),
        pytest.param("web:1", ["w*", "web"], "web", id="then without tag"),
        pytest.param("web:1", ["web:2"], None, id="another tag is another image"),
        pytest.param("web", ["web:1"], None, id="no tag is not any tag"),
        pytest.param("web", ["web:latest"], "web:latest", id="no tag is latest"),
        pytest.param("web:latest", ["web"], "web", id="and any tag is found without one"),
        pytest.param("web@sha256:ab", ["web:latest"], None, id="a digest alone has no tag"),
        pytest.param("web", ["*", "w*", "we*", "x*"], "we*", id="then globs, the longest first"),
        pytest.param("web", ["*b", "w*"], "*b", id="of equals the first"),
        pytest.param("registry.example/a/web:1", ["registry.example/*"], "registry.example/*",
                     id="a star takes everything"),
        pytest.param("registry.example/web:1", ["*/web"], "*/web", id="globs need no tag"),
        pytest.param("nginx:1", ["docker.io/*"], "docker.io/*", id="globs over long names"),
        pytest.param("docker.io/library/nginx", ["ngin?"], "ngin?", id="globs over short names"),
        pytest.param("docker.io/library/nginx", ["nginx"], "nginx", id="short key, long name"),
        pytest.param("nginx:1.27", ["docker.io/library/nginx"], "docker.io/library/nginx",
                     id="long key, short name"),
        pytest.param("other.io/library/nginx", ["nginx"], None, id="another registry"),
        pytest.param("Web", ["w*"], None, id="case counts"),
        pytest.param("", ["*"], None, id="no image is no image"),
    ],
)  # fmt: skip
def test_the_most_exact_entry_speaks_for_an_image(
    reference: str, keys: list[str], rule: str | None
) -> None:
    for order in (keys, list(reversed(keys))) if rule != "*b" else (keys,):
        found = known(*order).find(reference)
        assert (found.rule if found else None) == rule
        assert found is None or found.image.entrypoint == (rule,)


def test_a_map_of_the_command_line_replaces_the_words_and_nothing_else() -> None:
    entry = Image(entrypoint=("a",), command=("b",), working_dir="/w", env=(("K", "v"),))
    maps = (("web:2", ("python", "-m", "web")), ("x", ("x",)))
    both = Images((("web", entry),), maps)
    found = both.find("web:2")
    assert found is not None
    assert found.rule == "--map web:2"
    assert found.image == Image(
        entrypoint=("python", "-m", "web"), working_dir="/w", env=(("K", "v"),)
    )
    other = both.find("web:1")
    assert other is not None
    assert other.image == entry
    alone = both.find("x")
    assert alone is not None
    assert alone.image == Image(entrypoint=("x",))


def test_keys_of_one_image_are_told_apart() -> None:
    keys = ["nginx", "nginx:1", "n*", "docker.io/library/nginx", "library/nginx:1"]
    assert images.duplicates(keys) == {
        "docker.io/library/nginx": "nginx",
        "library/nginx:1": "nginx:1",
    }


# --- the words -----------------------------------------------------------------------------------

ENTRY = Image(entrypoint=("serve", "--plain"), command=("all", "$(X)"))


@pytest.mark.parametrize(
    ("command", "args", "image", "words"),
    [
        pytest.param((), (), ENTRY, "serve --plain all $(X)", id="neither: ENTRYPOINT and CMD"),
        pytest.param((), ("a", "$(X)"), ENTRY, "serve --plain a 1", id="args: instead of CMD"),
        pytest.param(("c", "$(X)"), (), ENTRY, "c 1", id="command: without CMD"),
        pytest.param(("c",), ("a",), ENTRY, "c a", id="both: nothing of the image"),
        pytest.param((), (), Image(command=("sh",)), "sh", id="CMD alone is a command"),
        pytest.param((), ("ls",), Image(command=("sh",)), "ls", id="args in its place too"),
        pytest.param((), ("ls",), Image(entrypoint=("e",)), "e ls", id="args after ENTRYPOINT"),
        pytest.param(("c",), ("a",), None, "c a", id="no entry is needed for a command"),
        pytest.param((), (), Image(), "", id="an entry may have no words"),
        pytest.param((), (), None, "", id="nothing"),
    ],
)
def test_command_and_args_combine_with_entrypoint_and_cmd(
    command: tuple[str, ...], args: tuple[str, ...], image: Image | None, words: str
) -> None:
    """§9.2; H14: only the container's own words are expanded"""
    container = v1.Container(name="a", command=command, args=args)
    made = images.words(container, image, lambda word: word.replace("$(X)", "1"))
    assert " ".join(made) == words


UNMAPPED = (
    '"web:1" stands for no local command, and the container has none of its own: '
    'add the lines `[images."web"]` and `entrypoint = ["PROGRAM"]` to podvisor.toml, '
    "or use --map web=PROGRAM"
)
WORDLESS = (
    '"web:1" is [images."web"] in podvisor.toml, which names no program, and the container has '
    'no command: add the line `entrypoint = ["PROGRAM"]` to it'
)


@pytest.mark.parametrize(
    ("fields", "entries", "problem"),
    [
        ({"image": "web:1"}, Images(), UNMAPPED),
        ({"image": "web:1", "args": ("x",)}, Images(), UNMAPPED),
        ({"image": "web:1"}, Images((("web", Image(working_dir="/w")),)), WORDLESS),
        ({"image": "web:1", "command": ("x",)}, Images((("web", Image()),)), None),
        ({"image": "web:1", "args": ("x",)}, Images((("web", Image()),)), None),
        ({"image": "web:1", "command": ("x",)}, Images(), None),
        ({"image": "web:1"}, known("web"), None),
        ({"image": "web:1"}, Images(maps=(("web", ("x",)),)), None),
        ({"command": ("x",)}, Images(), None),
        (
            {"args": ("x",)},
            known("*"),
            "no command specified: there is no image to take one from",
        ),
    ],
)
def test_without_a_program_the_lines_to_add_are_said(
    fields: dict[str, Any], entries: Images, problem: str | None
) -> None:
    """§9.2"""
    container = v1.Container(name="a", **fields)
    assert images.no_program(container, entries) == problem
