"""Shared helpers: texts, paths, files, progress, identity of patients and files."""
