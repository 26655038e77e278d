"""Tables that are kept ready, in evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# Two tables on each of four grids. On large images those of a stage take tens of megabytes.
MAX_ENTRIES = 8


@dataclass(frozen=True)
class _Entry:
    table: Tensor  # kept alive: its address cannot become another's
    pointer: int
    version: int | None
    values: Tensor | None
    prepared: Any

    def is_for(self, table: Tensor) -> bool:
        return (
            self.table is table
            and self.pointer == table.data_ptr()
            and self.version == _version(table)
            and (self.values is None or self.values.equal(table))
        )


class PreparedTables:
    """What depends on the weights of tables and the grid alone, made once.

    An entry is forgotten when its table has changed: replaced, moved, written
    in place, or, on a CPU, written through ``.data``, which PyTorch keeps no
    account of and which is found by comparing values. On other devices that
    would wait for the device at every call: there, call :meth:`clear`.

    Copies and pickles of it are empty.
    """

    # Whether to look for changes that PyTorch keeps no account of, by type of device.
    compared_devices = ('cpu',)

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return type(self), ()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, table: Tensor, prepare: Callable[[], Any]) -> Any:
        """Return what ``prepare`` makes of a table, from before if that is still true.

        Args:
            key: What else it depends on.
            table: The weights that it depends on.
            prepare: Makes it.
        """
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None or not entry.is_for(table):
                compare = table.device.type in self.compared_devices
                values = table.detach().clone() if compare else None
                entry = _Entry(table, table.data_ptr(), _version(table), values, prepare())
            self._entries[key] = entry  # the last one used is the last to go
            if len(self._entries) > MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            return entry.prepared

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


def _version(table: Tensor) -> int | None:
    # tensors made in inference mode do not count their changes
    return None if table.is_inference() else table._version
