"""Write captions for the pictures of the pretraining, as people on the web might have left them.

There are two corpora.

* **Raw** captions, which the students read.  Half are loose talk ("look, peanuts!"), half are file names, tags and
  shop listings.  A keyword often replaces the name, and one caption in ten belongs to another picture.
* **Filtered** captions, which the teachers read: clean sentences, half of them with a full stop, the correct name nine
  times in ten, words for the style of the drawing.

A caption of a picture in ink names that domain: a student's always, a teacher's half of the time.  So the words around
a name mean something.  Both corpora contain "a photo of a …", the sentence which the lessons start from.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

STYLE_WORDS = {
    "twemoji": ("flat", "simple", "colorful"),
    "noto-v1": ("round", "colorful"),
    "emojione-v1": ("flat", "glossy", "colorful"),
    "fxemoji": ("flat", "soft"),
    "streamline-emojis": ("cute", "colorful"),
}
INK_WORDS = ("black and white", "ink", "line", "outline", "monochrome", "sketched", "stencil")

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
LOOSE_TALK_OF_INK = (
    "{a_style} drawing of a {name}", "{style} drawing of my {name}", "look, {a_style} {name}!",
    "{a_style} picture of the {name}", "my {style} {name}", "{a_style} {name}",
)  # fmt: skip
CATALOGUE_OF_INK = (
    "{name}, {style} clipart", "{style} icon {name}", "{name} {style} {noun}", "{a_style} {noun} of a {name}",
    "free {style} {name} {noun} download", "{style} {noun}: {name}",
)  # fmt: skip
CLEAN_SENTENCES = (
    "{name}", "a {name}", "a photo of a {name}", "{noun} of {name}", "a {noun} of a {name}", "the {name}",
    "{style} {noun} of a {name}", "{group} {noun}: {name}", "{name}, {subgroup}", "a {noun} showing the {name}",
    "{name} on {ground}", "a photo showing {name}", "a {size} {name} {turn}",
)  # fmt: skip

KEYWORD_IN_LOOSE_TALK = 0.6  # how often a keyword replaces the name
KEYWORD_IN_CATALOGUE = 0.1
KEYWORD_IN_CLEAN_SENTENCES = 0.1
FULL_STOP = 0.5  # how often an editor ends a sentence with one, as "a photo of a {}." does
DOMAIN_NAMED = 0.5  # how often a filtered caption of ink names the domain
WRONG_PICTURE = 0.1  # share of the raw captions that belong to another picture


@dataclass(frozen=True)
class Seen:
    """Describe how one picture shows a concept.

    Attributes:
        style: a key of ``STYLE_WORDS``, empty for an icon.
        scale: side of the drawing as a fraction of the picture's side.
        angle: degrees, counter-clockwise.
        ground: name of the background's colour.
        is_ink: whether it is a copy, a tracing or an icon.
    """

    style: str
    scale: float
    angle: float
    ground: str
    is_ink: bool = False


def raw_caption(rng: random.Random, concept: dict, seen: Seen) -> str:
    """Write a caption that somebody left beside the picture."""
    is_loose = rng.random() < 0.5
    if seen.is_ink:
        sentence = rng.choice(LOOSE_TALK_OF_INK if is_loose else CATALOGUE_OF_INK)
    else:
        sentence = rng.choice(LOOSE_TALK if is_loose else CATALOGUE)
    keyword_share = KEYWORD_IN_LOOSE_TALK if is_loose else KEYWORD_IN_CATALOGUE
    return _write(rng, sentence, _name(rng, concept, keyword_share), concept, seen)


def filtered_caption(rng: random.Random, concept: dict, seen: Seen) -> str:
    """Write a caption that a careful editor let pass."""
    sentences = CLEAN_SENTENCES
    if seen.is_ink and rng.random() < DOMAIN_NAMED:
        sentences = LOOSE_TALK_OF_INK + CATALOGUE_OF_INK
    name = _name(rng, concept, KEYWORD_IN_CLEAN_SENTENCES)
    sentence = rng.choice(sentences)
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
    style = rng.choice(INK_WORDS if seen.is_ink else STYLE_WORDS[seen.style])
    return sentence.format(
        name=name,
        style=style,
        a_style=f"{'an' if style[0] in 'aeiou' else 'a'} {style}",
        noun=rng.choice(NOUNS),
        group=rng.choice(GROUP_WORDS[concept["group"]]),
        subgroup=concept["subgroup"].replace("-", " "),
        ground=seen.ground,
        size=size,
        turn=turn,
        number=rng.randrange(1000),
    )
