"""Companion package of the lecture "Designing efficient and modular neural networks".

One equation carries the whole package:

    y = Σ_k z_k · f_k(x)        z = choice(score(x)),  z on the simplex of K options

`choice` holds the ways to choose, `estimators` how a gradient passes the choice, `mixture` the sum itself,
dense and sparse.
"""

from lecture_lib import choice, cost, estimators, mixture

__all__ = ["choice", "cost", "estimators", "mixture"]
