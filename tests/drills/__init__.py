"""Long campaigns, one a module: `python -m tests.drills NAME`. `make test` runs small samples of them."""
