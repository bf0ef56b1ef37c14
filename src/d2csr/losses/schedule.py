"""When the triplet term counts, and how much: alpha of Eq. 7 as a function of the step."""

from dataclasses import dataclass

from d2csr.core.errors import D2csrError


@dataclass(frozen=True)
class AlphaSchedule:
    """Alpha at its height, the steps it is on for, and how it fades.

    Attributes:
        alpha: weight of the triplet term, >= 0.
        start: first step it is on.
        active: steps it stays on in every period; None keeps it on.
        period: steps from one start to the next; None has a single period.
        halve_every: steps after which alpha halves; None keeps it.
    """

    alpha: float = 0.0
    start: int = 0
    active: int | None = None
    period: int | None = None
    halve_every: int | None = None

    def __post_init__(self) -> None:
        """Refuse negative weights, periods that hold no step, and periods without effect."""
        lengths = [self.active, self.period, self.halve_every]
        if self.alpha < 0 or self.start < 0 or any(n is not None and n < 1 for n in lengths):
            problem = f"{self} has a negative weight or start, or a length below 1"
            raise D2csrError("alpha schedule", problem, remedy="Mend the recipe.")
        if self.period is not None and self.active is None:
            problem = f"period {self.period} without active changes nothing"
            raise D2csrError("alpha schedule", problem, remedy="Give active too, or leave it out.")

    def at(self, step: int) -> float:
        """Return alpha at a step counted from 0."""
        if step < self.start:
            return 0.0
        place = step - self.start
        if self.period is not None:
            place %= self.period
        if self.active is not None and place >= self.active:
            return 0.0
        halvings = 0 if self.halve_every is None else step // self.halve_every
        return self.alpha * 0.5**halvings
