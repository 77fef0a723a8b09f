"""Strand hair: styles, roots, guides, strands and their colours."""
