"""Whether a deployment is asked at all: one that keeps failing rests, but for one probe at a time.

Closed: it is asked. Open: it rests. Half open: its rest is over, and the next call goes ahead
alone; if that fails, it rests twice as long. Times are of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakeinterp.chat.failures import Failure

LONGEST_REST_S = 60.0


@dataclass(slots=True)
class Circuit:
    """The state of one deployment."""

    opens_after: int | None
    """Failures in a row; None never opens it."""
    first_rest_s: float
    outage_s: float
    """How long calls wait for it; 0 lets them fail at once."""
    probe_s: float
    """Longest time a probe may take before the next one goes."""
    n_failed: int = field(default=0, init=False)
    """Failures in a row."""
    open_until: float = field(default=0.0, init=False)
    """Zero while it is closed."""
    _rest_s: float = field(default=0.0, init=False)
    _since: float = field(default=0.0, init=False)
    """When it opened."""
    _is_probed: bool = field(default=False, init=False)
    _last: Failure | None = field(default=None, init=False)

    @property
    def is_open(self) -> bool:
        """Whether it rests or is being probed."""
        return self.open_until > 0.0

    @property
    def hope_until(self) -> float:
        """Until when calls wait for it; in the past if time will not help."""
        if self._last is None:
            return float("inf")
        return self._since + self.outage_s if self._last.again else self._since

    def is_hopeless(self, now: float) -> bool:
        """Whether a call should fail rather than wait for it."""
        return now < self.open_until and now >= self.hope_until

    def enter(self, now: float) -> None:
        """Note that a call is sent; while it is open, this is the probe and the others wait."""
        if self.is_open:
            self.open_until, self._is_probed = now + self.probe_s, True

    def failed(self, failure: Failure, now: float) -> bool:
        """Count a failure that is the deployment's fault; return whether that opened it.

        Calls that were in flight when it opened and fail late change nothing.
        """
        self.n_failed += 1
        if self.opens_after is None or self.n_failed < self.opens_after:
            return False
        was_open, self._last = self.is_open, failure
        if not was_open:
            self._since, self._rest_s = now, self.first_rest_s
        elif self._is_probed:
            self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s)
        else:
            return False
        self.open_until, self._is_probed = now + self._rest_s, False
        return not was_open

    def answered(self) -> bool:
        """Note a sign of life; return whether that closed it."""
        was_open = self.is_open
        self.n_failed, self.open_until, self._is_probed, self._last = 0, 0.0, False, None
        return was_open

    def failure(self, path: str) -> Failure:
        """Return what a call fails with that is not sent because of it."""
        assert self._last is not None, "only an open circuit fails calls"
        reason = f"not sent: {path} failed {self.n_failed} times in a row: {self._last.reason}"
        return replace(self._last, reason=reason, again=False, billed=False, refuses=None)
