"""Attention on a GPU: ours beside PyTorch's, checked before it is timed, in one process; testable without one."""
