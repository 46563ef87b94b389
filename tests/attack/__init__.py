"""Attacks: wrong inputs made from the declarations, kills, full disks. They report counts, and how to repeat what failed."""
