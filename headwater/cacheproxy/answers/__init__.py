"""How a request comes by its answer, and how that is sent."""
