"""The choice of a model: by name, or by scale among those that ship."""

from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.errors import ModelNameError, UsageError
from d2csr.engine.shipped import resolve, shipped_bundles


def choose_bundle(name: str | None, scale: int | None) -> Bundle:
    """Return the bundle to enlarge with.

    Args:
        name: a shipped model, or the folder of a bundle or a run; None: one that ships.
        scale: what it must enlarge by; without a name, the smallest shipped model that does.

    Raises:
        ModelNameError: no model of that name, or none of that scale ships.
        UsageError: name and scale contradict each other, or neither is given.
    """
    if name is not None:
        bundle = read_bundle(resolve(name))
        if scale not in {None, bundle.card.scale}:
            problem = f"enlarges {bundle.card.scale} times, not {scale}"
            raise UsageError(name, problem, remedy="Leave -s out, or choose another model.")
        return bundle
    shipped = shipped_bundles()
    ships = ", ".join(f"{each.card.name} (x{each.card.scale})" for each in shipped) or "none"
    if scale is None:
        raise UsageError("model", "none is named", remedy=f"Add -n NAME. Shipped: {ships}.")
    fitting = [each for each in shipped if each.card.scale == scale]
    if not fitting:
        remedy = f"Shipped: {ships}. Or name a bundle with -n."
        raise ModelNameError(f"x{scale}", "no shipped model enlarges so", remedy=remedy)
    return min(fitting, key=lambda each: each.card.parameters)
