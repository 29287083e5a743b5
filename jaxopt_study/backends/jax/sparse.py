"""A sparse Hessian by coloured Hessian-vector products, with the package asdex.

Columns that share no row have one colour, and one product gives them all. asdex finds in the program which entries can
be other than zero, and colours them; so the result holds at any parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxopt_study.backends.jax.validation import checked

__all__ = ["hessian_sparse"]

Params = Any


def hessian_sparse(loss: Callable[[Params, Any], jax.Array]) -> Callable[[Params, Any], Any]:
    """Return the Hessian as a sparse matrix, by one product for each colour (Gebremedhin, Manne, Pothen, 2005).

    Args:
        loss: Any function (params, batch) -> scalar. Colouring takes much longer than a product; it is done once for
            arguments of the same shapes.

    Returns:
        The function (params, batch) -> matrix, a `jax.experimental.sparse.BCOO`. Its method `colours` of the same
        arguments returns how many products it takes.

    Raises:
        NotImplementedError: The package asdex is not installed.
    """
    if find_spec("asdex") is None:
        raise NotImplementedError("a sparse Hessian needs the package asdex: pip install 'jaxopt_study[sparse]'")
    import asdex  # an extra, which loads Numba

    known: dict[Any, tuple[Any, Callable[..., Any]]] = {}

    def coloured(params: Params, batch: Any) -> tuple[Any, Callable[..., Any]]:
        """Return the colouring for arguments of these shapes, and the compiled Hessian."""
        leaves, structure = jax.tree.flatten(batch)
        vector, unravel = ravel_pytree(params)
        shapes = (jax.tree.structure((params, batch)), *map(jax.typeof, jax.tree.leaves((params, batch))))
        if shapes not in known:
            types = [jax.typeof(leaf).dtype for leaf in leaves]

            def flat(vector: jax.Array, *leaves: Any) -> jax.Array:
                given = [_decoded(leaf, dtype) for leaf, dtype in zip(leaves, types, strict=True)]
                return loss(unravel(vector), jax.tree.unflatten(structure, given))

            # The batch is an argument: of arrays that a function closes over, asdex uses the values.
            colouring = asdex.hessian_coloring(
                flat, vector, *(_encoded(leaf, vector.dtype) for leaf in leaves), argnums=0
            )
            known[shapes] = colouring, jax.jit(asdex.hessian_from_coloring(flat, colouring))
        return known[shapes]

    def matrix(params: Params, batch: Any) -> Any:
        vector, _ = ravel_pytree(params)
        leaves = (_encoded(leaf, vector.dtype) for leaf in jax.tree.leaves(batch))
        return coloured(params, batch)[1](vector, *leaves)

    compute = checked(loss, matrix)
    compute.colours = lambda params, batch: coloured(params, batch)[0].num_colors  # type: ignore[attr-defined]
    return compute


def _encoded(leaf: Any, dtype: Any) -> jax.Array:
    """Return the numbers, or their bits, in the parameters' type, in which asdex takes tangents of all arguments."""
    leaf = jnp.asarray(leaf)
    if leaf.dtype == dtype:
        return leaf
    # Every number of a smaller type is exact in it.
    return leaf.astype(dtype) if leaf.dtype.itemsize < dtype.itemsize else jax.lax.bitcast_convert_type(leaf, dtype)


def _decoded(leaf: jax.Array, dtype: Any) -> jax.Array:
    """Return what `_encoded` was given."""
    if leaf.dtype == dtype:
        return leaf
    return leaf.astype(dtype) if dtype.itemsize < leaf.dtype.itemsize else jax.lax.bitcast_convert_type(leaf, dtype)
