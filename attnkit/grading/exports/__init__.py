"""Grades for other systems: CSV for people, and the gradebook files that Canvas and Moodle import.

Equal ledgers give equal bytes: no times, no machine, and the order of the students' ids.
"""
