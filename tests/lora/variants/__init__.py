"""Starts, DoRA and ranks by pattern beside their papers, PEFT and LyCORIS."""
