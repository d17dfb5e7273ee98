"""How it is shown: tables, sentences, drawings, panels, pages. Without this package no number would change."""
