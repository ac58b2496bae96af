"""How a video is cut and encoded: ladder, plan, ranges, sound, stills."""
