"""Benchmarks: each prints JSON lines, which compare ours with peers and limits measured in the same run."""
