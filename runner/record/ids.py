"""A flat hash table of cell ids: a million of them in 8 MB, which a dict needs ten times over."""

from __future__ import annotations

from array import array

ID_BYTES = 16
"""Bytes of a cell id that are kept: 128 bits are more than enough to tell cells apart."""


class IdTable:
    """Cell id to slot, by open addressing: 8 to 16 bytes per cell beside the ids themselves.

    Args:
        ids: The ids, :data:`ID_BYTES` each; slot ``n`` is the n-th. Shared with the owner, who
            appends an id and then calls :meth:`add`.
    """

    def __init__(self, ids: bytearray) -> None:
        self._ids = ids
        self._rebuild(0)

    def find(self, cell: bytes) -> int:
        """Slot of an id, given by 4 bytes or more of its start; -1 if it is not there."""
        at = int.from_bytes(cell[:4], "little") & self._mask
        while (slot := self._slots[at]) >= 0:
            if self._ids.startswith(cell, slot * ID_BYTES):
                return slot
            at = at + 1 & self._mask
        return -1

    def add(self, slot: int) -> None:
        """Take in a slot whose id stands in the array."""
        if slot * 3 > self._mask * 2:
            self._rebuild(slot)
        start = slot * ID_BYTES
        at = int.from_bytes(self._ids[start : start + 4], "little") & self._mask
        while self._slots[at] >= 0:
            at = at + 1 & self._mask
        self._slots[at] = slot

    def _rebuild(self, known: int) -> None:
        known = known or len(self._ids) // ID_BYTES
        size = 1 << (2 * known + 1024).bit_length()
        self._mask = size - 1
        self._slots = array("i", [-1]) * size
        for slot in range(known):
            self.add(slot)
