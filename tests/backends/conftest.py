"""What the tests of all backends share."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def flex_meets_no_annotations(request: pytest.FixtureRequest) -> Iterator[None]:
    """FlexAttention traces our masks' rules, and cannot follow the checks of annotations that tests wrap them in."""
    case = getattr(request.node, "callspec", None)
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", before or (case is not None and case.params.get("backend") == "flex"))
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
