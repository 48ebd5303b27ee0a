# SPDX-License-Identifier: Apache-2.0
"""Adapts the rate of requests to a service whose rate limit shows only in its refusals.

The limit is modeled as a token bucket of unknown size. A request is refused when the bucket is empty, so the
number of requests accepted between two refusals, divided by the time between them, *is* the rate. The pace is
therefore set slightly below it, not halved. It then rises slowly to slightly above it, until the next refusal
confirms or corrects the rate. If no refusal comes, the limit has been raised, and a search begins that grows
e-fold in two seconds. Below the rate the bucket fills, and above it that is spent, so little is lost.

Two processes that share one limit come to share it evenly, since both rise in the same time, and the faster
one gets more of the refusals. Of a limit of one request per second or less, one of them may get nearly all.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_DIP: Final = 0.1
"""How far below the rate the pace begins after a refusal: room for others to come in."""
_CREEP_SECONDS: Final = 5.0
_CREEP_REQUESTS: Final = 50
"""Length of a creep from below the rate to above it, the longer of the two. Each costs about one refusal."""
_CREEP_LONGEST: Final = 100.0
_SEARCH_SECONDS: Final = 2.0
_BURST_SECONDS: Final = 1.0
"""Assumed size of a bucket whose level is not known."""
_LATE_SECONDS: Final = 0.1
"""How far a late caller may catch up: sleeps are never exact."""
_FIRST_PAUSE: Final = 0.1
_FIRST_OUTAGE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LONGEST_ASK: Final = 120.0
_SLOWEST: Final = 1 / _LONGEST_PAUSE
_ASK_AGAIN: Final = 1.0
_TICK: Final = 0.001


class AdaptiveRateLimiter:
    """The pace of one process. Times are seconds of one monotonic clock; ``rand`` is in [0, 1).

    ``sent`` is when :meth:`wait` allowed the request. Requests in flight at a refusal carry no new
    information, so refusals of requests that were in flight together count as one. A request whose answer is
    never known is not reported at all.
    """

    def __init__(self) -> None:
        self.pace = math.inf
        """Requests a second that may go out now."""
        self._rate = math.inf  # what the service was last found to let through
        self._agreed = 0  # requests that agree with it
        self._next = -math.inf
        self._refused = -math.inf  # the last refusal: the bucket was empty
        self._since = math.inf  # what was let through is counted from here
        self._passed = 0
        self._latest: deque[float] = deque(maxlen=8)
        self._pause = 0.0  # doubles while nothing is let through
        self._opening = 0.0  # seconds that the first count took

    def wait(self, now: float) -> float:
        """Acquire permission for one request.

        :return: 0 if the request may go out now, else the seconds after which to ask again. Permission is not
            given ahead of time: a refusal would come too late to revoke it.
        """
        if now < self._next:
            return min(self._next - now, _ASK_AGAIN)
        if self._since == math.inf:
            self._since, self._next = now - _BURST_SECONDS, now
        # While no request is made, the bucket fills, but not for longer than this.
        self._since += max(0.0, now - self._next - self._burst())
        # In a pause one request at a time goes out to see whether it is over.
        self._next = max(self._next, now - _LATE_SECONDS) + (self._pause or 1 / self.pace)
        return 0.0

    def succeeded(self, sent: float, now: float) -> None:
        """Record that a request was accepted: any answer but a throttled one, errors included."""
        if sent < self._refused:
            if self._opening:  # of the first volley, the refusals may be answered first
                self._rate += 1 / self._opening
                self.pace = self._rate * (1 - self._dip())
            return
        if self._pause:
            self._since, self._passed = sent - min(self._pause, self._burst()), 0
            self._next, self._pause = now, 0.0
        self._passed += 1
        self._latest.append(sent)
        if self.pace < math.inf:
            self._quicken()

    def throttled(self, sent: float, now: float, retry_after: float | None, rand: float) -> None:
        """Record that a request was throttled, and how many seconds the server asked to wait."""
        if sent < self._refused:
            return
        if self._passed:
            self._learn(sent)
            self.pace = self._rate * (1 - self._dip())
            # After the last success the bucket was empty at worst.
            wait = max(self._latest[-1] + 1 / self.pace - now, 0.35 / self.pace)
            self._pause = 0.0
        else:
            wait = self._back_off(max(_FIRST_PAUSE, 2 / self.pace), rand)
            if self.pace < math.inf:
                self.pace = max(self._rate / 2, _SLOWEST)
        if retry_after:
            wait = max(wait, min(retry_after, _LONGEST_ASK) + rand)
        self._count_from(now, wait)

    def unreached(self, sent: float, now: float, rand: float) -> None:
        """Record that a request did not reach the service: all wait, increasingly long, until one does."""
        if sent >= self._refused:
            self._count_from(now, self._back_off(_FIRST_OUTAGE, rand))

    def _count_from(self, now: float, wait: float) -> None:
        self._refused, self._next = now, now + wait
        self._since, self._passed = max(now, self._next - self._burst()), 0
        self._latest.clear()

    def _back_off(self, first: float, rand: float) -> float:
        self._pause = min(_LONGEST_PAUSE, max(first, 2 * self._pause))
        return self._pause * (0.5 + rand / 2)

    def _burst(self) -> float:
        return max(_BURST_SECONDS, 1 / self.pace)

    def _dip(self) -> float:
        # A bucket that holds few requests overflows at once.
        return _DIP * min(1.0, max(0.3, self._rate / 4))

    def _is_searching(self) -> bool:
        return self.pace > self._rate * (1 + 0.8 * self._dip())

    def _quicken(self) -> None:
        low = self._rate * (1 - self._dip())
        if self.pace < low:
            self.pace = min(low, 2 * self.pace)  # after a pause
        elif self._is_searching():
            self.pace *= 1 + min(1.0, 1 / self.pace / _SEARCH_SECONDS)
        else:
            # A rate that is based on few requests is tested sooner.
            seconds = min(self._agreed, _CREEP_REQUESTS) / self._rate
            self.pace += 1.8 * self._dip() / max(_CREEP_SECONDS, min(_CREEP_LONGEST, seconds))

    def _learn(self, sent: float) -> None:
        before, self._opening = self._rate, 0.0
        if before == math.inf:
            self._opening = max(sent - self._since, _TICK)
            self._rate, self._agreed = self._passed / self._opening, 1
            return
        if self._is_searching():  # the pace grew meanwhile, so only the latest count
            found = len(self._latest) / max(sent - self._latest[0], _TICK)
        else:
            weight = min(self._agreed, 8)
            found = (self._passed + 0.5 + weight) / (max(sent - self._since, _TICK) + weight / before)
        if found > 0.9 * self.pace:
            # A small bucket is empty the moment the pace is too high, a large one later.
            found = (self.pace + found) / 2
        self._rate = max(before / 2, _SLOWEST, min(self.pace, found))
        self._agreed = self._agreed + self._passed if abs(self._rate / before - 1) < 0.15 else 1
