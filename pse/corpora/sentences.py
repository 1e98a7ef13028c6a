"""Sentences to speak: a small template grammar with enough words that a voice never repeats itself."""

from __future__ import annotations

import re

import numpy as np

WORDS = {
    "person": (
        "the baker|my neighbour|the old captain|her youngest brother|the postman|a tired nurse|the judge|"
        "our teacher|the carpenter|his grandmother|a quiet stranger|the gardener|the violin player|Martha|"
        "Thomas|Joanna|Oliver|the girl next door|the engineer|two young doctors|the shepherd|"
        "a travelling salesman|the chief of the village|George|Beatrice|the fishmonger|"
        "a boy with red shoes|the librarian|the night watchman|my uncle Vincent"
    ),
    "place": (
        "by the river|behind the church|in the kitchen|near the harbour|under the bridge|"
        "at the railway station|across the valley|in a narrow street|on the edge of the forest|"
        "outside the theatre|in the cellar|at the top of the hill|beside the fire|"
        "in the middle of the square|along the beach|inside the tower|between the two houses|"
        "on the third floor|at the corner shop|over the garden wall"
    ),
    "thing": (
        "a silver watch|the broken chair|a bundle of letters|the yellow umbrella|an iron key|"
        "the largest map|a basket of apples|the wooden box|a cup of tea|the heavy curtain|a pair of gloves|"
        "the church bell|a jar of honey|the blue bicycle|a piece of chalk|the morning paper|an empty purse|"
        "the garden gate|a loaf of bread|the copper kettle|a length of rope|the school piano|"
        "a thick wool blanket|the oil lamp"
    ),
    "creature": (
        "a grey fox|the white horse|three noisy geese|a swarm of bees|the farmer's dog|an old tortoise|"
        "a flock of sparrows|the black cat|a young deer|the fat hedgehog|two brown bears|a shy owl"
    ),
    "did": (
        "found|carried|painted|forgot|borrowed|repaired|wanted|noticed|dropped|sold|hid|measured|polished|"
        "bought|described|watched|remembered|shook|opened|packed|threw away|looked for|pointed at|"
        "asked about"
    ),
    "went": (
        "walked slowly|sat down|waited for an hour|laughed out loud|began to sing|fell asleep|"
        "stood quite still|turned around|whispered|ran as fast as possible|stopped to think|vanished|"
        "danced until midnight|shivered with cold|worked without a break|stumbled twice"
    ),
    "quality": (
        "strange|useful|heavier than before|very cheap|far too small|rather beautiful|dangerous|"
        "quite ordinary|bitter|as smooth as glass|worth the trouble|older than it looked|cold and wet|"
        "perfectly round|dusty|fragile"
    ),
    "weather": (
        "the wind changed|heavy rain was falling|the fog had lifted|snow covered the fields|"
        "the sun was going down|thunder rolled in the distance|the frost had gone|a warm breeze came up|"
        "the clouds were moving quickly|the river was rising|the stars were out|it was hot and dusty"
    ),
    "time": (
        "last Thursday|before breakfast|early in the spring|after the long voyage|on the first of May|"
        "late at night|every other morning|once in a while|at half past seven|during the holidays|"
        "some years ago|as usual|in the autumn of that year|shortly before noon|on his birthday|"
        "right after school"
    ),
    "number": ("two|three|five|seven|eleven|a dozen|nineteen|twenty six|forty|nearly a hundred|sixty five|eight"),
    "goods": (
        "oranges|candles|pages|sacks of flour|photographs|buttons|glass bottles|tickets|wooden spoons|coins|roses|nails"
    ),
    "reason": (
        "nobody had told them|the road was closed|it cost too much|the door was locked|everyone agreed|"
        "there was no other choice|the letter never arrived|the machine made a terrible noise|"
        "time was short|they hoped for better weather|it seemed the right thing to do|"
        "the children were hungry"
    ),
    "feeling": ("happy|ashamed|surprised|worried|proud|bored|thankful|angry|curious|puzzled|hopeful|calm"),
}
TEMPLATES = (
    "{person} {did} {thing} {place}",
    "{time}, {person} {went} {place}",
    "{person} {went} because {reason}",
    "when {weather}, {person} {did} {thing}",
    "{creature} {went} {place} while {weather}",
    "it was {quality}, and {person} {did} it {time}",
    "{person} counted {number} {goods} and {did} {thing}",
    "why was {person} so {feeling} when {weather}?",
    "there were {number} {goods} {place}, but {person} {did} only one",
    "although {reason}, {person} {did} {thing} {time}",
    "{thing} was {quality}, so {person} {went}",
    "did {person} ever see {creature} {place}?",
    "{person} said that {thing} {place} was {quality}",
    "please bring {number} {goods} and {thing} {time}",
    "{time} {weather}, and {creature} {went}",
    "no one was as {feeling} as {person} {place}",
    "first {person} {went}, then {person} {did} {creature}",
    "if {reason}, {person} would be {feeling}",
)
_LISTS = {slot: words.split("|") for slot, words in WORDS.items()}
_SLOT = re.compile(r"\{(\w+)\}")


def sentence(rng: np.random.Generator) -> str:
    """One sentence with a capital and its final mark, drawn from the grammar."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]

    def pick(match: re.Match[str]) -> str:
        choices = _LISTS[match[1]]
        return choices[rng.integers(len(choices))]

    text = _SLOT.sub(pick, template)
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def paragraph(rng: np.random.Generator, num_characters: int) -> str:
    """Sentences in a row, as many as come nearest to `num_characters`; at least one."""
    text = sentence(rng)
    while True:
        longer = f"{text} {sentence(rng)}"
        if len(longer) - num_characters > num_characters - len(text):
            return text
        text = longer


def transcript(text: str) -> str:
    """The text as LibriSpeech writes it: capitals, spaces and apostrophes only."""
    return " ".join(re.sub(r"[^A-Z' ]", " ", text.upper()).split())
