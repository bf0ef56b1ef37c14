"""An error model with random numbers, for tests that need any."""

import numpy as np

from d2csr.core.bundle import ErrorModelFacts
from d2csr.core.error_model import FEATURES, PRODUCTS, ErrorModel

FACTS = ErrorModelFacts(
    data="noise", images=4, left_out="images", spearman={"uncertainty": 0.8, "gradient": 0.7}
)


def random_error_model() -> ErrorModel:
    """Return an error model whose levels differ from place to place; the same each time."""
    generator = np.random.default_rng(0)
    count = len(FEATURES)
    coefficients = generator.normal(0.02, 0.02, 1 + count + len(PRODUCTS))
    return ErrorModel(
        features=FEATURES,
        mean=tuple(generator.normal(4.2, 0.3, count).tolist()),
        deviation=tuple(generator.uniform(1, 2, count).tolist()),
        coefficients=tuple(coefficients.tolist()),
        knots=(0.1, 1.0, 60.0),
        levels=(0.5, 2.0, 30.0),
    )
