"""One update: noise, prediction, loss, the checks for finite numbers, and requests that interrupt it."""
