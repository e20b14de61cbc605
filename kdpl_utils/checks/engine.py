"""A check keeps a right answer, names the mistake in a wrong one, and never stops a lesson.

An answer that gives what a known mistake gives makes that mistake, however it is written. Any other wrong answer gets a
generic sentence. All words that a learner reads stand in ``sentences.json``.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from .outcomes import Unanswered, ask, fault, is_other_kind, rebound, same, short, with_gradients

SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text(encoding="utf-8"))
RIGHT = "yours"
NOT_TRIED = "the library's, not attempted"
WRONG = "the library's, yours is not right yet"
EXERCISES: dict[str, Exercise] = {}
RECORDS: dict[str, dict] = {}  # what was asked and answered in this kernel, by the exercise's name, as JSON takes it


class KnownMistake(NamedTuple):
    """A wrong answer, and the sentence for a learner who gives it."""

    name: str
    sentence: str
    function: Callable


class CommonError(NamedTuple):
    """Words of an exception that many meet, and what they mean."""

    message: str
    sentence: str


COMMON_ERRORS = [CommonError(*pair) for pair in SENTENCES["errors"].items()]


def record_of(name: str, lesson: str, status: str = NOT_TRIED) -> dict:
    """Return what is known of an exercise, also before anybody tried it."""
    return RECORDS.setdefault(name, {"lesson": lesson, "attempts": 0, "hints": 0, "status": status, "mistake": None})


def give_hint(name: str, lesson: str, depth: int) -> None:
    """Print the hint of a depth from 1 on, or each time the next one; note that it was asked for."""
    record = record_of(name, lesson)
    hints = SENTENCES["exercises"][name]["hints"]
    depth = min(depth or record["hints"] + 1, len(hints))
    record["hints"] = max(record["hints"], depth)
    print(hints[depth - 1])


def is_stub(answer: Callable) -> bool:
    """Return whether a function was left as it stood: it calls nothing and sets nothing."""
    code = getattr(answer, "__code__", None)
    is_empty = code is not None and set(code.co_names) <= {"NotImplementedError"}
    return is_empty and code.co_nlocals == len(inspect.signature(answer).parameters)


@dataclass(frozen=True, eq=False)
class Exercise:
    """``check(answer)`` returns a right answer; of a wrong one it says what is wrong, and returns the library's.

    Attributes:
        right: the library's own function, or its composition.
        probes: makes the tuples of arguments on which answers are compared; where some require a gradient, what arrives
            there is compared as well.
        mistakes: name → wrong function; the sentences stand in ``sentences.json``.
        observe: (function, *probe) → what is compared, if it is not the result itself.
        variables: makes what an answer finds under the notebook's global names.
    """

    name: str
    right: Callable
    probes: Callable[[], list[tuple]]
    mistakes: Mapping[str, Callable]
    observe: Callable = ask
    variables: Callable[[], dict] = dict

    def __post_init__(self):
        EXERCISES[self.name] = self

    @property
    def lesson(self) -> str:
        return self.probes.__module__[-2:]  # of kdpl_utils.checks.lesson05: "05"

    @property
    def known_mistakes(self) -> list[KnownMistake]:
        sentences = SENTENCES["exercises"][self.name]["mistakes"]
        return [KnownMistake(name, sentences[name], function) for name, function in self.mistakes.items()]

    def __call__(self, answer: Callable) -> Callable:
        status, mistake, words = self.judge(answer)
        record = record_of(self.name, self.lesson)
        record.update(status=status, mistake=mistake, attempts=record["attempts"] + (status != NOT_TRIED))
        print(words)
        return answer if status == RIGHT else self.library_version(answer)

    def library_version(self, answer: Callable) -> Callable:
        """Return the right function; if it reads the notebook's variables, bound to those beside the answer."""
        notebook = getattr(answer, "__globals__", vars(sys.modules["__main__"]))
        return types.FunctionType(self.right.__code__, notebook, self.name) if self.variables() else self.right

    def judge(self, answer: Callable) -> tuple[str, str | None, str]:
        """Return the answer's status, the name of its mistake, and what the learner reads."""
        (got, changed), (expected, _) = self.outcomes(answer), self.outcomes(self.right)
        if is_stub(answer) and all(isinstance(outcome, Unanswered | NotImplementedError) for outcome in got):
            return NOT_TRIED, None, f"○ {self.name}: {SENTENCES['not attempted']}"
        wrong = [i for i in range(len(got)) if not same(got[i], expected[i]) or is_other_kind(got[i], expected[i])]
        if not wrong and not changed:
            return RIGHT, None, f"✓ {self.name}: {SENTENCES['right']}"
        for mistake in self.known_mistakes if wrong else []:
            if all(map(same, got, self.outcomes(mistake.function)[0])):
                return WRONG, mistake.name, f"✗ {self.name}: {mistake.sentence}\n  {SENTENCES['goes on']}"
        i = wrong[0] if wrong else 0
        name, detail = fault(got, expected, i) if wrong else ("changed its arguments in place", "")
        sentence = SENTENCES["generic"][name].format(detail)
        if name == "raises":
            sentence = next((common.sentence for common in COMMON_ERRORS if common.message in str(got[i])), sentence)
        shown = [f"called   {self.name}({', '.join(map(short, self.probes()[i]))})", f"got      {short(got[i])}"]
        shown += [f"expected {short(expected[i])}", SENTENCES["help"].format(self.name), SENTENCES["goes on"]]
        return WRONG, name, "\n  ".join([f"✗ {self.name}: {sentence}", *shown])

    def outcomes(self, function: Callable) -> tuple[list, bool]:
        """Return what the function gives for each probe, exceptions included, and whether it changed an argument."""
        outcomes = []
        changed = False
        for probe, untouched in zip(self.probes(), self.probes()):
            variables = self.variables()
            leaves = [parameter for x in probe if isinstance(x, nn.Module) for parameter in x.parameters()]
            leaves += [x for x in (*probe, *variables.values()) if isinstance(x, Tensor) and x.requires_grad]
            try:
                result = self.observe(rebound(function, variables), *probe)
                outcomes.append(with_gradients(result, leaves) if leaves else result)
            except Exception as error:  # whatever a learner's code raises is told to the learner
                if function is self.right:
                    raise
                outcomes.append(error)
            changed = changed or not all(same(x, y) for x, y in zip(probe, untouched) if isinstance(y, Tensor | list))
        return outcomes, changed

    def hint(self, depth: int = 0) -> None:
        """Print the hint of a depth from 1 on, or each time the next one."""
        give_hint(self.name, self.lesson, depth)
