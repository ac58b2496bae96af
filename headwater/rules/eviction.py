"""Which object leaves a full store: the one of a small random sample whose recent use, decayed, is least.

Each use of an object weighs 1 and halves every half-life, counted in turnovers of the store (a turnover is as many bytes
brought in as the budget holds). This is LRFU (Lee et al. 2001), between LRU (a half-life of nothing) and LFU (an endless one).
Which memory serves best depends on the traffic: what everybody asks for at once wants a very short one, new releases a short
one, a long tail, scans and loops a long one. So three are kept, three small stores that see one object in SIXTEENTH play them
against each other (as in "miniature simulation", Waldspurger et al. 2017), and whichever hits more bytes chooses the victims.

- Weights are kept as `log2(weight) + log2(what a use counts now)`, which does not change until the next use ("forward decay",
  Cormode et al. 2009): nothing is ever sorted again. The victim is the least of SAMPLE slots drawn at random.
- What an object weighed when it left is remembered in a table of fixed rows, so that one that comes back is known.
- The long memory prefers, of two that were used as often, the one that came first. Where a scan or a loop is longer than the
  store holds, its objects would otherwise push each other out, each just before it is asked for again; LIRS (Jiang, Zhang
  2002) and S3-FIFO (Yang et al. 2023) keep such a loop's beginning, too, as newcomers get only a small part of their stores.

Every operation is O(1). What was measured, and what was tried and did not pay, stands in docs/eviction.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import exp2, log2
from typing import Final, Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Memory:
    """How much a use counts by its time; times and lengths in turnovers of the store.

    Uses lose half their weight every `half_life`. With an `era` they do so only from one era to the next: within an era time
    runs backward, and a later use counts less. Eras end, or else what came first would stay for ever; they are to be few
    half-lives long (see `touch`).
    """

    half_life: float
    era: float = 0.0

    def credit(self, now: float) -> float:
        """log2 of what a use counts at a time, as forward decay counts: more and more, as nothing that is noted is changed."""
        if self.era:
            in_era = now % self.era
            now = now - in_era - in_era
        return now / self.half_life


SAMPLE: Final = 32
LONG: Final = Memory(64.0, era=256.0)  # longer than a loop takes to prove itself, a few turnovers a round
MEMORIES: Final = (LONG, Memory(2.0), Memory(0.25))
SIXTEENTH: Final = 16
VERDICT_TURNOVERS: Final = 20.0  # over how many of the small stores' turnovers their hits are compared
FIRST_ROWS: Final = 1 << 17  # of the table of those that left; it grows with the number of objects
_NEVER: Final = -1e30
_MASK: Final = 0xFFFFFFFFFFFFFFFF

K = TypeVar("K", bound=Hashable)


class Ranking(Generic[K]):
    """Keys with their sizes, in units of the caller's below 2**32; `used` is the sum of the sizes.

    The caller keeps to its budget: it removes `victim()` after `victim()` until there is room, then adds.
    """

    def __init__(self, budget: int, memories: tuple[Memory, ...] = MEMORIES, *, rows: int = FIRST_ROWS) -> None:
        self.used = 0
        self._budget = max(1, budget)
        self._now = 0.0  # turnovers so far
        self._memories = memories
        self._credits = [memory.credit(0.0) for memory in memories]  # of a use now
        self._chosen = 0  # the memory that chooses victims
        self._drawn = 0x9E3779B97F4A7C15
        self._slots: dict[K, int] = {}
        self._keys: list[K] = []
        self._sizes = array("I")
        # Four bytes tell turnovers apart up to some millions of them, eight for ever: what a short memory needs.
        self._weights = [array("d" if memory.half_life < 1 else "f") for memory in memories]
        self._left_tags = array("H", [0]) * rows
        self._left_weights = [array("f", [_NEVER]) * rows for _ in memories]
        self._small: list[Ranking[K]] = []
        if len(memories) > 1:
            self._small = [Ranking(budget // SIXTEENTH, (memory,), rows=rows // SIXTEENTH) for memory in memories]
        self._hits = [0.0] * len(memories)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: K) -> bool:
        return key in self._slots

    def size_of(self, key: K) -> int | None:
        slot = self._slots.get(key)
        return None if slot is None else self._sizes[slot]

    def touch(self, key: K, uses: int = 1) -> bool:
        """Notes uses of a key that followed each other with nothing added between them. False when the key is not here."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        # log2(2**weight + uses * 2**credit). A weight exceeds a use's by how often it was used and the half-lives of one era at
        # most, so that this cannot overflow.
        for weights, credit in zip(self._weights, self._credits, strict=True):
            weights[slot] = credit + log2(uses + exp2(weights[slot] - credit))
        if self._small and _is_sampled(key):
            self._compare(key, self._sizes[slot])
            if uses > 1:
                self._compare_again(key, self._sizes[slot], uses - 1)
        return True

    def add(self, key: K, size: int) -> None:
        """Takes a key in, with its first use; one that is here already gets the new size."""
        self.remove(key)
        self._now += size / self._budget
        self._credits = [memory.credit(self._now) for memory in self._memories]
        row, tag = self._row_of(key)
        known = self._left_tags[row] == tag
        self._slots[key] = len(self._keys)
        self._keys.append(key)
        self._sizes.append(size)
        for weights, left, credit in zip(self._weights, self._left_weights, self._credits, strict=True):
            weights.append(credit + log2(1.0 + exp2(left[row] - credit)) if known else credit)
        self.used += size
        if len(self._keys) > len(self._left_tags):
            self._left_tags = array("H", [0]) * (2 * len(self._left_tags))
            self._left_weights = [array("f", [_NEVER]) * len(self._left_tags) for _ in self._memories]
        if self._small and _is_sampled(key):
            self._compare(key, size)

    def remove(self, key: K) -> int | None:
        """Forgets the key but for what it weighed; its size, or None when it is not here."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return None
        row, self_tag = self._row_of(key)
        self._left_tags[row] = self_tag
        size = self._sizes[slot]
        last, last_size = self._keys.pop(), self._sizes.pop()
        moves = slot < len(self._keys)  # the last slot's object moves into the gap
        for weights, left in zip(self._weights, self._left_weights, strict=True):
            left[row] = weights[slot]
            weight = weights.pop()
            if moves:
                weights[slot] = weight
        if moves:
            self._slots[last], self._keys[slot], self._sizes[slot] = slot, last, last_size
        self.used -= size
        return size

    def victim(self) -> K | None:
        """The key to give up next; None when there is none. It stays until it is removed."""
        count = len(self._keys)
        if not count:
            return None
        weights = self._weights[self._chosen]
        chosen, least = 0, float("inf")
        drawn = self._drawn
        for _ in range(SAMPLE):
            drawn = (drawn * 6364136223846793005 + 1442695040888963407) & _MASK  # Knuth's MMIX generator
            slot = ((drawn >> 32) * count) >> 32
            if weights[slot] < least:
                chosen, least = slot, weights[slot]
        self._drawn = drawn
        return self._keys[chosen]

    def weighed(self) -> tuple[list[K], Sequence[float]]:
        """All keys beside what they weigh, in no order: copies, for whoever wants to sort them elsewhere."""
        return list(self._keys), self._weights[self._chosen][:]

    def _compare(self, key: K, size: int) -> None:
        """Lets the small stores see one request of the sample, and the better one choose from now on."""
        fading = self._fading(size)
        for index, small in enumerate(self._small):
            self._hits[index] *= fading
            if small.touch(key):
                self._hits[index] += size
            elif size <= small._budget:
                while small.used + size > small._budget:
                    victim = small.victim()
                    assert victim is not None
                    small.remove(victim)
                small.add(key, size)
        self._chosen = max(range(len(self._hits)), key=self._hits.__getitem__)

    def _compare_again(self, key: K, size: int, uses: int) -> None:
        """As many times `_compare` with the same key: whoever has it by now hits each time."""
        faded = self._fading(size) ** uses
        for index, small in enumerate(self._small):
            self._hits[index] *= faded
            if small.touch(key, uses):
                self._hits[index] += size * (uses if faded == 1.0 else (1.0 - faded) / (1.0 - self._fading(size)))
        self._chosen = max(range(len(self._hits)), key=self._hits.__getitem__)

    def _fading(self, size: int) -> float:
        """What is left of earlier hits after a request for so many bytes."""
        return max(0.0, 1.0 - size / (self._small[0]._budget * VERDICT_TURNOVERS))

    def _row_of(self, key: K) -> tuple[int, int]:
        mixed = _mixed(key)
        return (mixed >> 16) % len(self._left_tags), mixed & 0xFFFF


def _mixed(key: Hashable) -> int:
    """64 bits that depend on every bit of the key's hash."""
    drawn = (hash(key) * 0x9E3779B97F4A7C15) & _MASK
    return ((drawn ^ drawn >> 32) * 0xD6E8FEB86659FD93) & _MASK


def _is_sampled(key: Hashable) -> bool:
    return (hash(key) * 0x9E3779B97F4A7C15 >> 40) % SIXTEENTH == 0
