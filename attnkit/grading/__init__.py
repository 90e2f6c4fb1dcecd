"""What an instructor runs: intake, jail, worker, protocol, ledger, reports. `attnkit grade` is its front door.

Two sides. The **trusted** side (everything here but `worker.py` and `wire.py`) holds questions, references, inputs
and scores, and runs no student code. The **worker** runs student code inside a jail and can only answer with arrays.
"""

# Part of the ledger's key: raise it when the same submission may be graded differently than before.
ENGINE_VERSION = "1"
