"""The engine of the checks: a right answer is kept, a wrong one is told its mistake, and a lesson always goes on.

A wrong answer is compared with mutants, which are wrong on purpose: where it gives what a mutant gives, it makes that
mutant's mistake, however it is written.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .helping import Stumble
from .outcomes import advice_for, is_no_tensor, same, short

RIGHT, NOT_TRIED, WRONG = "yours", "the library's, not attempted", "the library's, yours is not right yet"
RECORDS: dict[str, dict] = {}  # what was asked and answered in this kernel, by the exercise's name


def call(function: Callable, *probe):
    return function(*probe)


def first_record(lesson: str, status: str) -> dict:
    """What is known of an exercise before anybody tried it."""
    return {"lesson": lesson, "attempts": 0, "hints": 0, "status": status}


def give_hint(record: dict, hints: tuple[str, str], depth: int) -> None:
    """Print the small hint (1) or the large one (2), and note that it was asked for."""
    record["hints"] = max(record["hints"], depth)
    print(hints[min(max(depth, 1), 2) - 1])


def forgets_to_return(answer: Callable, outcomes: list) -> bool:
    """Whether a function does something and gives nothing back; one that was left as it stood does nothing."""
    code = getattr(answer, "__code__", None)
    if code is None or any(outcome is not None for outcome in outcomes):
        return False
    return bool(code.co_names) or code.co_nlocals > len(inspect.signature(answer).parameters)


@dataclass(frozen=True)
class Mutant:
    """A wrong answer with the sentence for whoever gives it."""

    sentence: str
    function: Callable


@dataclass(frozen=True, eq=False)
class Exercise:
    """``check(answer)`` returns ``answer`` if it is right, and otherwise says what is wrong and returns the library's.

    Attributes:
        right: the library's own function, or its composition.
        probes: makes the tuples of arguments on which answers are compared.
        advice: what to try when no mutant gives what the answer gives.
        hints: a small one and a large one.
        stumble: the error that many meet, and what it means.
        observe: (function, *probe) → what is compared; gradients, say, beside the result.
        observed: what is compared, in words, where it is not the result alone.
        substitute: (answer) → the library's function in the answer's place.
    """

    lesson: str
    name: str
    right: Callable
    probes: Callable[[], list[tuple]]
    mutants: Mapping[str, Mutant]
    advice: str
    hints: tuple[str, str]
    stumble: Stumble
    minutes: int = 5
    importance: int = 2  # of 3
    observe: Callable = call
    observed: str = ""
    substitute: Callable | None = field(default=None)

    def __call__(self, answer: Callable) -> Callable:
        outcomes, expected = self.outcomes(answer), self.outcomes(self.right)
        record = RECORDS.setdefault(self.name, first_record(self.lesson, NOT_TRIED))
        record.update(status=NOT_TRIED, mistake=None)
        is_empty = all(outcome is None or isinstance(outcome, NotImplementedError) for outcome in outcomes)
        if is_empty and not forgets_to_return(answer, outcomes):
            print(f"○ {self.name}: not attempted yet. The lesson goes on with the LIBRARY'S version.")
            return self.substitute(answer) if self.substitute else self.right
        record["attempts"] += 1
        pairs = list(zip(outcomes, expected))
        wrong = [i for i, (got, right) in enumerate(pairs) if not same(got, right) or is_no_tensor(got, right)]
        if not wrong:
            record["status"] = RIGHT
            print(f"✓ {self.name}: right on {len(expected)} of {len(expected)} probes. The lesson goes on with yours.")
            return answer
        record.update(status=WRONG, mistake=self.mistake(outcomes) or "another")
        print(f"✗ {self.name}: {self.diagnosis(outcomes, expected, wrong[0])}")
        print("  The lesson goes on with the LIBRARY'S version; mend yours and run this cell again.")
        return self.substitute(answer) if self.substitute else self.right

    def outcomes(self, function: Callable) -> list:
        """What the function gives for each probe. An exception is an outcome, too: a mutant may raise the same."""
        found = []
        for probe in self.probes():
            try:
                outcome = self.observe(function, *copy.deepcopy(probe))
            except Exception as error:  # whatever a learner's code raises is told to the learner
                if function is self.right:
                    raise
                outcome = error
            found.append(None if outcome is ... else outcome)
        return found

    def mistake(self, outcomes: list) -> str | None:
        """The name of the mutant that gives the same everywhere."""
        for name, mutant in self.mutants.items():
            if all(same(got, wrong) for got, wrong in zip(outcomes, self.outcomes(mutant.function))):
                return name
        return None

    def diagnosis(self, outcomes: list, expected: list, i: int) -> str:
        name = self.mistake(outcomes)
        if name:
            return self.mutants[name].sentence
        if is_no_tensor(outcomes[i], expected[i]) and same(outcomes[i], expected[i]):
            kind = type(outcomes[i]).__name__
            return f"the numbers are right, but they are a {kind}: the lesson goes on with a tensor, torch.tensor(…)."
        if outcomes[i] is None:
            return "your function gives nothing back (None): its last line has to begin with return."
        is_known = isinstance(outcomes[i], Exception) and self.stumble.message in str(outcomes[i])
        advice = self.stumble.sentence if is_known else advice_for(outcomes[i], self.advice)
        lines = [f"probe {i + 1} of {len(expected)} shows another result.", f"got       {short(outcomes[i])}"]
        lines += [f"expected  {short(expected[i])}", f"try       {advice}"]
        lines += [f"compared  {self.observed}"] if self.observed else []
        return "\n  ".join(lines)

    def hint(self, depth: int = 1) -> None:
        """Print the small hint (1) or the large one (2)."""
        give_hint(RECORDS.setdefault(self.name, first_record(self.lesson, NOT_TRIED)), self.hints, depth)
