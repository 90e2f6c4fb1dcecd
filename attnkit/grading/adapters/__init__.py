"""At home elsewhere: our engine inside nbgrader and Gradescope, our grades in nbgrader's gradebook."""
