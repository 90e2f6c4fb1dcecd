"""attnkit: reference implementations of attention, for the book, the labs and the autograder."""

__version__ = "0.1.0"
