"""Fetching before anybody asks: on control's order, or on what a player will want next."""
