"""How the pages are built: `make docs`, without a network."""

import sys
from pathlib import Path

import mura_skorch

sys.path.append(str(Path(__file__).parent / "_extensions"))

project = "mura_skorch"
author = "The mura_skorch developers"
copyright = f"2026, {author}"
version = release = mura_skorch.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # its role "autolink" is the default role
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "one_home",
]
exclude_patterns = ["_build", "pictures", "tutorial", "gallery/index.rst", "sg_execution_times.rst"]
html_theme = "furo"
myst_enable_extensions = ["dollarmath"]
html_static_path = ["_static"]
html_title = f"mura_skorch {version}"
html_copy_source = False
html_math_renderer = "mathml"

# A link to nowhere is a warning, and warnings fail the build. There is no intersphinx, whose
# inventories come over the network: names of other packages stay plain.
nitpicky = True
default_role = "autolink"  # `fit` is a link where there is a fit, and else in italics

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have types and shapes
numpydoc_show_class_members = False  # autodoc lists them
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "tutorial",
    "gallery_dirs": "gallery",
    "image_scrapers": ("matplotlib", "figures.last_figure"),
    "capture_repr": ("_repr_html_",),
    "ignore_repr_types": r"matplotlib|<class 'mura_skorch",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "doc_module": ("mura_skorch",),
    "backreferences_dir": None,
    "plot_gallery": True,
}
