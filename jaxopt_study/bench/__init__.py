"""Measuring: cases, tasks, the clock, worker processes, records, statistics. It knows no framework and no study."""
