"""The same numbers sooner: without this package, with `net(X)` in its place, only rounding and time would change."""
