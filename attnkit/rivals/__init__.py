"""What attention is compared with: recurrent and convolutional sequence models behind one interface, at equal budgets.

cores    Recurrent (RNN, GRU, LSTM), Convolutional, Attentive; Remembering adds additive attention to any of them
model    SequenceModel: embedding -> core -> logits at each token
budget   parameters and FLOPs counted, sizes found that meet a budget, and unequal contests refused
"""

from attnkit.rivals.budget import Budget, UnequalBudgets, count, equal, flops, match, parameters
from attnkit.rivals.cores import Attentive, Convolutional, Core, Recurrent, Remembering
from attnkit.rivals.model import SequenceModel

__all__ = [
    "Attentive",
    "Budget",
    "Convolutional",
    "Core",
    "Recurrent",
    "Remembering",
    "SequenceModel",
    "UnequalBudgets",
    "count",
    "equal",
    "flops",
    "match",
    "parameters",
]
