"""Bit fields of video headers, as H.264 (7.2, 9.1) and AV1 (4.10.2) write them: most significant bit first."""

from __future__ import annotations

from origin.transcode.media.isobmff import NotIsoBmff


class Bits:
    """Reads from the front. `what` names what is read in the error. Each reading raises NotIsoBmff when nothing is left."""

    def __init__(self, data: bytes, what: str) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)
        self._what = what

    def take(self, count: int) -> int:
        if count > self._left:
            raise NotIsoBmff(f"{self._what} is cut off")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.take(1))

    def unsigned(self) -> int:
        """ue(v), H.264 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise NotIsoBmff(f"{self._what} has a number out of range")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """se(v), H.264 9.1.1."""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)

    def skip_uvlc(self) -> None:
        """uvlc(), AV1 4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                return
        self.take(zeros)
