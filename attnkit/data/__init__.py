"""Data that is made, not downloaded: small corpora from a seed, split by hash, and tokenizers to read them with.

split         which items are held out; pairs: what translation corpora share
number_names  numbers in words, in 13 languages; dates: days in 27 locales
grammar       sentences with known probability and parts of speech; english: one such grammar
toy           copy, reverse, sort, recall: sequences of symbols
tokenizers    words, characters, byte pairs behind one protocol; byte_pair: the last one to read

Number names, dates and byte pairs need `pip install "attnkit[models]"`.
"""

from attnkit.data.byte_pair import BytePair
from attnkit.data.dates import Dates, date_text
from attnkit.data.english import small_english
from attnkit.data.grammar import Grammar, Sentence
from attnkit.data.number_names import NumberNames, number_name
from attnkit.data.pairs import Pair, Pairs
from attnkit.data.split import Split, held_out
from attnkit.data.tokenizers import BytePairTokenizer, CharTokenizer, Tokenizer, WordTokenizer, pieces
from attnkit.data.toy import Examples, copy, recall, reverse, sort

__all__ = [
    "BytePair",
    "BytePairTokenizer",
    "CharTokenizer",
    "Dates",
    "Examples",
    "Grammar",
    "NumberNames",
    "Pair",
    "Pairs",
    "Sentence",
    "Split",
    "Tokenizer",
    "WordTokenizer",
    "copy",
    "date_text",
    "held_out",
    "number_name",
    "pieces",
    "recall",
    "reverse",
    "small_english",
    "sort",
]
