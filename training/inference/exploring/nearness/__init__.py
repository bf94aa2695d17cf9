"""Slices that sound alike: neighbours and the map, computed when they are first asked for."""
