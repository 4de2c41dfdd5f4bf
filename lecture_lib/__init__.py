"""Companion package of the lecture "Designing efficient and modular neural networks".

One equation carries the whole package:

    y = Σ_k z_k · f_k(x)        z = choice(g(x)),  z on the simplex of k choices

`choice` holds the ways to choose, `estimators` how a gradient passes the choice, `mixture` the sum itself,
dense and sparse.
"""

from lecture_lib import choice, cost, estimators, mixture

__all__ = ["choice", "cost", "estimators", "mixture"]
