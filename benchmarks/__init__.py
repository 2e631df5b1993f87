"""Benchmarks: each prints one JSON line, peers and limits beside ours in one run."""
