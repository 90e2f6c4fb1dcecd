"""Packing loses no token and no prediction, keeps documents whole, and attends as to each document alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnkit import attention
from attnkit.masks import Causal, Document
from attnkit.training import pack

DOCUMENTS = st.lists(st.lists(st.integers(1, 99), max_size=12), max_size=8)


@given(DOCUMENTS, st.integers(1, 9))
def test_no_token_and_no_prediction_is_lost(documents: list[list[int]], length: int) -> None:
    packed = pack(documents, length)
    real = packed.documents >= 0
    assert sorted(packed.ids[real].tolist()) == sorted(token for document in documents for token in document)
    pairs = [(int(a), int(b)) for a, b in zip(packed.ids[real], packed.targets[real], strict=True) if b != -100]
    assert sorted(pairs) == sorted(pair for document in documents for pair in pairwise(document))
    for empty, value in ((packed.ids, 0), (packed.targets, -100), (packed.positions, 0)):
        assert bool((empty[~real] == value).all())


@given(DOCUMENTS, st.integers(1, 9))
def test_a_document_that_fits_lies_whole_and_in_order(documents: list[list[int]], length: int) -> None:
    packed = pack(documents, length)
    pieces = [d[start : start + length] for d in documents for start in range(0, len(d), length)]
    for number, piece in enumerate(pieces):
        rows, columns = (packed.documents == number).nonzero(as_tuple=True)
        assert len(set(rows.tolist())) == 1
        assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + len(piece)))
        assert packed.ids[rows, columns].tolist() == piece
        assert packed.positions[rows, columns].tolist() == list(range(len(piece)))


def test_packing_is_tight() -> None:
    generator = torch.Generator().manual_seed(0)
    documents = [[1] * int(n) for n in torch.randint(1, 60, (400,), generator=generator)]
    packed = pack(documents, 128)
    assert float((packed.documents < 0).float().mean()) < 0.02


def test_attention_over_packed_documents_is_attention_over_each_alone() -> None:
    documents = [[1, 2, 3], [4, 5, 6, 7], [8], [9, 10]]
    packed = pack(documents, 6)
    table = torch.randn(11, 3, 2, 8, dtype=torch.float64)  # of query, key and value, with 2 heads
    query, key, value = (table[packed.ids, i].transpose(1, 2) for i in range(3))
    out = attention(query, key, value, mask=Document(packed.documents) & Causal())
    for number, document in enumerate(documents):
        row, columns = (packed.documents == number).nonzero(as_tuple=True)
        q, k, v = (table[torch.tensor([document]), i].transpose(1, 2) for i in range(3))
        alone = attention(q, k, v, mask=Causal())[0]
        assert (out[int(row[0])][:, columns] - alone).abs().max() < 1e-14


def test_the_last_target_of_a_piece_is_the_first_token_of_the_next() -> None:
    packed = pack([[1, 2, 3, 4, 5]], 3)
    assert packed.ids.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert packed.targets.tolist() == [[2, 3, 4], [5, -100, -100]]
    assert packed.documents.tolist() == [[0, 0, 0], [1, 1, -1]]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="length is 0"):
        pack([[1]], 0)
    with pytest.raises(ValueError, match="documents must hold lists of integers"):
        pack([[[1, 2]]], 4)
