"""Figures of the tutorial that pyplot does not know of, as those of our Displays."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def last_figure(block, block_vars, gallery_conf):
    """Save the figure in the last line of a block, which a notebook would show."""
    names = block_vars["example_globals"]
    figure = names.get("___")
    if not isinstance(figure, Figure):
        return ""
    names["___"] = None  # or it would stand below the next block, too
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=100)
    return figure_rst([path], gallery_conf["src_dir"])
