"""What a student imports: `Lab("attention").check(softmax)`, with feedback that explains."""
