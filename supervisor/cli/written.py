"""Objects that files describe, as they are written there: for `apply -f` and `delete -f`.

Unlike `run` and `up`, nothing is made of them: what a file says is what the node is asked for, and
it judges it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from supervisor.api import codec
from supervisor.api.codec import Document
from supervisor.api.problems import Problem, Severity, has_errors, summary
from supervisor.cli import complain
from supervisor.errors import ManifestError
from supervisor.project.manifests import STDIN, SUFFIXES


def read(paths: list[str], *, recursive: bool = False) -> list[Document]:
    """All objects of files, folders and `-`. Raises ManifestError after saying what is wrong."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        if path == "-":
            _read_from(sys.stdin.buffer, STDIN, documents, problems)
            continue
        files = list(_files(path, recursive=recursive)) if os.path.isdir(path) else [path]
        if not files:
            problems.append(
                _problem(path, f"no manifests: no file is named *{', *'.join(SUFFIXES)}")
            )
        for file in files:
            try:
                with open(file, "rb") as stream:
                    _read_from(stream, file, documents, problems)
            except OSError as error:
                problems.append(_problem(file, f"cannot read: {error.strerror}"))
    problems += [
        _problem(document.source, "is no object: apiVersion, kind and metadata.name are required")
        for document in documents
        if not _is_object(document.data)
    ]
    for problem in problems:
        complain(str(problem))
    if has_errors(problems):
        raise ManifestError(summary(problems))
    if not documents:
        raise ManifestError("no objects passed: the input is empty")
    return documents


def _read_from(
    stream: BinaryIO, source: str, documents: list[Document], problems: list[Problem]
) -> None:
    found, wrong = codec.read(stream.read(codec.MAX_BYTES + 1), source)
    problems += wrong
    for document in found:
        documents += document.items()


def _files(folder: str, *, recursive: bool) -> Iterator[str]:
    for inside, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(inside, n) for n in sorted(names) if n.endswith(SUFFIXES))
        if not recursive:
            return


def _is_object(data: object) -> bool:
    if not isinstance(data, dict) or not isinstance(data.get("metadata"), dict):
        return False
    meta = data["metadata"]
    texts = data.get("apiVersion"), data.get("kind"), meta.get("name") or meta.get("generateName")
    return all(isinstance(text, str) and text for text in texts)


def _problem(source: str, text: str) -> Problem:
    return Problem(Severity.ERROR, source, 0, 0, "", text)
