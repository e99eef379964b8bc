"""Links to an object by any of its names: each is described once, and imported from several places.

`mura_skorch.metrics.study_scores` is described as `mura_skorch.study_scores`.
"""

import importlib


def setup(app):
    """Help where Sphinx finds no target."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def resolve(app, env, node, contnode):
    """Return the link to an object of this package under the name that describes it."""
    if node.get("refdomain") != "py":
        return None
    domain, name = env.domains["py"], node["reftarget"]
    item = lookup(name) or lookup(f"{node.get('py:module')}.{name}")
    home = item and next(
        (
            other
            for other in domain.objects
            if other.rpartition(".")[2] == name.rpartition(".")[2] and lookup(other) is item
        ),
        None,
    )
    if home:
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, contnode)
    # Text in backticks that happens to be a name, of a column or of another package's class.
    is_ours = name.startswith("mura_skorch.")
    return contnode if node["reftype"] == "obj" and not is_ours else None


def lookup(name):
    """Return a public object of one of our modules, or None."""
    room, _, rest = name.rpartition(".")
    if not room.startswith("mura_skorch"):
        return None
    try:
        return getattr(importlib.import_module(room), rest, None)
    except ImportError:
        return None
