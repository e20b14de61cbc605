"""Class names and the sentences around them, as CLIP's tokenizer reads them."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence

TEMPLATE = "a photo of a {}."  # the one sentence of the zero-shot baseline, as in the paper
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own pattern
END_MARK = "<end_of_text>"  # one token, at which the feature is read


class ClassNames(list[str]):
    """Class names that ``check_names`` has checked. It lets them pass, so that a training step checks nothing again."""


@functools.lru_cache(maxsize=2**17)
def cleaned(text: str) -> str:
    """The text as CLIP's tokenizer cleans it: mended Unicode, entities resolved, single spaces, lower case."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else there is nothing to mend
        import ftfy  # as open_clip

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@functools.lru_cache(maxsize=2**17)
def words_of(text: str) -> tuple[str, ...]:
    """The words that become tokens. Two texts of the same words have the same tokens and the same features.

    >>> words_of("8ball") == words_of("8 Ball") == ("8", "ball")
    True
    """
    import regex  # as open_clip

    return tuple(regex.findall(WORD, cleaned(text), regex.IGNORECASE))


def check_names(classnames: Sequence[str], dictionary: bool = False) -> ClassNames:
    """The class names as a list, underscores as spaces.

    Args:
        dictionary: the names are a dictionary's, which may spell one thing twice ("8ball", "8 ball"); only names that
            are equal are refused.

    Raises:
        ValueError: a string in place of a list, no names, a name without a word, or two that CLIP cannot tell apart.
    """
    if isinstance(classnames, ClassNames):
        return classnames
    if isinstance(classnames, str):
        raise ValueError(f"classnames is one string, {classnames!r}: give a list of names.")
    given = list(classnames)
    names = ClassNames([name.replace("_", " ") for name in given])
    if not names:
        raise ValueError("The list of class names is empty: give at least one name.")
    first: dict[object, str] = {}  # what CLIP reads → the name that reads so
    for name, spelled in zip(names, given):
        words = words_of(name)
        if not words or END_MARK in spelled:
            raise ValueError(f"{name!r} is not a class name: CLIP reads no word in it.")
        key = cleaned(name) if dictionary else words
        if key in first:
            raise ValueError(
                f"CLIP reads the class names {first[key]!r} and {name!r} as the same words: no classifier can tell "
                "the two apart; rename one."
            )
        first[key] = name
    return names


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The sentences, each with one ``{}`` for the name.

    Raises:
        ValueError: a string in place of a list, or a sentence without a place for the name.
    """
    if isinstance(templates, str):
        raise ValueError(f"templates is one string, {templates!r}: give a list of them, each with {{}} for the name.")
    sentences = tuple(templates)
    if not sentences:
        raise ValueError("The list of templates is empty: give at least one sentence with {} for the name.")
    for sentence in sentences:
        if sentence.count("{}") != 1 or sentence.count("{") + sentence.count("}") != 2 or END_MARK in sentence:
            raise ValueError(
                f"The template {sentence!r} has no single {{}} for the name: write it as 'a photo of a {{}}.'"
            )
    return sentences
