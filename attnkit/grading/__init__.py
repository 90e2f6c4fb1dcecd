"""What an instructor runs: intake, jail, worker, protocol, ledger, reports. `attnkit grade` is its front door.

Two sides. The **worker** (`jail.worker_files()` names its files) runs student code inside a jail and can only answer
with arrays. The **trusted** side, everything else, holds questions, references, inputs and scores, and runs no student
code.
"""

# Part of the ledger's key: raise it when the same submission may be graded differently than before.
ENGINE_VERSION = "3"
