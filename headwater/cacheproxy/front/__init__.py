"""Where clients come in: listeners, limits, the HTTP server, the fast lane, the access log."""
