"""What a notebook answers: found in the sources of its cells, which are read as a tree and never run.

The grader reads a notebook by this, and the student's `lab.submit()` looks at it beforehand by the same.
"""
