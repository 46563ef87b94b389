"""Attacks: wrong inputs made from the declarations, kills, full disks. They report counts, and what failed with the command to repeat it."""
