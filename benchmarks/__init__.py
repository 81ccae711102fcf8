"""One script a question; results in benchmarks/results/ as JSON."""
