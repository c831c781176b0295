"""Replace values, in any of their forms, in a stream that comes in pieces.

    masker = Masker(values)
    out = masker.feed(piece)        what may be shown now
    out = masker.let_go()           once the stream has been silent for LET_GO_S
    out = masker.flush()            at the end of the stream

Rules that hold here, whatever the pieces are:

1. All places where any pattern matches are found, also where they overlap or lie within each other.
   Places that overlap are one place; each place is shown as MARK, whose length tells nothing.
2. feed and flush together give what one feed of the whole stream would give.
3. Bytes with which no pattern can begin pass at once and unchanged, be they text or not.
4. Bytes with which a pattern may have begun are held back.  A short held prefix (less than 6 bytes
   and less than half of its pattern) is let go by `let_go`: a prompt, or the echo of a key, must
   not hang.  It was shown but is still remembered: when the rest comes, the rest is masked, so that
   a value written a byte at a time, however slowly, shows at most 5 bytes.  A longer one is held
   until it is decided or the stream ends: that much of a value seldom comes by chance.
5. At most the longest pattern is held.

Why not simply hold everything until a newline: a prompt has none, nor has a progress bar.
Masking is for accidents (SECURITY.md): a program that wants to show a value finds a form that
stands in no table.
"""

from collections.abc import Iterable

from secret_agent_client.masking_patterns import HEAD, WINDOW, Patterns, compile_patterns

MARK = b"*****"
LET_GO_S = 0.1  # seconds of silence after which a short held prefix is shown

Interval = tuple[int, int]


class Masker:
    """One stream.  Positions are bytes since its beginning; `_buffer` begins at `_base`."""

    __slots__ = ("_base", "_buffer", "_found", "_open", "_patterns", "_run_end", "_shown")

    def __init__(self, values: Iterable[bytes] | Patterns) -> None:
        self._patterns = values if isinstance(values, Patterns) else compile_patterns(values)
        self._buffer = b""
        self._base = 0
        self._shown = 0  # everything before it was shown, or masked
        self._run_end = 0  # the end of the last masked place; what overlaps it gets no new mark
        self._found: list[Interval] = []  # places behind something that is not decided yet
        self._open: list[tuple[int, bytes]] = []  # (start, pattern) that fit as far as we can see

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return max(0, self._end - self._shown)

    @property
    def can_let_go(self) -> bool:
        """Whether `let_go` would show something."""
        return self.held > 0 and self._first_undecided(firm=True) > self._shown

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what may be shown now."""
        if self._patterns.is_empty:
            return data
        before = self._end
        self._buffer += data
        self._follow_open(before, data)
        self._scan(before)
        undecided = self._first_undecided()
        shown = self._show(undecided)
        self._buffer = self._buffer[undecided - self._base :]
        self._base = undecided
        return shown

    def let_go(self) -> bytes:
        """Show the short prefixes that are held; they stay remembered."""
        return self._show(self._first_undecided(firm=True))

    def flush(self) -> bytes:
        """The stream ends: what was held begins no match any more."""
        self._open.clear()
        shown = self._show(self._end)
        self._buffer, self._base = b"", self._end
        return shown

    @property
    def _end(self) -> int:
        return self._base + len(self._buffer)

    def _follow_open(self, before: int, data: bytes) -> None:
        """Compare what came with what the open patterns want next; each byte is seen once."""
        still: list[tuple[int, bytes]] = []
        for start, pattern in self._open:
            have = before - start
            if not pattern.startswith(data[: len(pattern) - have], have):
                continue
            if have + len(data) >= len(pattern):
                self._found.append((start, start + len(pattern)))
            else:
                still.append((start, pattern))
        self._open = still

    def _scan(self, before: int) -> None:
        """Find the windows that end after `before`, and compare the patterns they stand for."""
        buffer, search, at = self._buffer, self._patterns.search, self._patterns.at
        window = search(buffer, max(0, before - self._base - WINDOW + 1))
        while window is not None:
            place = window.start()
            for offset, pattern in at[window.group()]:
                if place >= offset:
                    self._compare(place - offset, pattern)
            window = search(buffer, place + 1)

    def _compare(self, place: int, pattern: bytes) -> None:
        start = self._base + place
        if place + len(pattern) <= len(self._buffer):
            if self._buffer.startswith(pattern, place):
                self._found.append((start, start + len(pattern)))
        elif pattern.startswith(self._buffer[place:]):
            self._open.append((start, pattern))

    def _first_undecided(self, *, firm: bool = False) -> int:
        """The first position at which a match may have begun that has not ended; else the end.

        firm: only of those that are not let go.
        """
        first = min((start for start, _ in self._open), default=self._end)
        heads = self._patterns.firm_heads if firm else self._patterns.heads
        for length in range(min(HEAD - 1, len(self._buffer)), 0, -1):
            if self._buffer[-length:] in heads:
                return min(first, self._end - length)
        return first

    def _show(self, limit: int) -> bytes:
        """Everything before `limit`, and every place that begins there or before, masked."""
        parts: list[bytes] = []
        self._found.sort()
        done = 0
        for start, end in self._found:
            if start > limit and start >= self._run_end:
                break
            done += 1
            if start >= self._run_end:
                parts += (self._plain(start), MARK)
            self._run_end = max(self._run_end, end)
            self._shown = max(self._shown, end)
        del self._found[:done]
        parts.append(self._plain(limit))
        self._shown = max(self._shown, limit)
        return b"".join(parts)

    def _plain(self, end: int) -> bytes:
        """What has not been shown yet before `end`."""
        return self._buffer[max(0, self._shown - self._base) : max(0, end - self._base)]
