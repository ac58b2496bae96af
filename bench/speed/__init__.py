"""`make bench`: our edge beside other caches, on the same bytes, in one run, one core for the server and one for the load."""
