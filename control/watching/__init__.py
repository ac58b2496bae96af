"""How the nodes are: health, vantages, traffic and load, asked over HTTP and judged by pure rules."""
