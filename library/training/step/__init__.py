"""One update: noise, prediction, loss, guard and what can interrupt it."""
