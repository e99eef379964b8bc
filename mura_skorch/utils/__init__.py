"""Helpers that know nothing of studies: texts, paths, files, progress, identity."""
