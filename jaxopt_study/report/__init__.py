"""Showing records to people: tables, charts, one page. It reads records only, so that a report can be drawn again."""
