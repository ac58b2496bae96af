"""A player's clock and buffer. Pure: time is an argument, in seconds of any clock that never goes back.

States and who moves them:

    STARTING --enough buffer--> PLAYING --buffer empty--> STALLED --enough buffer--> PLAYING
    PLAYING, STALLED --seek--> SEEKING --enough buffer--> PLAYING
    PLAYING --played long enough, or the video's end--> ENDED

The buffer runs empty at an exact moment between two events; the time stalled counts from that moment, not from the event
that finds it. Waiting at the start and after a seek is the viewer's own doing and is not a stall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class PlayerState(StrEnum):
    STARTING = "starting"
    PLAYING = "playing"
    STALLED = "stalled"
    SEEKING = "seeking"
    ENDED = "ended"


@dataclass(slots=True)
class Player:
    """`watch_s` is how long to play; `start_buffer_s` what is needed to begin or to go on."""

    asked_at: float
    watch_s: float
    start_buffer_s: float
    state: PlayerState = PlayerState.STARTING
    buffer_s: float = 0.0
    played_s: float = 0.0
    stalled_s: float = 0.0
    seeking_s: float = 0.0
    stalls: int = 0
    startup_s: float | None = None
    last_segment_in: bool = False
    _now: float = field(init=False)

    def __post_init__(self) -> None:
        self._now = self.asked_at

    def advance(self, now: float) -> None:
        """Lets the time until `now` pass."""
        passed_s, self._now = now - self._now, now
        if self.state is PlayerState.PLAYING:
            self._play(passed_s)
        elif self.state is PlayerState.STALLED:
            self.stalled_s += passed_s
        elif self.state is PlayerState.SEEKING:
            self.seeking_s += passed_s

    def _play(self, passed_s: float) -> None:
        left_s = self.watch_s - self.played_s
        played_s = min(passed_s, self.buffer_s)
        if played_s >= left_s:
            # Set, not added up: a rounding error would leave a rest that is never played.
            self.played_s, self.buffer_s = self.watch_s, self.buffer_s - left_s
            self.state = PlayerState.ENDED
            return
        self.played_s += played_s
        self.buffer_s -= played_s
        if self.last_segment_in and self.buffer_s <= 0:
            self.state = PlayerState.ENDED
        elif passed_s > played_s:
            self.state = PlayerState.STALLED
            self.stalls += 1
            self.stalled_s += passed_s - played_s

    def segment_arrived(self, now: float, duration_s: float, *, last: bool) -> None:
        """One more segment, video and audio, is in the buffer. `last`: the video ends with it."""
        self.advance(now)
        if self.state is PlayerState.ENDED:
            return
        self.buffer_s += duration_s
        self.last_segment_in = last
        if self.state is not PlayerState.PLAYING and (last or self.buffer_s >= self.start_buffer_s):
            self.state = PlayerState.PLAYING
            if self.startup_s is None:
                self.startup_s = now - self.asked_at

    def seek(self, now: float) -> bool:
        """The viewer jumps: what is in the buffer is of no use. False when there is nothing to jump in."""
        self.advance(now)
        if self.state not in (PlayerState.PLAYING, PlayerState.STALLED):
            return False
        self.state = PlayerState.SEEKING
        self.buffer_s = 0.0
        self.last_segment_in = False
        return True

    def wait_before_fetching_s(self, segment_s: float, buffer_limit_s: float) -> float:
        """How long until a segment of `segment_s` fits under the limit, or the player is done; 0: fetch now."""
        if self.state is not PlayerState.PLAYING:
            return 0.0
        return max(0.0, min(self.buffer_s + segment_s - buffer_limit_s, self.remaining_s()))

    def remaining_s(self) -> float:
        """Playing time until this player ends by what it knows now."""
        left_s = self.watch_s - self.played_s
        return min(left_s, self.buffer_s) if self.last_segment_in else left_s

    def needs_more(self) -> bool:
        """Whether a further segment would still be played."""
        if self.state is PlayerState.ENDED or self.last_segment_in:
            return False
        return self.state is not PlayerState.PLAYING or self.played_s + self.buffer_s < self.watch_s
