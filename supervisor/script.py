"""What a shell script would do, as far as reading it tells.

`lint.py` asks whether a shell stays in front of the program that it starts, how long a hook sleeps
at least, and which programs are run. This is no parser of the shell's language: quotes, comments,
operators and the words that open and close compound commands are understood, in one pass over the
text; variables are not expanded, and a script with a here-document is not read at all. Who asks
takes what cannot be told for harmless.

What shells do with the last command of `-c`, seen with dash 0.5.12 and bash 5.2: dash forks for
it; bash becomes it, unless it has redirections or `!`, is in a pipeline, or a trap is set or a
program in the background.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from msgspec import Struct

_FORKING = frozenset(("sh", "dash"))  # of `sh` nobody knows which one it is
_BECOMING = frozenset(("bash", "ash", "busybox"))  # the last two unseen: they are not wronged
_OPENING = frozenset(("if", "while", "until", "for", "case", "select", "{"))
_CLOSING = frozenset(("fi", "done", "esac", "}"))
_BETWEEN = frozenset(("then", "elif", "else", "do", "!", "time"))
_SIMPLE = (":", ".", "[", "cd", "echo", "exit", "export", "printf", "set", "test", "true", "wait")
_BUILTINS = frozenset((*_SIMPLE, "eval", "false", "kill", "read", "return", "shift", "unset"))
_HEADS = frozenset(("for", "case", "select"))  # what follows them is no command
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_SLEEP = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Command(Struct, frozen=True):
    """A simple command, or (without words) the end of a compound one."""

    words: tuple[str, ...]  # without quotes and without assignments before them
    before: str  # the operator that it follows: ; && || | & or nothing
    after: str
    plain: bool  # without redirections, and its exit code is its own
    nested: bool  # in a loop, a condition or a subshell


class Shell(Struct, frozen=True):
    """A program that is a shell with a script in its arguments."""

    name: str
    script: str
    index: int  # of the script among the words


def shell(words: tuple[str, ...]) -> Shell | None:
    """The shell that these words start with a script of `-c`, also through env."""
    at = 0
    if words and _base(words[0]) == "env":
        at = 1
        while at < len(words) and "=" in words[at] and not words[at].startswith("-"):
            at += 1
    name = _base(words[at]) if at < len(words) else ""
    if name == "busybox" and at + 1 < len(words):
        at += words[at + 1] in ("sh", "ash")
    if name not in _FORKING | _BECOMING:
        return None
    script = False
    at += 1
    while at < len(words) and words[at][:1] in ("-", "+") and words[at] not in ("-", "--"):
        if not words[at].startswith("--"):
            script = script or (words[at][0] == "-" and "c" in words[at])
            at += words[at].endswith("o")  # the name of an option follows
        at += 1
    return Shell(name, words[at], at) if script and at < len(words) else None


def program(words: tuple[str, ...]) -> str:
    return _base(words[0]) if words else ""


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def stays(shell: Shell) -> bool:
    """Whether the shell is still there when its last command runs, and takes no signal."""
    commands = read(shell.script)
    if not commands:
        return False
    for command in _simple(commands):
        becomes = command.words[0] == "exec" and len(command.words) > 1
        if command.words[0] == "trap" or (becomes and "|" not in (command.before, command.after)):
            return False
    last = commands[-1]
    if len(commands) == 1 and last.words[:1] and last.words[0] in _BUILTINS:
        return False
    if shell.name in _FORKING:
        return True
    lists = all(c.before in ("", "&&", "||") for c in commands)
    return (
        not last.words
        or last.words[0] in _BUILTINS
        or not last.plain
        or any(c.after == "&" for c in commands)
        or last.before == "|"
        or (last.before in ("&&", "||") and not lists)
    )


def least_sleep(words: tuple[str, ...]) -> float:
    """Seconds that these words sleep at least, be they a command or a shell with a script."""
    found = shell(words)
    if found is None:
        return _sleep(words) if program(words) == "sleep" else 0.0
    total = 0.0
    for command in read(found.script) or ():
        if command.nested or command.before in ("||", "|") or command.after in ("&", "|"):
            continue
        first = program(command.words)
        if first in ("exit", "exec", "return"):
            return total + least_sleep(command.words[1:] if first == "exec" else ())
        total += _sleep(command.words) if first == "sleep" else 0.0
    return total


def _sleep(words: tuple[str, ...]) -> float:
    total = 0.0
    for word in words[1:]:
        match = _SLEEP.fullmatch(word)
        if word in ("inf", "infinity"):
            return math.inf
        if match is None:
            return 0.0
        total += float(match[1]) * _UNITS[match[2]]
    return total


def commands_of(words: tuple[str, ...]) -> tuple[Command, ...]:
    """The simple commands that these words run: those of a script, or these words."""
    found = shell(words)
    if found is None:
        return (Command(words, "", "", plain=True, nested=False),) if words else ()
    return tuple(_simple(read(found.script) or ()))


def _simple(commands: tuple[Command, ...]) -> Iterator[Command]:
    return (command for command in commands if command.words)


# --- reading -----------------------------------------------------------------------------------


def read(text: str) -> tuple[Command, ...] | None:
    """The commands of a script; None if it cannot be read."""
    reader = _Reader()
    for kind, token in _tokens(text):
        if kind == "here":
            return None
        reader.take(kind, token)
    reader.end("")
    return tuple(reader.commands)


class _Reader:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self._before = ""
        self._plain = True
        self._is_target = False  # the next word is the file of a redirection
        self._is_head = False  # of a loop or a case

    def take(self, kind: str, token: str) -> None:
        if kind == "redirection":
            self._plain, self._is_target = False, True
        elif kind == "operator":
            self._operator(token)
        elif self._is_target:
            self._is_target = False
        elif self._words or self._is_head or kind == "quoted":
            if not self._is_head:
                self._words.append(token)
        elif token in _OPENING:
            self._open.append(token)
            self._is_head = token in _HEADS
        elif token in _CLOSING:
            self._close()
        elif token in _BETWEEN:
            self._plain = self._plain and token not in ("!", "time")
        elif not _ASSIGNMENT.match(token):
            self._words.append(token)

    def _operator(self, sign: str) -> None:
        if sign == "(":
            self.end("")
            self._open.append(sign)
        elif sign == ")":
            self.end("")
            if self._open[-1:] == ["("]:
                self._close()
        else:
            self.end(sign)

    def _close(self) -> None:
        if self._open:
            self._open.pop()
        nested = bool(self._open)
        self.commands.append(Command((), self._before, "", plain=False, nested=nested))

    def end(self, operator: str) -> None:
        """An operator ends the command before it; a second one in a row says nothing."""
        if self._words:
            self.commands.append(
                Command(
                    tuple(self._words),
                    self._before,
                    operator,
                    plain=self._plain,
                    nested=bool(self._open),
                )
            )
        if self._words or operator not in ("", ";"):
            self._before = operator
        self._words = []
        self._plain, self._is_target, self._is_head = True, False, False


_REDIRECTION = re.compile(r"&?[<>]+[&|]?")
_PLAIN = re.compile(r"[^\s'\"\\;&|()<>`$]+")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Words (quoted or not), operators, redirections, here-documents; a newline is a semicolon."""
    at, word, quoted = 0, "", False
    while at < len(text):
        char = text[at]
        step = 1
        plain = _PLAIN.match(text, at)
        if char == "#" and not word and not quoted:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        if plain is not None:
            word += plain[0]
            step = plain.end() - at
        elif char == "\\":
            word += text[at + 1 : at + 2].strip("\n")
            quoted = quoted or text[at + 1 : at + 2] != "\n"
            step = 2
        elif char in "'\"":
            end = _quote_end(text, at)
            word, quoted = word + text[at + 1 : end], True
            step = end + 1 - at
        elif char == "`" or text.startswith("$(", at):
            end = _substitution_end(text, at)
            word += text[at:end]
            step = end - at
        elif char == "$":
            word += char
        else:
            redirects = char in "<>" or text.startswith("&>", at)
            if (word or quoted) and not (redirects and word.isdecimal()):
                yield ("quoted" if quoted else "word"), word
            word, quoted = "", False
            if redirects:
                match = _REDIRECTION.match(text, at)
                found = match[0] if match is not None else char
                step = len(found)
                yield ("here" if found.startswith("<<") else "redirection"), found
            elif char in ";&|":
                step = 2 if text[at : at + 2] in ("&&", "||", ";;") else 1
                operator = text[at : at + step]
                yield "operator", ";" if operator == ";;" else operator
            elif char == "\n":
                yield "operator", ";"
            elif char in "()":
                yield "operator", char
        at += step
    if word or quoted:
        yield ("quoted" if quoted else "word"), word


def _quote_end(text: str, at: int) -> int:
    quote = text[at]
    end = at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if quote == '"' and text[end] == "\\" else 1
    return min(end, len(text))


def _substitution_end(text: str, at: int) -> int:
    """Behind the `)` or the backtick that ends what begins here."""
    if text[at] == "`":
        end = text.find("`", at + 1)
        return len(text) if end < 0 else end + 1
    depth, end = 0, at + 1
    while end < len(text):
        if text[end] == "\\":
            end += 1
        elif text[end] in "'\"":
            end = _quote_end(text, end)
        else:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                return end + 1
        end += 1
    return len(text)
