"""How CLIP reads names: what its tokenizer cleans away, what words are left, which lists of names it can use."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

SPECIAL = ("<start_of_text>", "<end_of_text>")  # not words: each is one token, and the feature is read at the second
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own pattern


@functools.lru_cache(maxsize=2**17)
def cleaned(text: str) -> str:
    """The text as CLIP's tokenizer cleans it: mended Unicode in one normal form, entities, single spaces, lower case.

    >>> cleaned("  Caf\\u0065\\u0301  &amp; bar ")
    'café & bar'
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else there is nothing to mend
        import ftfy  # open_clip needs it, too

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@functools.lru_cache(maxsize=2**17)
def words_of(text: str) -> tuple[str, ...]:
    """The words that become tokens; two texts of the same words have the same tokens, and the same features.

    >>> words_of("8ball") == words_of("8 Ball") == ("8", "ball")
    True
    """
    import regex  # as open_clip

    return tuple(regex.findall(WORD, cleaned(text), regex.IGNORECASE))


class ClassNames(list[str]):
    """Class names that ``check_names`` has cleaned and checked; it lets them pass as they are."""


def check_names(classnames: Sequence[str], dictionary: bool = False) -> ClassNames:
    """The class names as a list, underscores as spaces; done once, where names come in.

    Args:
        dictionary: names to choose from, of which ``8ball`` and ``8 ball`` may both be one: CLIP reads them alike, so
            that either may be chosen.  As classes they are refused.

    Raises:
        ValueError: no list of names, or one that is empty, or holds what is not a name, or two that are one to CLIP.
    """
    if isinstance(classnames, ClassNames):
        return classnames
    if isinstance(classnames, str):
        raise ValueError(f"classnames is one string, {classnames!r}: give a list of names.")
    if not isinstance(classnames, Iterable) or isinstance(classnames, bytes | Mapping | set | frozenset):
        raise ValueError(f"classnames is a {type(classnames).__name__}: give a list of names, in the order of labels.")
    names = list(classnames)
    if not names:
        raise ValueError("The list of class names is empty: give at least one name.")
    for name in names:
        check_name(name)
    names = ClassNames(str(name).replace("_", " ") for name in names)
    first = {}  # what CLIP reads → the name that reads so
    for name in names:
        reads = cleaned(name) if dictionary else words_of(name)
        if reads in first:
            raise ValueError(_same(first[reads], name) + ": no classifier can tell the two apart; rename one.")
        first[reads] = name
    return names


def _same(one: str, other: str) -> str:
    if one == other:
        return f"The class name {one!r} occurs twice"
    return f"CLIP reads the class names {one!r} and {other!r} as the same words"


def as_spelled(classnames: Sequence[str]) -> list[str]:
    """The class names as they are spelled, once ``check_names`` has passed them; also what can be read only once."""
    spelled = list(classnames) if isinstance(classnames, Iterator) else classnames
    check_names(spelled)
    return list(spelled)


def check_name(name: object) -> None:
    """Refuse what is no class name.

    Raises:
        ValueError: it is no text, has no word in it, or a mark of CLIP's own.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} is not a class name: every name must be a non-empty string.")
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"The class name {name!r} is no valid text (a file name of another encoding?): rename it.")
    if any(special in cleaned(name.replace("_", " ")) for special in SPECIAL):
        raise ValueError(f"The class name {name!r} holds a mark of CLIP's own, which ends the sentence: rename it.")
    if not words_of(name.replace("_", " ")):
        raise ValueError(f"{name!r} is not a class name: CLIP reads no word in it.")


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The sentences, each with one ``{}`` for the name.

    Raises:
        ValueError: no list of sentences, or one without a place for the name.
    """
    if isinstance(templates, str):
        raise ValueError(
            f"templates is one string, {templates!r}: give a list of them, each with {{}}, or a .json file."
        )
    sentences = tuple(templates)
    if not sentences:
        raise ValueError("The list of templates is empty: give at least one sentence with {} for the name.")
    for sentence in sentences:
        parts = sentence.split("{}") if isinstance(sentence, str) else []
        if len(parts) != 2 or any(brace in part for part in parts for brace in "{}"):
            raise ValueError(
                f"The template {sentence!r} has no single {{}} for the name: write it as 'a photo of a {{}}.'"
            )
        if any(special in cleaned(sentence) for special in SPECIAL):
            raise ValueError(
                f"The template {sentence!r} holds a mark of CLIP's own, which ends the sentence: leave it out."
            )
    return sentences
