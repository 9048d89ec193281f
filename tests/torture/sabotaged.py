"""podvisor with a part of its promise taken out, for the checker to find: `sabotaged.py PART …`.

    intent   that a hook is owed is not stored; it is run all the same
    ends     that a hook has ended is not stored; everything else is

Only what is stored differs: as long as it lives, the node behaves as ever.
"""

from __future__ import annotations

import sys

from msgspec.structs import replace

from supervisor.__main__ import main
from supervisor.lifecycle.hooks import Hook
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore


def without_intent(hooks: tuple[Hook, ...]) -> tuple[Hook, ...]:
    return tuple(hook for hook in hooks if not hook.is_owed)


def without_ends(hooks: tuple[Hook, ...]) -> tuple[Hook, ...]:
    return tuple(replace(hook, ended=None, end=None) for hook in hooks)


def sabotage(part: str) -> None:
    change_hooks = {"intent": without_intent, "ends": without_ends}[part]
    commit = SQLiteStore.commit

    async def commit_less(self: SQLiteStore, change: Change) -> int:
        record = change.record
        if record is not None:
            less = tuple(replace(c, hooks=change_hooks(c.hooks)) for c in record.containers)
            change = replace(change, record=replace(record, containers=less))
        return await commit(self, change)

    SQLiteStore.commit = commit_less  # type: ignore[method-assign]


if __name__ == "__main__":
    sabotage(sys.argv.pop(1))
    main()
