"""The tasks of a video on a cluster: their order, their turns, their tries."""
