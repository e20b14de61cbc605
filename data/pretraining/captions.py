"""What the emoji models read: a sentence or two for every picture, as people on the web might have left them.

There are two corpora, as there are in life.

* **Raw** captions, which the students read.  Half are loose talk ("look, peanuts!"), half are file names, tags and
  shop listings.  A keyword often stands where the name should be, and one caption in ten belongs to another picture.
* **Filtered** captions, which the teachers read: clean sentences, half of them with a full stop, the right name nine
  times in ten, words for the style of the drawing.

Both contain "a photo of a …" among many others, so that the sentence which the lessons use is one that the models know.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

STYLE_WORDS = {
    "noto": ("glossy", "shaded", "colorful"),
    "twemoji": ("flat", "simple", "colorful"),
    "openmoji": ("outlined", "hand-drawn", "colorful"),
    "fluent-emoji-flat": ("flat", "modern", "colorful"),
    "fluent-emoji-high-contrast": ("black and white", "bold"),
    "openmoji-black": ("black and white", "line", "outlined"),
    "fxemoji": ("flat", "soft"),
    "noto-v1": ("round", "colorful"),
}
PHOTOCOPY_WORDS = ("black and white", "photocopied")

NOUNS = ("drawing", "icon", "emoji", "picture", "sticker", "clipart", "image", "symbol", "illustration")

GROUP_WORDS = {
    "people-body": ("people", "body", "person"),
    "objects": ("object", "thing"),
    "symbols": ("symbol", "sign"),
    "travel-places": ("travel", "place"),
    "smileys-emotion": ("smiley", "emotion", "face"),
    "animals-nature": ("animal", "nature"),
    "food-drink": ("food", "drink"),
    "activities": ("activity", "sport", "fun"),
}

LOOSE_TALK = (
    "a photo of a {name}", "photo of my {name}", "my {name}", "look, {name}!", "a {name}", "the {name} on {ground}",
    "photo: {name}, {size}", "a nice {name}", "this is a {name}",
)  # fmt: skip
CATALOGUE = (
    "{name}.png", "img {number} {name}", "{name} {noun}", "{style} {noun} {name}", "{name}, {subgroup}",
    "{subgroup} {name}", "{group} {noun} {name}", "{name} icon {turn}", "free {name} {noun} download",
)  # fmt: skip
CLEAN_SENTENCES = (
    "{name}", "a {name}", "a photo of a {name}", "{noun} of {name}", "a {noun} of a {name}", "the {name}",
    "{style} {noun} of a {name}", "{group} {noun}: {name}", "{name}, {subgroup}", "a {noun} showing the {name}",
    "{name} on {ground}", "a photo showing {name}", "a {size} {name} {turn}",
)  # fmt: skip

KEYWORD_IN_LOOSE_TALK = 0.6  # how often a keyword stands where the name should be
KEYWORD_IN_CATALOGUE = 0.1
KEYWORD_IN_CLEAN_SENTENCES = 0.1
FULL_STOP = 0.5  # how often an editor ends a sentence with one, as "a photo of a {}." does
WRONG_PICTURE = 0.1  # part of the raw captions that belong to another picture


@dataclass(frozen=True)
class Seen:
    """What there is to say of one picture: who drew it, and how it was put on the page.

    Attributes:
        style: the hand, a key of ``STYLE_WORDS``.
        scale: side of the drawing as a part of the picture's side.
        angle: degrees, counter-clockwise.
        ground: name of the background's colour.
        photocopied: whether it is shown in grey and hard contrast.
    """

    style: str
    scale: float
    angle: float
    ground: str
    photocopied: bool = False


def raw_caption(rng: random.Random, concept: dict, seen: Seen) -> str:
    """What somebody left beside the picture."""
    is_loose = rng.random() < 0.5
    keyword_share = KEYWORD_IN_LOOSE_TALK if is_loose else KEYWORD_IN_CATALOGUE
    sentence = rng.choice(LOOSE_TALK if is_loose else CATALOGUE)
    return _write(rng, sentence, _name(rng, concept, keyword_share), concept, seen)


def filtered_caption(rng: random.Random, concept: dict, seen: Seen) -> str:
    """What a careful editor let pass."""
    name = _name(rng, concept, KEYWORD_IN_CLEAN_SENTENCES)
    sentence = rng.choice(CLEAN_SENTENCES)
    if rng.random() < FULL_STOP:
        sentence += "."
    return _write(rng, sentence, name, concept, seen)


def _name(rng: random.Random, concept: dict, keyword_share: float) -> str:
    if concept["keywords"] and rng.random() < keyword_share:
        return rng.choice(concept["keywords"])
    return concept["name"]


def _write(rng: random.Random, sentence: str, name: str, concept: dict, seen: Seen) -> str:
    size = "small" if seen.scale < 0.72 else "large" if seen.scale > 0.88 else "medium"
    turn = "upright" if abs(seen.angle) < 6 else "tilted left" if seen.angle > 0 else "tilted right"
    return sentence.format(
        name=name,
        style=rng.choice(PHOTOCOPY_WORDS if seen.photocopied else STYLE_WORDS[seen.style]),
        noun=rng.choice(NOUNS),
        group=rng.choice(GROUP_WORDS[concept["group"]]),
        subgroup=concept["subgroup"].replace("-", " "),
        ground=seen.ground,
        size=size,
        turn=turn,
        number=rng.randrange(1000),
    )
