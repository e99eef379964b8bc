"""Formulas as MathML, which browsers draw themselves: MathJax would come over the network."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def setup(app):
    """Add the renderer that `html_math_renderer` names."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer, node):
    """Write a formula within a line."""
    writer.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def block(writer, node):
    """Write a formula on a line of its own."""
    formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div style="overflow-x: auto; padding: 0.7em 0">{formula}</div>')
    raise nodes.SkipNode
