"""How people say what is written: canonical phones to the sounds of one speaker on one occasion.

A model that has heard every letter said as the book has it takes a real speaker's r for another letter than ற. Here
the transcript keeps its canonical phones while the sounds that are synthesised stray from them, as far as a degree that is
drawn once an utterance: mergers that most speakers have (ற and ர, ழ and ள, aspirates), lenition (ப as v between vowels), glides
before initial vowels, reduced and lost short vowels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Stands for a pause in a list of sounds.
PAUSE = "_"

VOWELS = frozenset(("a", "aa", "i", "ii", "u", "uu", "e", "ee", "o", "oo", "eu", "ae", "ai", "au"))

# Language (t, k or both), left, phone, right, what is said (0: nothing; + joins), how often at the full degree. A context is V
# (vowel), C (consonant), # (edge of a word) or * (anything).
_TABLE = """
t  * rx * r .7      t  * tq * tt .25    t  * dq * d .4      t  * dq * dx .2     t  * dq * 0 .15
t  * nx * n .3      t  * nnx * nn .4    t  * lx * l .3      t  * llx * ll .35   t  * zx * lx .4
t  * zx * r .05     t  V b V v .4       t  V g V h .35      t  V g V 0 .05      t  # s V c .2
t  V s V c .12      t  * ai # e .35     t  C ai C a .2      t  C ai C e .1      t  V y V 0 .2
t  C eu # 0 .12     t  V m # 0 .05      t  * jj * c .1      t  * nny * ny .2
k  * kh * k .5      k  * gh * g .5      k  * txh * tx .5    k  * dxh * dx .5    k  * th * t .5
k  * dh * d .5      k  * ph * p .35     k  * ph * f .3      k  * bh * b .5      k  * ch * c .5
k  * jh * j .6      k  * sx * sh .7     k  * ssx * ssh .7   k  * sh * s .2      k  * sh * sx .15
k  * nx * n .25     k  * nnx * nn .3    k  * lx * l .25     k  * llx * ll .3    k  * h V 0 .12
k  V y V 0 .08      k  C u # eu .3      k  C e # i .08      k  C e # a .06      k  * z * j .5
tk * ae * ee .3     tk * ae * aa .2     tk * f * p .2
tk # e * y+e .4     tk # ee * y+ee .3   tk # o * v+o .35    tk # oo * v+oo .25  tk # i * y+i .15
tk # ii * y+ii .12  tk # u * v+u .12
tk C u C eu .2      tk C u C 0 .06      tk C u C o .05      tk C i C eu .06     tk C i C 0 .05
tk C i C e .07      tk C a C eu .12     tk C a C e .06      tk C a C o .03      tk C e C i .08
tk C e C a .05      tk C o C u .08      tk * uu * u .12     tk * uu * oo .08    tk * oo * uu .05
tk * aa * a .1      tk * ii * i .1      tk * ee * e .1      tk * oo * o .1      tk * ee * ii .04
"""


@dataclass(frozen=True)
class _Habit:
    left: str
    right: str
    said: tuple[str, ...]
    often: float

    def fits(self, before: str, after: str) -> bool:
        return _is(before, self.left) and _is(after, self.right)


def _is(neighbour: str, context: str) -> bool:
    if context in ("*", neighbour):
        return True
    if neighbour == "#":
        return False
    return context == ("V" if neighbour in VOWELS else "C")


def _habits() -> dict[tuple[str, str], list[_Habit]]:
    cells = _TABLE.split()
    habits: dict[tuple[str, str], list[_Habit]] = {}
    for languages, left, phone, right, said, often in zip(*(iter(cells),) * 6):
        sounds = () if said == "0" else tuple(said.split("+"))
        for language in ("ta", "kn"):
            if language[0] in languages:
                habit = _Habit(left, right, sounds, float(often))
                habits.setdefault((language, phone), []).append(habit)
    return habits


_HABITS = _habits()


def say(
    words: Sequence[Sequence[str]],
    language: str,
    rng: random.Random,
    degree: float,
    pauses: float = 0.0,
) -> list[str]:
    """Words of canonical phones -> sounds, as phones too, `PAUSE` among them.

    `degree`, 0 to 1, is how far the speaker strays; `pauses` is how often one stands between words.
    """
    sounds: list[str] = []
    for number, word in enumerate(words):
        if number and rng.random() < pauses:
            sounds.append(PAUSE)
        for place, phone in enumerate(word):
            before = word[place - 1] if place else "#"
            after = word[place + 1] if place + 1 < len(word) else "#"
            chance = rng.random()
            said: tuple[str, ...] = (phone,)
            for habit in _HABITS.get((language, phone), ()):
                if habit.fits(before, after):
                    chance -= habit.often * degree
                    if chance < 0:
                        said = habit.said
                        break
            sounds += said
    return sounds
