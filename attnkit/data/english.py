"""A small English: sentences in which the verb must agree with a subject that may be many words away.

>>> grammar = small_english()
>>> grammar.sentences(1, seed=2)[0].text
'many clever judges like the cats .'
"""

from __future__ import annotations

from attnkit.data.grammar import Grammar, Rule

# Some words are nouns and verbs: "watches" is several watches, or what somebody does. The place tells which.
NOUNS = {
    "one": ["dog", "cat", "bird", "king", "queen", "child", "teacher", "judge", "guard", "watch", "duck", "river"],
    "many": [
        *("dogs", "cats", "birds", "kings", "queens", "children", "teachers", "judges", "guards"),
        *("watches", "ducks", "rivers"),
    ],
}
TRANSITIVE = {
    "one": ["sees", "hears", "likes", "follows", "judges", "guards", "watches"],
    "many": ["see", "hear", "like", "follow", "judge", "guard", "watch"],
}
INTRANSITIVE = {
    "one": ["sleeps", "sings", "laughs", "runs", "ducks", "waits"],
    "many": ["sleep", "sing", "laugh", "run", "duck", "wait"],
}
DETERMINERS = {"one": ["the", "a", "this", "every"], "many": ["the", "some", "these", "many"]}
ADJECTIVES = ["big", "small", "red", "happy", "clever", "quiet"]
PREPOSITIONS = ["near", "behind", "with", "under"]


def small_english() -> Grammar:
    """61 different words, infinitely many sentences, each with one derivation.

    A sentence has 8.35 words on average, the full stop included, and 2.26 nats of entropy a word.

    Between a subject and its verb may stand "near the rivers", "that the cats like" or "that sees some dogs": nouns of
    the other number, at any distance. A model that looks at the last few words only is wrong there. Some words can be
    noun or verb, so that tagging needs the context too.

    >>> grammar = small_english()
    >>> after = grammar.next_word("the dogs near a cat".split())
    >>> after["sleep"] > 0.01, "sleeps" in after
    (True, False)
    """
    rules: dict[str, list[Rule]] = {
        "S": [(0.5, ("NP_one", "VP_one", "END")), (0.5, ("NP_many", "VP_many", "END"))],
        "END": [(1.0, (".",))],
        "PP": [(0.5, ("ADP", "NP_one")), (0.5, ("ADP", "NP_many"))],
        "ADJ": _even(ADJECTIVES),
        "ADP": _even(PREPOSITIONS),
        "PRON": [(1.0, ("that",))],
    }
    for number in ("one", "many"):
        rules |= {
            f"NP_{number}": [
                (0.45, (f"DET_{number}", f"NOUN_{number}")),
                (0.2, (f"DET_{number}", "ADJ", f"NOUN_{number}")),
                (0.2, (f"DET_{number}", f"NOUN_{number}", "PP")),
                (0.15, (f"DET_{number}", f"NOUN_{number}", f"REL_{number}")),
            ],
            f"REL_{number}": [  # "the dog that sees a cat", "the dog that the cats see"
                (0.5, ("PRON", f"VP_{number}")),
                (0.25, ("PRON", "NP_one", "VERB_one_transitive")),
                (0.25, ("PRON", "NP_many", "VERB_many_transitive")),
            ],
            f"VP_{number}": [
                (0.4, (f"VERB_{number}_intransitive",)),
                (0.3, (f"VERB_{number}_transitive", "NP_one")),
                (0.3, (f"VERB_{number}_transitive", "NP_many")),
            ],
            f"DET_{number}": _even(DETERMINERS[number]),
            f"NOUN_{number}": _even(NOUNS[number]),
            f"VERB_{number}_transitive": _even(TRANSITIVE[number]),
            f"VERB_{number}_intransitive": _even(INTRANSITIVE[number]),
        }
    return Grammar(rules)


def _even(words: list[str]) -> list[Rule]:
    return [(1 / len(words), (word,)) for word in words]
